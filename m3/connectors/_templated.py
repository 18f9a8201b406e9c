"""
Many files below one directory, which nothing leads out of.

Every name is opened relative to the descriptor of its directory, and no
symbolic link below the root is followed, whoever may put one there.
"""

import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from m3.connectors._in_place import REMEDY, Written
from m3.errors import StateError, abridged

__all__ = ("MOST_OPEN", "Names", "TemplatedFiles", "Tree")

MOST_OPEN = 64
"""How many files are open at once."""

Names = tuple[str, ...]
"""The names from the root to a file."""

Mode = Literal["replace", "append", "in place"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO without O_NONBLOCK would block until somebody reads from it.
FILE = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Tree:
    """A directory, made if it is not there, and what is below it."""

    def __init__(self, root: str) -> None:
        Path(root).mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Release the directory."""
        os.close(self._root)

    @contextmanager
    def folder(self, folders: Names, *, make: bool = False) -> Iterator[int]:
        """Open the directory that *folders* lead to; with *make*, make what is not there."""
        here = os.dup(self._root)
        try:
            for name in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=here)
                above, here = here, os.open(name, FOLDER, dir_fd=here)
                os.close(above)
            yield here
        finally:
            os.close(here)

    def open(self, names: Names, *, make: bool) -> int:
        """
        Open a regular file for reading and appending.

        Raises:
            OSError: a name on the way is a symbolic link, or it is no file.
        """
        with self.folder(names[:-1], make=make) as folder:
            flags = FILE | (os.O_CREAT if make else 0)
            descriptor = os.open(names[-1], flags, 0o666, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{'/'.join(names)} is no regular file")
        return descriptor

    def sync(self, folders: Names) -> None:
        """Make the names in a directory, and those that lead to it, durable."""
        for depth in range(len(folders) + 1):
            with self.folder(folders[:depth]) as folder:
                os.fsync(folder)


class TemplatedFiles:
    """
    The files of one backend, a bounded number of them open.

    Args:
        root: the directory.
        mode: ``"replace"`` each file as a whole at the end, ``"append"`` to
            what is there, or write ``"in place"`` what a mark can bring back.
    """

    def __init__(self, root: str, mode: Mode) -> None:
        self._mode = mode
        self._tree = Tree(root)
        self._root = root
        self._files: dict[Names, Written] = {}
        self._open: OrderedDict[Names, int] = OrderedDict()
        self._unsynced: set[Names] = set()
        self._new_folders: set[Names] = set()
        self._token = secrets.token_hex(8)
        self._temporaries: dict[Names, str] = {}

    def go_back(self, mark: Any) -> None:
        """
        Cut off what was written after :meth:`commit` has returned *mark*.

        Raises:
            StateError: a file is gone, or not as it was then.
        """
        if mark is None:
            return
        if not isinstance(mark, dict) or not all(map(leads_down, mark)):
            raise StateError(
                f"this is no mark of files below {self._root}: {abridged(mark)}; "
                "begin anew with --from-start"
            )
        for path, part in mark.items():
            names = tuple(path.split("/"))
            self._files[names] = self._taken_back(names, part)

    def _taken_back(self, names: Names, mark: Any) -> Written:
        written = Written(self._name(names))
        try:
            descriptor = self._tree.open(names, make=False)
        except OSError as error:
            raise StateError(
                f"{self._name(names)} was written to and cannot be opened: {error}; {REMEDY}"
            ) from error
        try:
            written.go_back(descriptor, mark)
        finally:
            os.close(descriptor)
        return written

    def write(self, names: Names, data: bytes) -> None:
        """Write all of *data*, or nothing of it."""
        descriptor = self._descriptor(names)
        self._unsynced.add(names)
        self._files[names].write(descriptor, data)

    def commit(self) -> dict[str, Any] | None:
        """
        Make durable what was written, and return the marks of all files.

        Raises:
            StateError: somebody else has written to one of them.
        """
        if self._mode == "replace":
            return None
        self._sync()
        if self._mode == "append":
            return None
        return {"/".join(names): written.mark() for names, written in self._files.items()}

    def close(self, *, keep: bool) -> None:
        """End all files; with *keep*, durably, and those that replace others in their place."""
        try:
            if keep:
                self._sync()
                self._put_in_place()
        finally:
            while self._open:
                os.close(self._open.popitem()[1])
            self._discard()
            self._tree.close()

    def _sync(self) -> None:
        for names in sorted(self._unsynced):
            descriptor = self._descriptor(names)
            if self._mode == "in place":
                self._files[names].check(descriptor)
            os.fsync(descriptor)
            self._unsynced.discard(names)
        for folder in sorted(self._new_folders):
            self._tree.sync(folder)
        self._new_folders.clear()

    def _descriptor(self, names: Names) -> int:
        """Return the open file, open it again, or begin with it."""
        if names in self._open:
            self._open.move_to_end(names)
            return self._open[names]
        if len(self._open) >= MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        descriptor = self._tree.open(self._real(names), make=names not in self._files)
        try:
            self._take(names, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._open[names] = descriptor
        return descriptor

    def _take(self, names: Names, descriptor: int) -> None:
        """Begin with a file, or see whether it is as it was when it was closed."""
        if names not in self._files:
            written = Written(self._name(names))
            written.begin(descriptor, append=self._mode == "append")
            self._files[names] = written
            self._new_folders.add(names[:-1])
        elif self._mode == "in place":
            self._files[names].check(descriptor)

    def _real(self, names: Names) -> Names:
        """Return where a file is until the end."""
        if self._mode != "replace":
            return names
        number = len(self._temporaries)
        temporary = self._temporaries.setdefault(names, f".m3-{self._token}-{number}.tmp")
        return (*names[:-1], temporary)

    def _put_in_place(self) -> None:
        for names, temporary in list(self._temporaries.items()):
            with self._tree.folder(names[:-1]) as folder:
                with suppress(FileNotFoundError):
                    old = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(old.st_mode):
                        os.chmod(temporary, stat.S_IMODE(old.st_mode), dir_fd=folder)
                os.replace(temporary, names[-1], src_dir_fd=folder, dst_dir_fd=folder)
            del self._temporaries[names]
        for folders in sorted({names[:-1] for names in self._files}):
            self._tree.sync(folders)

    def _discard(self) -> None:
        for names, temporary in self._temporaries.items():
            with suppress(OSError), self._tree.folder(names[:-1]) as folder:
                os.unlink(temporary, dir_fd=folder)

    def _name(self, names: Names) -> str:
        return str(Path(self._root, *names))


def leads_down(path: Any) -> bool:
    """Say whether a path in a mark can be one that we have written."""
    return isinstance(path, str) and not {"", ".", ".."} & set(path.split("/"))
