"""
What is below one directory, which nothing leads out of.

Every name is opened relative to the descriptor of its directory, and no
symbolic link below the root is followed, whoever may put one there.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ("Names", "Tree")

Names = tuple[str, ...]
"""The names from the root to a file, or to the directory in which it is."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO without O_NONBLOCK would block until somebody reads from it.
FILE = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Tree:
    """
    A directory, made if it is not there, and what is below it.

    Attributes:
        root: its descriptor.
    """

    def __init__(self, root: str) -> None:
        Path(root).mkdir(parents=True, exist_ok=True)
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Release the directory."""
        os.close(self.root)

    @contextmanager
    def folder(self, folders: Names, *, make: bool = False) -> Iterator[int]:
        """Open the directory that *folders* lead to; with *make*, make what is not there."""
        here = os.dup(self.root)
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

    @contextmanager
    def read(self, *names: str) -> Iterator[BinaryIO]:
        """Open a file for reading."""
        with self.folder(names[:-1]) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(names[-1], flags, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def remove(self, names: Names) -> None:
        """Remove a file, if it is there, and make that durable."""
        with suppress(FileNotFoundError), self.folder(names[:-1]) as folder:
            os.unlink(names[-1], dir_fd=folder)
            os.fsync(folder)

    def sync(self, folders: Names) -> None:
        """Make the names in a directory, and those that lead to it, durable."""
        for depth in range(len(folders) + 1):
            with self.folder(folders[:depth]) as folder:
                os.fsync(folder)
