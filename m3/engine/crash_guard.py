"""
Items that kill the process, found and put aside.

A run whose process dies does not say why.  So each run of a pipeline with
``crash_guard`` notes in the state that it has begun, and that it has ended;
after several that have not, without the mark having moved on, the next one is
*careful*: between two checkpoints there are only few items under way.  If it
dies all the same, the next one lets those through alone, and notes in the
state which it is before any stage gets it.  An item with which alone the
process has died twice becomes a dead letter instead.
"""

import logging
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from m3._threads import Held
from m3._types import Failure, Item
from m3.engine.crash_record import DEATHS_ALONE, GROUP, CrashRecord
from m3.engine.dead_letter import kept_position
from m3.engine.last_out import LEAST
from m3.engine.state import Checkpoint, StateStore, StateView
from m3.errors import CrashError, StateError, abridged

if TYPE_CHECKING:
    from m3.engine.ledgers import Member

__all__ = ("CrashGuard", "crashes_in")

logger = logging.getLogger("m3.engine")


class CrashGuard:
    """
    Notes how runs end, and lets items through carefully after several that died.

    Args:
        store: keeps the notes.
        most: after so many deaths a run is careful.
        confirm: blocks until what was settled before the call is below a
            checkpoint; returns why it is not.

    Attributes:
        is_careful: items are let through carefully, and each checkpoint waits
            until none is under way.
    """

    def __init__(
        self, store: StateStore, most: int, confirm: Callable[[], Exception | None]
    ) -> None:
        self._store = store
        self._most = most
        self._confirm = confirm
        self._record = self._kept = CrashRecord.from_plain(store.crashes)
        self._lock = threading.Lock()
        self._line = threading.Condition()
        self._tickets = self._turn = 0
        self._grouped = 0
        self._is_over = False
        self._frontends: Sequence[Member] = ()
        self.is_careful = False

    # -- what is kept

    def begin(self, base: Checkpoint, frontends: "Sequence[Member]") -> None:
        """Note that a run goes on from *base*; have *frontends* be careful if others have died."""
        self._frontends = frontends
        marks = {each.key: base.sources.get(each.key) for each in frontends}
        with self._lock:
            self._keep(self._record.begun(marks, self._most))
        self.is_careful = self._record.ahead > 0
        if not self.is_careful:
            return
        logger.warning("crash guard: %s", _beginning(self._record))
        for each in frontends:
            each.worker.work.carefully = partial(self.carefully, each.key)

    def write(self, checkpoint: Checkpoint) -> None:
        """
        Write *checkpoint*, and in the same transaction what it says about crashes.

        Raises:
            StateError, NotPlainError: as of :meth:`StateStore.write`.
        """
        with self._lock:
            record = self._record
            if checkpoint.finished:
                record = CrashRecord(marks=checkpoint.sources)
            elif record.ahead or record is not self._kept:
                record = record.at(checkpoint.sources)
            elif record.deaths and self._has_moved_on(record.marks, checkpoint.sources):
                record = CrashRecord(is_running=True, marks=checkpoint.sources)
            self._store.write(checkpoint, None if record is self._kept else record.plain())
            self._record = self._kept = record

    def _has_moved_on(self, before: dict[str, Any], now: dict[str, Any]) -> bool:
        """Return whether every shard that has let an item through is past its mark *before*."""
        ledgers = {each.key: each.worker.work.ledger for each in self._frontends}
        begun = [key for key, it in ledgers.items() if it is not None and it.has_begun]
        return bool(begun) and all(now.get(key) != before.get(key) for key in begun)

    def end(self, seconds: float | None = None) -> None:
        """
        Note that the run has ended in order; if that cannot be noted, it counts as dead.

        Waits about so many *seconds* for a write that is under way.
        """
        patience = -1.0 if seconds is None else max(seconds, LEAST)
        with Held(self._lock, patience) as is_alone, suppress(StateError):
            if is_alone and self._record.is_running:
                self._keep(self._record.ended())

    def _keep(self, record: CrashRecord) -> None:
        """Write *record*; the caller holds the lock."""
        self._store.write_crashes(record.plain())
        self._record = self._kept = record

    # -- careful mode

    def carefully(self, shard: str, things: Iterable[Any]) -> Generator[Any]:
        """
        Yield what a frontend's worker produces, as long as the run has to be careful.

        Blocks between two of them until it is the turn of *shard*, and until the
        items before are below a checkpoint.
        """
        for thing in things:
            with self._in_turn():
                is_careful = self.is_careful and not self._is_over
                yield self._let_through(shard, thing) if is_careful else thing
                if not (is_careful and self._is_to_go_on()):
                    return

    def give_up(self) -> None:
        """Let nobody wait for a turn any longer: the run is over."""
        with self._line:
            self._is_over = True
            self._line.notify_all()

    @contextmanager
    def _in_turn(self) -> Generator[None]:
        """Keep the other shards out; they come in the order in which they ask."""
        with self._line:
            ticket, self._tickets = self._tickets, self._tickets + 1
            self._line.wait_for(lambda: self._turn == ticket or self._is_over)
        try:
            yield
        finally:
            with self._line:
                self._turn += 1
                self._line.notify_all()

    def _let_through(self, shard: str, thing: Any) -> Any:
        """Note that *thing* is alone under way, if so; return it, or what it fails with."""
        if not isinstance(thing, Item | Failure):
            return thing
        position = kept_position(thing.position)
        with self._lock:
            deaths = self._record.deaths_over(shard, position)
            if deaths >= DEATHS_ALONE:
                return _put_aside(thing, deaths)
            if self._record.singly:
                self._keep(self._record.letting_through(shard, position))
        return thing

    def _is_to_go_on(self) -> bool:
        """Count the item that was let through; wait for a checkpoint if it is time for one."""
        with self._lock:
            was_alone = self._record.singly > 0
            self._record = self._record.passed()
            self._grouped += 1
        is_last = self._record.ahead == 0
        if self._grouped < GROUP and not was_alone and not is_last:
            return True
        self._grouped = 0
        is_durable = self._confirm() is None
        self.is_careful = not is_last
        return is_durable and self.is_careful


def crashes_in(view: StateView) -> CrashRecord:
    """Return what a run knows of those before it: the one that goes on, or the next one."""
    record = CrashRecord.from_plain(view.crashes)
    return record if view.user else record.begun(view.checkpoint.sources, sys.maxsize)


def _put_aside(thing: Item | Failure, deaths: int) -> Failure:
    where = abridged(thing.position)
    logger.warning(
        "crash guard: the item at %s is put aside as a dead letter: the process has died %d times "
        "while it alone was under way",
        where,
        deaths,
    )
    return Failure(CrashError(deaths), thing.value, thing.position)


def _beginning(record: CrashRecord) -> str:
    """Return why the run is careful, and how much."""
    how = "one item at a time" if record.singly else f"at most {GROUP} items at a time"
    return (
        f"the process has died {record.deaths} times in a row, without getting further; careful "
        f"now: {how} until the one that kills it is found"
    )
