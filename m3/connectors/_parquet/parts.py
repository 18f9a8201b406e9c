"""
Files that appear as a whole: parts below a directory, or one file.

A part is written under a name that begins with ``.m3-``, in the directory itself,
and gets its own name, ``part-00000.parquet`` and so on, when all of it is
durable: there, or in a directory below it.  Who writes parts has claimed the
directory, so a file called ``.m3-….tmp`` that is there before is left from a
crash and is removed.

In a run that keeps state, the parts bear a mark inside, by which they can be
told from those of others.  Which mark it is stands in the file ``.m3-writer``.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from m3._durable import sync
from m3.connectors._output.tree import Names, Tree
from m3.connectors._parquet.arrow import writer_of
from m3.engine.claims import claim
from m3.errors import ConfigError, StateError

__all__ = ("Finished", "OneFile", "Parts")

NAME = re.compile(r"part-(\d{5,})\.parquet")
WRITER = ".m3-writer"

Finished = tuple[Names, Path]
"""A file that is durable, and the directories below the root to which it is to go."""


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

    def publish(self, files: Sequence[Finished]) -> None:
        """Put the one of *files* in its place, and make that durable."""
        ((_, file),) = files
        with suppress(FileNotFoundError):
            file.chmod(stat.S_IMODE(self._path.stat().st_mode))
        file.replace(self._path)
        sync(self._path.parent)

    def close(self) -> None:
        """Do nothing."""


class Parts:
    """
    Parts below a directory, which is made if it is not there.

    They are numbered through, in whichever directory below it they are.

    Args:
        directory: the root.
        depth: how many directories below it they are; no symbolic link leads there.

    Attributes:
        writer: our mark; empty where no state is kept.
        next: the number of the next part.
    """

    def __init__(self, directory: Path, depth: int) -> None:
        self._directory = directory
        self._depth = depth
        self._tree: Tree | None = None
        self.writer = ""
        self.next = 0

    def open(self) -> None:
        """
        Claim the directory and remove what a crash has left.

        Raises:
            StateError: somebody else writes parts into it.
        """
        make_directory(self._directory)
        self._tree = Tree(str(self._directory))
        try:
            claim(self._tree.root, refusal=f"another run writes parts into {self._directory}")
            for left in self._directory.glob(".m3-*.tmp"):
                left.unlink()
            self._count()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write there."""
        if self._tree is not None:
            self._tree.close()
        self._tree = None

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
        there = {number for number, _ in self._found()}
        if missing := set(range(first, behind)) - there:
            raise StateError(
                f"{name_of(min(missing))} was written by an earlier run and is not there any more, "
                f"in or below {self._directory}; put it back, or begin again without the kept state"
            )
        self._become(writer)
        self._remove_from(behind)

    def temporary(self) -> Path:
        """Return a name to write under."""
        return self._directory / f".m3-{secrets.token_hex(8)}.tmp"

    def publish(self, files: Sequence[Finished]) -> None:
        """Give *files* the names of the next parts, where they belong, and make that durable."""
        tree = self._opened
        for folders, file in files:
            with tree.folder(folders, make=True) as folder:
                name = name_of(self.next)
                os.rename(file.name, name, src_dir_fd=tree.root, dst_dir_fd=folder)
            self.next += 1
        for folders in sorted({folders for folders, _ in files}):
            tree.sync(folders)

    @property
    def _opened(self) -> Tree:
        assert self._tree is not None, "the directory was not opened"
        return self._tree

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
        found = [each for each in self._found() if each[0] >= number]
        for _, names in sorted(found, reverse=True):
            with self._opened.read(*names) as file:
                is_ours = writer_of(file) == self.writer
            if is_ours:
                self._opened.remove(names)
        self._count()

    def _count(self) -> None:
        self.next = max((number for number, _ in self._found()), default=-1) + 1

    def _found(self) -> Iterator[tuple[int, Names]]:
        """Yield the number of each part that is there, and the names that lead to it."""
        for path, folders, files, _ in os.fwalk(dir_fd=self._opened.root):
            above = Path(path).parts
            if len(above) < self._depth:
                continue
            folders.clear()
            matches = (NAME.fullmatch(name) for name in files)
            yield from ((int(match[1]), (*above, match[0])) for match in matches if match)


def name_of(number: int) -> str:
    """Return the name of a part."""
    return f"part-{number:05}.parquet"


def make_directory(path: Path) -> None:
    """Make the directory *path* and those above it, durably, where they are not there yet."""
    if not path.exists():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)
