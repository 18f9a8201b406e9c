"""Where a run keeps its dead letters."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3.engine.last_out import LEAST, LastOut
from m3.engine.plan import Plan
from m3.engine.validation import final_verdict
from m3.errors import DeadLetterError, StageError

if TYPE_CHECKING:
    from m3.engine.letters import DeadLetters

__all__ = ("Letterbox", "letterbox_of", "place_of")

DEFAULT_NAME = "dead-letters.db"

COMMIT_PERIOD = 0.1
"""Seconds between two commits of a run without checkpoints, where letters come fast."""


def letterbox_of(plan: Plan) -> "Letterbox | None":
    """
    Return where a run of *plan* keeps its dead letters, or None if it keeps none.

    Raises:
        DeadLetterError: the place that the plan names cannot be written to.
    """
    if plan.dead_letters is not None and not isinstance(plan.dead_letters, str | os.PathLike):
        return Letterbox(Path(), pipeline=plan.name, store=plan.dead_letters)
    path = place_of(plan)
    if path is None:
        return None
    has_state = isinstance(plan.state, str | os.PathLike)
    state = str(Path(str(plan.state)).resolve()) if has_state else None
    box = Letterbox(path, pipeline=plan.name, state=state)
    is_meant = any(final_verdict(spec) == "dead_letter" for spec in plan)
    is_meant = is_meant or plan.crash_guard is not None
    if plan.dead_letters is not None or is_meant or box.path.exists():
        box.open()
    return box


def place_of(plan: Plan) -> Path | None:
    """Return the file in which a run of *plan* keeps its dead letters, or None if there is none."""
    if isinstance(plan.dead_letters, str | os.PathLike):
        return Path(plan.dead_letters)
    if plan.dead_letters is None and isinstance(plan.state, str | os.PathLike):
        return Path(plan.state) / DEFAULT_NAME
    return None


class Letterbox:
    """
    A store of dead letters that is opened when the first one comes, and shared by all workers.

    Once it is closed nothing is put into it.

    Args:
        path: of the store.
        pipeline: the name that the letters have as theirs.
        state: the folder of the state of the run; None if it has none.
        store: the store, if it is open already.
    """

    def __init__(
        self,
        path: Path,
        *,
        pipeline: str,
        state: str | None = None,
        store: "DeadLetters | None" = None,
    ) -> None:
        self.path = path
        self.commits_itself = True
        self._pipeline = pipeline
        self._state = state
        self._store = store
        self._committed = 0.0
        self._patience: float | None = None
        self._access = LastOut(self._close)

    def open(self) -> None:
        """Open the store, if it is not."""
        with self._access.use():
            self._opened()

    def put(self, failure: StageError, items: Sequence[tuple[Any, Any]], kind: str) -> None:
        """
        Keep *items*, each with its position, of a stage of that *kind*.

        Raises:
            DeadLetterError: they cannot be kept.
        """
        with self._access.use():
            store = self._opened()
            store.put(failure, items=items, kind=kind, pipeline=self._pipeline, now=time.time())
            if self.commits_itself and time.monotonic() - self._committed >= COMMIT_PERIOD:
                store.commit()
                self._committed = time.monotonic()

    def commit(self) -> None:
        """Make durable what was put."""
        with self._access.use():
            if self._store is not None:
                self._store.commit()

    def confirm(self) -> Exception | None:
        """Make durable what was put; return why that cannot be done."""
        try:
            self.commit()
        except Exception as error:
            return error
        return None

    def mark(self) -> Any:
        """Make durable what was put, and return where the store stands; None if it is not open."""
        with self._access.use():
            return None if self._store is None else self._store.mark()

    def resume(self, mark: Any) -> None:
        """Take back what was put after :meth:`mark` had returned *mark*."""
        if mark is None and not self.path.exists():
            return
        with self._access.use():
            self._opened().resume(mark)

    def close(self, seconds: float | None = None) -> None:
        """
        Make durable what was put, and close the store; it takes about so many *seconds* at most.

        Raises:
            DeadLetterError: what was put cannot be kept, or not in time.
        """
        self._patience = seconds
        if not self._access.close(seconds):
            raise DeadLetterError(
                f"{self.path}: dead letters were still being written when the run was given up; "
                "what was not is not kept"
            )

    def _close(self) -> None:
        if self._store is not None:
            if self._patience is not None:
                self._store.hasten(max(self._patience, LEAST))
            self._store.close()
            self._store = None

    def _opened(self) -> "DeadLetters":
        from m3.engine.letters import open_dead_letters

        if self._access.is_closed:
            raise DeadLetterError(f"{self.path}: the run was given up, and the store closed")
        if self._store is None:
            self._store = open_dead_letters(self.path)
            if self._state is not None:
                self._store.belong_to(self._state)
        return self._store
