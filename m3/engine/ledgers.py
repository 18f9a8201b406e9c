"""The ledgers of a run's frontends, as the checkpoints of the run need them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from m3._parking import Gate, Switch
from m3._tokens import Ledger
from m3.engine.answers import MOST_UNANSWERED
from m3.engine.books import Books, outcomes_of
from m3.engine.delivery import is_told, resumes
from m3.engine.workers import Worker

__all__ = ("Ledgers", "Member", "Reached")


class Member(NamedTuple):
    """A stage's instance in one worker."""

    key: str
    worker: Worker
    instance: Any


class Reached(NamedTuple):
    """How far the frontends are, each as it wants it, and how the items up to there have ended."""

    sources: dict[str, Any]
    ended: dict[str, int]


class Ledgers:
    """
    Gives each frontend a ledger, and tells how far all of them have come.

    A run may be given up, in any thread, while its checkpoints are made in another.

    Args:
        books: counts where no mark is kept.
        hurry: called when a frontend may soon have to wait for a checkpoint.
        aborting: how items end while it is on does not count.
    """

    def __init__(self, books: Books, *, hurry: Callable[[], object], aborting: Switch) -> None:
        self._books = books
        self._hurry = hurry
        self._aborting = aborting
        self._lock = threading.RLock()  # a signal handler may give the run up
        self._is_held = False
        self._all: list[Ledger] = []
        self._resuming: list[tuple[Member, Ledger]] = []

    def open(self, frontends: Sequence[Member], *, gate: Gate | None, is_kept: bool) -> None:
        """
        Begin the ledgers.

        Args:
            frontends: those of the run, set up.
            gate: where they are held until nothing is in flight, so that the position
                is that of the last item that was let through; None if it is to be
                the lowest one below which everything is done.
            is_kept: whether there is a state for positions.
        """
        self._is_held = gate is not None
        for each in frontends:
            is_resumable = is_kept and resumes(each.instance)
            ledger = Ledger(
                MOST_UNANSWERED,
                answering=is_told(each.instance),
                marking=is_resumable and gate is None,
                needs_positions=is_resumable,
                gate=gate,
                aborting=self._aborting,
            )
            ledger.hurry = self._hurry
            each.worker.work.ledger = ledger
            self._all.append(ledger)
            if is_resumable:
                self._resuming.append((each, ledger))

    def are_crowded(self) -> bool:
        """Return whether a frontend may soon have to wait for a checkpoint."""
        return any(ledger.is_crowded for ledger in self._all)

    def advance(self) -> bool:
        """Move the marks over all that is done; return whether one has moved."""
        with self._lock:
            return sum(ledger.advance() for ledger in self._all) > 0

    def reached(self, last: Mapping[str, Any]) -> Reached:
        """
        Return how far all have come.

        Args:
            last: the positions that an earlier checkpoint has.
        """
        return Reached(self._positions(last), self._ended())

    def _positions(self, last: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for (key, _, frontend), ledger in self._resuming:
            position = ledger.last if self._is_held else ledger.low_mark
            if position is None:
                found[key] = last.get(key)
            elif callable(getattr(frontend, "checkpoint", None)):
                found[key] = frontend.checkpoint(position)
            else:
                found[key] = position
        return found

    def _ended(self) -> dict[str, int]:
        below = [ledger.below for ledger in self._all if ledger.below is not None]
        if len(below) < len(self._all):  # all are at the gate, or some keep no mark
            return self._books.ended()
        return outcomes_of(below)

    def release(self) -> None:
        """Take note that the positions are kept: what is up to them may be answered."""
        with self._lock:
            for ledger in self._all:
                ledger.release()

    def answer_rest(self) -> None:
        """Have the frontends told about what is done and beyond the last checkpoint."""
        with self._lock:
            for ledger in self._all:
                ledger.answer_rest()
