"""Blocks of bytes from files, pipes and terminals, until somebody says stop."""

import errno
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from m3.connectors._both_ends import Reading
from m3.connectors._input.records import Splitting
from m3.connectors._input.wakeup import Wakeup
from m3.connectors._paths import FilePath
from m3.errors import ConfigError
from m3.stages import Frontend

__all__ = (
    "FilePath",
    "RecordFrontend",
    "Source",
    "Wakeup",
    "check_readable",
    "open_path",
    "open_stdin",
)

BLOCK = 256 * 1024
"""The most bytes read at once: what a frontend may be ahead of the pipeline."""


class Source(NamedTuple):
    """Something that can be read in blocks."""

    name: str
    """What it is called in positions and errors."""
    read: Callable[[int], bytes]
    """Returns at most so many bytes, what there is now; none at the end."""
    descriptor: int | None
    """What to wait for before reading; None if it cannot be waited for."""

    def blocks(self, wakeup: Wakeup) -> Iterator[bytes]:
        """Yield blocks up to the end, or until *wakeup* is set; blocks between them."""
        go_on = self._waiting(wakeup)
        while go_on():
            try:
                block = self.read(BLOCK)
            except BlockingIOError:
                continue
            if not block:
                return
            yield block

    def _waiting(self, wakeup: Wakeup) -> Callable[[], bool]:
        if self.descriptor is None or stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            return lambda: not wakeup.is_set()
        return wakeup.wait_for(self.descriptor)


def check_readable(path: FilePath) -> None:
    """Raise the :exc:`OSError` that reading *path* would raise, without opening it."""
    if stat.S_ISDIR(Path(path).stat().st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not os.access(path, os.R_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


@contextmanager
def open_path(path: FilePath) -> Iterator[Source]:
    """
    Open the file, FIFO or device at *path* and close it after use.

    Without O_NONBLOCK, opening a FIFO would block until somebody writes to it,
    and no wakeup could end that.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield Source(os.fspath(path), lambda size: os.read(descriptor, size), descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_stdin() -> Iterator[Source]:
    """
    Take what ``sys.stdin`` is now.

    It is read through its buffer, where somebody may have left what they read
    too much.  An object without a descriptor, as tests use, cannot be woken.
    """
    if sys.stdin is None:
        raise ConfigError(
            "there is no standard input, it is closed; an empty one is written < /dev/null"
        )
    stream: Any = getattr(sys.stdin, "buffer", sys.stdin)
    read = getattr(stream, "read1", stream.read)
    if isinstance(stream, io.TextIOBase):
        read = text_reader(stream)
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):
        descriptor = None
    yield Source("stdin", read, descriptor)


def text_reader(stream: io.TextIOBase) -> Callable[[int], bytes]:
    """Return what reads text, which somebody put in the place of standard input, as UTF-8."""
    return lambda size: stream.read(size).encode()


class RecordFrontend(Frontend[Any]):
    """
    What the frontends that read records have in common.

    Args:
        splitter: makes what makes items of a source.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would each get pieces of the other's records."""

    def __init__(self, splitter: Callable[..., Splitting]) -> None:
        self._splitter = splitter
        self._wakeup = Wakeup()
        self._reading = Reading()

    def sources(self) -> Iterator[AbstractContextManager[Source]]:
        """Yield, in order, what opens and closes each source."""
        raise NotImplementedError

    def setup(self) -> None:
        """Take the pipe that :meth:`stop` writes to."""
        self._wakeup.open()

    def produce(self) -> Iterator[Any]:
        """Return an iterator of the records; it blocks while there is no input."""
        return chain.from_iterable(self._lists())

    def stop(self) -> None:
        """Wake :meth:`produce` from a blocking read at once."""
        self._wakeup.set()

    def cleanup(self) -> None:
        """Release the pipe."""
        self._reading.end()
        self._wakeup.close()

    def _lists(self) -> Iterator[Iterable[Any]]:
        for opening in self.sources():
            with opening as source:
                splitter = self._splitter(source.name, positions=self.wants_positions)
                yield from map(splitter.feed, source.blocks(self._wakeup))
            if self._wakeup.is_set():
                return
            yield splitter.end()
