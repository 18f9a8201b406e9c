"""A file that is written to at its end, and can be cut back to where it was."""

import os
from contextlib import suppress
from pathlib import Path

from m3._durable import sync
from m3.connectors._reading import FilePath
from m3.connectors._sinks import write_all

__all__ = ("Growing",)


class Growing:
    """
    A regular file, written to at its end without delay.

    Args:
        path: the file; it is made if it is not there.
        length: how much of what is there stays; None for all.

    Attributes:
        length: how many bytes there are now.
    """

    def __init__(self, path: FilePath, *, length: int | None) -> None:
        self._unnamed: Path | None = Path(path).resolve().parent
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)
        if length is not None:
            os.ftruncate(self._descriptor, length)
        self.length = os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """Write all of *data*, or nothing if that fails."""
        try:
            write_all(self._descriptor, data)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.length)
            raise
        self.length += len(data)

    def commit(self) -> None:
        """Make what was written durable."""
        os.fsync(self._descriptor)
        if self._unnamed is not None:
            sync(self._unnamed)
        self._unnamed = None

    def close(self, *, keep: bool) -> None:
        """Close it; with *keep*, make it durable first."""
        try:
            if keep:
                self.commit()
        finally:
            os.close(self._descriptor)
