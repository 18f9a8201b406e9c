"""One reading of one file, from where an earlier run has ended, leaving a trail."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from m3.connectors._input.compression import Decompression
from m3.connectors._input.places import Fingerprint, Place, Trail, fingerprint_of
from m3.connectors._input.records import Splitting
from m3.connectors._input.wakeup import Wakeup
from m3.errors import StateError

__all__ = ("Passage",)


class Readable(Protocol):
    """What is read: a :class:`~m3.connectors._input.reading.Source`, or like one."""

    @property
    def name(self) -> str:
        """What it is called in positions and errors."""

    @property
    def descriptor(self) -> int | None:
        """The open file."""

    def blocks(self, wakeup: Wakeup) -> Iterator[bytes]:
        """Yield blocks up to the end, or until *wakeup* is set."""


class Passage:
    """
    Reads the records of a file from a place in it.

    Args:
        source: the file, at its beginning.
        start: where to begin.
        trail: where to note how far the reading came.
        decompression: how the file may be compressed.
        wakeup: ends the reading.
        rest_at_stop: whether what has come of a record when the wakeup is set
            is one; else it waits for the next run.
    """

    def __init__(
        self,
        source: Readable,
        start: Place,
        *,
        trail: Trail,
        decompression: Decompression,
        wakeup: Wakeup,
        rest_at_stop: bool = False,
    ) -> None:
        self._rest_at_stop = rest_at_stop
        self._source = source
        self._start = start
        self._trail = trail
        self._decompression = decompression
        self._wakeup = wakeup
        self._fingerprint = Fingerprint()

    def lists(self, make_splitter: Callable[..., Splitting]) -> Iterator[Iterable[Any]]:
        """
        Yield the items of each block, up to the end or until the wakeup is set.

        Raises:
            StateError: the last record of an earlier run goes on now.
        """
        start = self._start
        splitter = make_splitter(
            self._source.name,
            line=start.line,
            offset=start.offset,
            unended=start.unended,
        )
        behind = start.behind
        for block in self._blocks():
            found = splitter.feed(block)
            self._trail.note(splitter.line - 1, self._fingerprint)
            if behind:
                found = iter(found)
                behind = next(found, None) is None
            yield found
        if self._rest_at_stop or not self._wakeup.is_set():
            last = splitter.end()
            self._trail.end(self._end(splitter), splitter.last_line)
            yield islice(last, 1, None) if behind else last

    def _end(self, splitter: Splitting) -> Place:
        return Place(
            splitter.line,
            splitter.offset,
            unended=splitter.unended,
            whole=True,
            size=self._fingerprint.size,
            digest=self._fingerprint.digest(),
        )

    def _blocks(self) -> Iterator[bytes]:
        """Return the blocks from the start on, decompressed."""
        source, offset = self._source, self._start.offset
        name, descriptor = source.name, source.descriptor
        if offset:
            assert descriptor is not None, "only files are gone on in"
            if self._decompression.of(descriptor) == "none":
                self._fingerprint = fingerprint_of(descriptor, offset)
                os.lseek(descriptor, offset, os.SEEK_SET)
                return self._raw()
        stopped = self._wakeup.is_set
        blocks = self._decompression.applied(name, self._raw(), stopped)
        return self._behind(blocks, offset) if offset else blocks

    def _raw(self) -> Iterator[bytes]:
        for block in self._source.blocks(self._wakeup):
            self._fingerprint.feed(block)
            yield block

    def _behind(self, blocks: Iterator[bytes], skip: int) -> Iterator[bytes]:
        """Yield what follows the first *skip* bytes."""
        for block in blocks:
            if skip < len(block):
                yield block[skip:] if skip else block
            skip = max(0, skip - len(block))
        if skip and not self._wakeup.is_set():
            raise StateError(
                f"{self._source.name} has become shorter: it ends {skip} bytes before line "
                f"{self._start.line}, where an earlier run has ended; restore the file, or begin "
                "anew with --from-start"
            )
