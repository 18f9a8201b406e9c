"""
Files that would be read and written at once.

A frontend says which files it reads, as long as it may; who is about to write to
a file in place asks.  In a run that keeps state all frontends are set up before
the first backend goes back to its mark, so that nothing is emptied before.
"""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from m3.connectors._paths import FilePath
from m3.errors import StateError

__all__ = ("Inputs", "Reading")

_lock = threading.Lock()
_readings: WeakSet["Reading"] = WeakSet()


class Reading:
    """
    Which files one frontend reads.

    Attributes:
        follows: whether it waits for what others write to them.
        files: the device and the number of each.
    """

    def __init__(self) -> None:
        self.follows = False
        self.files: set[tuple[int, int]] = set()

    def begin(self, files: Iterable[FilePath], *, follows: bool = False) -> None:
        """Say that *files* are read, those of them that are there."""
        self.follows, self.files = follows, set()
        for file in files:
            with suppress(OSError):
                status = Path(file).stat()
                self.files.add((status.st_dev, status.st_ino))
        with _lock:
            _readings.add(self)

    def end(self) -> None:
        """Say that they are read no more."""
        with _lock:
            _readings.discard(self)


class Inputs:
    """The files that are read in this process at the moment at which this is made."""

    def __init__(self) -> None:
        with _lock:
            self._all = [(reading.files, reading.follows) for reading in _readings]

    def refuse(self, name: str, descriptor: int, *, emptying: bool) -> None:
        """
        Refuse to write in place to one of them.

        One that is followed is only refused if something in it would be lost.

        Args:
            name: of the file to be written to, for errors.
            descriptor: of that file.
            emptying: whether all that is in it is to be removed first.

        Raises:
            StateError: it is read.
        """
        status = os.fstat(descriptor)
        identity, loses = (status.st_dev, status.st_ino), emptying and status.st_size > 0
        if any(identity in files and (loses or not follows) for files, follows in self._all):
            raise StateError(
                f"{name} is one of the files that are read, and a run with state writes to its "
                f"output in place: it would {'be emptied' if loses else 'read its own output'}; "
                "write to a file that is not read, or keep no state: then the output is put in "
                "place at the end"
            )
