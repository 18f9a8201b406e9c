"""
Where dead letters are kept: a store is a file, and each of them one record in it.

Any number of processes may read a store.  One of JSON lines has one writer at
a time; one of SQLite takes several.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from m3.engine.dead_letter import EVERY, DeadLetter, Selection
from m3.errors import StageError, StateError

__all__ = ("DeadLetters", "open_dead_letters", "read_dead_letters")


class DeadLetters(Protocol):
    """
    A store of dead letters; every method may be called by any thread.

    Attributes:
        note: what was found to be not quite in order when it was opened; or "".
    """

    note: str

    def put(
        self,
        failure: StageError,
        *,
        items: Sequence[tuple[Any, Any]],
        kind: str,
        pipeline: str,
        now: float,
    ) -> None:
        """
        Keep a letter for each item and position of *items*; durable after :meth:`commit`.

        Args:
            failure: what all of them failed with.
            items: as they were when the stage failed; what changes later is not kept.
            kind: of the stage.
            pipeline: its name.
            now: seconds since the epoch.

        Raises:
            DeadLetterError: they cannot be kept.
        """

    def belong_to(self, state: str) -> None:
        """Note with what is put from now on, unless :meth:`resume` says more, whose run it is."""

    def states(self) -> set[str]:
        """Return the folders that letters which are there now were noted with."""

    def commit(self) -> None:
        """
        Make durable what was put; does nothing if that is nothing.

        Raises:
            DeadLetterError: it cannot be kept.
        """

    def mark(self) -> Any:
        """Commit, and return what :meth:`resume` needs to come back to this point; it is plain."""

    def resume(self, mark: Any) -> None:
        """
        Remove what this run, or an earlier attempt at it, has put since *mark*.

        Letters of other runs stay, and those that were there before the first
        mark.  With None, nothing is removed.

        Raises:
            StateError: it is no mark of such a store.
        """

    def select(self, selection: Selection = EVERY) -> Iterator[DeadLetter]:
        """
        Iterate over the letters of *selection* that are there now, in the order of their numbers.

        Raises:
            StateError: the file is damaged.
        """

    def settle(self, *, gone: Collection[int] = (), changed: Iterable[DeadLetter] = ()) -> None:
        """
        Remove the letters numbered *gone*, and write *changed* over those of the same number.

        Both together or nothing, durable at the return; a *changed* one with the
        number 0 is a new letter, which no :meth:`resume` removes.

        Raises:
            DeadLetterError: it cannot be written.
        """

    def redriving(self) -> AbstractContextManager[None]:
        """
        Keep other redrives of the store out in a block, in all processes.

        Raises:
            StateError: there is another.
        """

    def hasten(self, seconds: float) -> None:
        """Wait no longer than so many *seconds* for other processes from now on."""

    def close(self) -> None:
        """
        Commit, and close the file; a second call does nothing.

        Raises:
            DeadLetterError: what was put cannot be kept.
        """


def open_dead_letters(path: str | os.PathLike[str] | DeadLetters) -> DeadLetters:
    """
    Open the store at *path* for writing, and make it if there is none.

    What is no path is a store already, and returned as it is.

    It is of JSON lines if the name ends in ``.jsonl``, else of SQLite.  Folders
    are made where they are missing; the file is for its owner only.

    Raises:
        StateError: it is no store of dead letters, is damaged, cannot be opened,
            or (JSON lines) another process writes to it.
    """
    if not isinstance(path, str | os.PathLike):
        return path
    where = Path(path)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{where.parent}: cannot be made: {error.strerror}") from error
    return _store(where, for_writing=True)


def read_dead_letters(path: str | os.PathLike[str]) -> DeadLetters:
    """
    Open the store at *path*, which must be there, to look at it, also while a run writes to it.

    Raises:
        StateError: there is none, it is damaged or cannot be opened.
    """
    where = Path(path)
    if not where.is_file():
        raise StateError(f"{where}: there is no such store of dead letters")
    return _store(where, for_writing=False)


def _store(path: Path, *, for_writing: bool) -> DeadLetters:
    if path.suffix == ".jsonl":
        from m3.engine.letters_jsonl import JsonlDeadLetters

        return JsonlDeadLetters(path, for_writing=for_writing)
    from m3.engine.letters_sqlite import SqliteDeadLetters

    return SqliteDeadLetters(path)
