"""A file of what was delivered, which goes back, for runs that are killed."""

import os
from pathlib import Path
from typing import Any, ClassVar

from m3.stages import Backend

__all__ = ("Journal", "journal_in")


class Journal(Backend[Any]):
    """
    Writes the ``repr()`` of each item into a file.

    Args:
        path: the file.
    """

    max_workers: ClassVar[int | None] = 1

    def __init__(self, path: Path) -> None:
        self._path = path

    def setup(self) -> None:
        """Open the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)

    def process(self, data: Any) -> None:
        """Write *data*."""
        os.write(self._descriptor, repr(data).encode("utf-8", "backslashreplace") + b"\0")

    def commit(self) -> int:
        """Make the file durable and return its length."""
        os.fsync(self._descriptor)
        return os.fstat(self._descriptor).st_size

    def resume(self, mark: Any) -> None:
        """Cut off what came later."""
        os.ftruncate(self._descriptor, mark or 0)

    def cleanup(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def journal_in(path: Path) -> list[str]:
    """Return what a :class:`Journal` has in the file at *path*."""
    *lines, _ = path.read_bytes().decode().split("\0")
    return lines
