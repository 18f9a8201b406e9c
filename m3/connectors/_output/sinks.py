"""
Where bytes go: files, pipes and terminals.

:func:`open_sink` picks what fits the target: a regular file is replaced as a
whole at the end, everything else is written to as the data comes.
"""

import io
import os
import secrets
import select
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from m3._durable import sync
from m3.connectors._output.torn import Lacking, line_end
from m3.connectors._paths import FilePath, is_stream
from m3.errors import ConfigError

__all__ = (
    "STDOUT",
    "FilePath",
    "Sink",
    "Stdout",
    "append_whole",
    "open_sink",
)

STDOUT = "<stdout>"
"""The ``filename`` of a :exc:`BrokenPipeError` that says: nobody reads our output any more."""

BUFFER = 256 * 1024


class Sink(Protocol):
    """Where a backend writes."""

    def write(self, data: bytes) -> object:
        """Write all of *data*; block while the target takes no more."""

    def commit(self) -> Any:
        """Make durable what was written, as far as the target can; return where it stands."""

    def close(self, *, keep: bool) -> object:
        """End the output; without *keep*, the run failed."""


class Stdout:
    """
    Standard output, as ``sys.stdout`` is now.

    It is written to directly, past the buffer of ``sys.stdout``, unless that
    has no descriptor.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            raise ConfigError("there is no standard output, it is closed; discard with > /dev/null")
        sys.stdout.flush()
        self._write: Callable[[bytes], None] = write_to_object
        with suppress(AttributeError, OSError):
            self._write = partial(write_all, sys.stdout.fileno())

    def write(self, data: bytes) -> None:
        """
        Write all of *data*; block while the reader takes no more.

        Raises:
            BrokenPipeError: the reader is gone; its ``filename`` is :data:`STDOUT`.
        """
        try:
            self._write(data)
        except BrokenPipeError as error:
            raise BrokenPipeError(error.errno, error.strerror, STDOUT) from error

    def commit(self) -> None:
        """Do nothing: the system has taken all that was written."""

    def close(self, *, keep: bool) -> None:
        """Do nothing: all is written, and standard output is not ours to close."""


class Direct:
    """
    A file that is written to at its end, or a FIFO or device, as the data comes.

    Args:
        path: where it is, or a file is to be.
        lacking: tells what a file is to be ended with first; one that must not be
            read is taken to lack nothing.
    """

    def __init__(self, path: FilePath, lacking: Lacking = line_end) -> None:
        self._descriptor, self._is_readable = opened_to_append(path)
        self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._lacking = lacking
        self._may_be_torn = self._is_file

    def write(self, data: bytes) -> None:
        """Write all of *data*, to a file all or nothing; block while a FIFO is full."""
        if not self._is_file:
            write_all(self._descriptor, data)
            return
        if self._may_be_torn and self._is_readable:
            data = self._lacking(self._descriptor) + data
        self._may_be_torn = True
        append_whole(self._descriptor, data)
        self._may_be_torn = False

    def commit(self) -> None:
        """Make a regular file durable."""
        if self._is_file:
            os.fsync(self._descriptor)

    def close(self, *, keep: bool) -> None:
        """Close it; with *keep*, make a regular file durable first."""
        try:
            if keep:
                self.commit()
        finally:
            os.close(self._descriptor)


class Replacement:
    """
    A file that appears as a whole, in place of what was there, or not at all.

    It is written under another name in the same directory.  Its permissions
    are those of the file that it replaces, and its owner too where that is
    allowed; where *path* is a symbolic link, what it points to is replaced.
    """

    def __init__(self, path: FilePath) -> None:
        self._target = Path(path).resolve()
        self._temporary = self._target.with_name(f".m3-{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(self._temporary, flags, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._target)) from error
        self._file = io.BufferedWriter(io.FileIO(descriptor, "wb"), BUFFER)
        self._incomplete: OSError | None = None
        try:
            self._inherit()
        except BaseException:
            self._discard()
            raise

    def write(self, data: bytes) -> None:
        """Write *data*, at the latest with :meth:`close`."""
        try:
            self._file.write(data)
        except OSError as error:
            self._incomplete = error
            raise

    def commit(self) -> None:
        """Do nothing: before the end there is nothing that could last."""

    def close(self, *, keep: bool) -> None:
        """
        Put the file in its place and make that durable; without *keep*, remove it.

        Raises:
            OSError: also if an earlier write failed, for then a part is missing.
        """
        try:
            if keep and self._incomplete is not None:
                raise self._incomplete
            if keep:
                self._put_in_place()
        finally:
            self._discard()

    def _put_in_place(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._target)
        sync(self._target.parent)

    def _inherit(self) -> None:
        with suppress(FileNotFoundError):
            old = self._target.stat()
            with suppress(PermissionError):
                os.fchown(self._file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(self._file.fileno(), stat.S_IMODE(old.st_mode))

    def _discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def open_sink(path: FilePath, *, append: bool, lacking: Lacking = line_end) -> Sink:
    """
    Return a :class:`Replacement`, or a :class:`Direct` where one cannot be.

    Opening a FIFO blocks until somebody reads from it.

    Raises:
        OSError: *path* cannot be written to.
    """
    return Direct(path, lacking) if append or is_stream(path) else Replacement(path)


def opened_to_append(path: FilePath) -> tuple[int, bool]:
    """Return a descriptor that writes to the end of *path*, and whether it reads too."""
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    if not is_stream(path):
        with suppress(PermissionError):
            return os.open(path, os.O_RDWR | flags, 0o666), True
    return os.open(path, os.O_WRONLY | flags, 0o666), False


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*, also to a descriptor that does not block."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


def append_whole(descriptor: int, data: bytes) -> None:
    """Write all of *data* to the end of a file, or, if that fails, nothing of it."""
    before = os.fstat(descriptor).st_size
    try:
        write_all(descriptor, data)
    except BaseException:
        with suppress(OSError):
            # What is more than *data* was not written by us alone.
            if before < os.fstat(descriptor).st_size < before + len(data):
                os.ftruncate(descriptor, before)
        raise


def write_to_object(data: bytes) -> None:
    """Write *data* to a ``sys.stdout`` that has no descriptor."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is not None:
        buffer.write(data)
    else:
        sys.stdout.write(data.decode("utf-8", "surrogateescape"))
    sys.stdout.flush()
