"""
Files that appear as a whole: parts in a directory, or one file.

A part is written under a name that begins with ``.m3-`` and gets its own name,
``part-00000.parquet`` and so on, when all of it is durable.  Who writes parts
into a directory has locked it, so a file called ``.m3-….tmp`` that is there
before is left from a crash and is removed.

In a run that keeps state, the parts bear a mark inside, by which they can be
told from those of others.  Which mark it is stands in the file ``.m3-writer``.
"""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from m3._durable import sync
from m3.errors import ConfigError, StateError

__all__ = ("OneFile", "Parts")

NAME = re.compile(r"part-(\d{5,})\.parquet")
WRITER = ".m3-writer"


class OneFile:
    """
    One file that appears as a whole, in place of what was there.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    def open(self) -> None:
        """
        Check that the file can be written.

        Raises:
            OSError: it cannot.
        """
        if self._path.is_dir():
            raise IsADirectoryError(f"{self._path} is a directory")
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            self._path.parent.stat()
            raise PermissionError(f"no file can be made in {self._path.parent}")

    def temporary(self) -> Path:
        """Return a name to write under."""
        return self._path.with_name(f".m3-{secrets.token_hex(8)}.tmp")

    def publish(self, files: Sequence[Path]) -> None:
        """Put the one of *files* in its place, and make that durable."""
        (file,) = files
        with suppress(FileNotFoundError):
            file.chmod(stat.S_IMODE(self._path.stat().st_mode))
        file.replace(self._path)
        sync(self._path.parent)

    def close(self) -> None:
        """Do nothing."""


class Parts:
    """
    Parts in a directory, which is made if it is not there.

    Args:
        directory: where they are.
        writer_of: returns the mark inside a part.

    Attributes:
        writer: our mark; empty where no state is kept.
        next: the number of the next part.
    """

    def __init__(self, directory: Path, writer_of: Callable[[Path], str]) -> None:
        self._directory = directory
        self._writer_of = writer_of
        self._lock: int | None = None
        self.writer = ""
        self.next = 0

    def open(self) -> None:
        """
        Lock the directory and remove what a crash has left.

        Raises:
            ConfigError: somebody else writes parts into it.
        """
        make_directory(self._directory)
        self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._take_over(self._lock)
        except BaseException:
            self.close()
            raise

    def _take_over(self, directory: int) -> None:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another run writes parts into {self._directory}") from error
        for left in self._directory.glob(".m3-*.tmp"):
            left.unlink()
        self.next = max(self._numbers(), default=-1) + 1

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    @property
    def belongs_to_state(self) -> bool:
        """Whether a run that keeps state has written here."""
        return (self._directory / WRITER).exists()

    def refuse_others(self) -> None:
        """
        Refuse a directory that has parts already.

        Raises:
            ConfigError: it has.
        """
        if self.next:
            raise ConfigError(
                f"{self._directory} has parts already, {name_of(self.next - 1)} is the last; "
                "name another directory, remove them, or add to them with append"
            )

    def begin(self) -> None:
        """Become a writer with a mark, and remove the parts that bear it already."""
        file = self._directory / WRITER
        with suppress(FileNotFoundError):
            self.writer = file.read_text("ascii")
        if not self.writer:
            self._become(secrets.token_hex(16))
        self._remove_from(0)

    def go_back(self, writer: str, first: int, behind: int) -> None:
        """
        Become *writer* again, and remove its parts from the number *behind* on.

        Raises:
            StateError: one is missing of those from *first* on that are to stay.
        """
        if missing := set(range(first, behind)) - self._numbers():
            raise StateError(
                f"{self._directory / name_of(min(missing))} was written by an earlier run and is "
                "not there; put it back, or begin again without the kept state"
            )
        self._become(writer)
        self._remove_from(behind)

    def temporary(self) -> Path:
        """Return a name to write under."""
        return self._directory / f".m3-{secrets.token_hex(8)}.tmp"

    def publish(self, files: Sequence[Path]) -> None:
        """Give *files*, which are durable, the names of the next parts, and make that durable."""
        for file in files:
            file.rename(self._directory / name_of(self.next))
            self.next += 1
        if files:
            sync(self._directory)

    def _become(self, writer: str) -> None:
        """Take a mark, which is there after a crash too."""
        self.writer = writer
        file = self.temporary()
        file.write_text(writer, "ascii")
        sync(file)
        file.rename(self._directory / WRITER)
        sync(self._directory)

    def _remove_from(self, number: int) -> None:
        """Remove our parts from *number* on, the last first."""
        for each in sorted(self._numbers(), reverse=True):
            path = self._directory / name_of(each)
            if each >= number and self._writer_of(path) == self.writer:
                path.unlink()
        sync(self._directory)
        self.next = max(self._numbers(), default=-1) + 1

    def _numbers(self) -> set[int]:
        """Return the numbers of the parts that are there."""
        matches = (NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return {int(match[1]) for match in matches if match}


def name_of(number: int) -> str:
    """Return the name of a part."""
    return f"part-{number:05}.parquet"


def make_directory(path: Path) -> None:
    """Make the directory *path* and those above it, durably, where they are not there yet."""
    if not path.exists():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)
