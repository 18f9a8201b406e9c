"""Which files were begun lately, kept for a run that goes back to before that."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress

from m3.connectors._output.sinks import write_all
from m3.connectors._output.tree import Names, Tree

__all__ = ("Begun",)

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Begun:
    """
    A note of each file that was begun since the last commit but one.

    A file that no checkpoint knows is to be removed when the run goes on, for
    its items come again, and perhaps into another one.  There are two files for
    the notes, below the root, used in turn: with each commit, those before the
    last one are dropped, as a checkpoint has these files then.

    Args:
        tree: below which the files are.
        key: tells the notes of one state from those of others.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        self.key = key
        self._tree = tree
        self._turn = 0
        self._descriptor: int | None = None

    def note(self, names: Names) -> None:
        """Note, durably, that the file is about to be begun."""
        if self._descriptor is None:
            self._descriptor = os.open(self._name(), FLAGS, 0o666, dir_fd=self._tree.root)
            os.fsync(self._tree.root)
        write_all(self._descriptor, json.dumps(names).encode() + b"\n")
        os.fsync(self._descriptor)

    def names(self) -> Iterator[Names]:
        """Yield what is noted, also by an earlier run."""
        for turn in (0, 1):
            with suppress(FileNotFoundError), self._tree.read(self._name(turn)) as file:
                for line in file:
                    if line.endswith(b"\n"):  # else the process died here, and began no file
                        yield tuple(json.loads(line))

    def take_turn(self) -> None:
        """Drop what was noted before the last call."""
        self.close()
        self._turn = 1 - self._turn
        self._drop(self._turn)

    def drop(self) -> None:
        """Drop all notes."""
        self.close()
        for turn in (0, 1):
            self._drop(turn)

    def close(self) -> None:
        """Release the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _drop(self, turn: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._name(turn), dir_fd=self._tree.root)

    def _name(self, turn: int | None = None) -> str:
        return f".m3-{self.key}.begun{self._turn if turn is None else turn}"
