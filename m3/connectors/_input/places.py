"""
How far files were read, and what they are known by when a run goes on.

A :class:`Place` is what a checkpoint keeps of one file.  The reader of a file
leaves a :class:`Trail` of how much had been read when each record ended, so
that another thread can ask for the place of any record that was produced.
"""

import os
import threading
from bisect import bisect_left
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

from m3.connectors._input.records import RecordPosition
from m3.errors import StateError

__all__ = ("Fingerprint", "Place", "Trail", "check_unchanged", "fingerprint_of")

WINDOW = 1024
"""How many bytes of the beginning and of the end are looked at."""

MANY = 4096
"""With more notes than that in a trail, every second one is dropped."""

FLAGS = ("behind", "unended", "whole")

_DIGEST_OF_NOTHING = blake2b(digest_size=16).hexdigest()


class Place(NamedTuple):
    """
    Where to go on in a file, and what to know it by.

    The first *size* bytes of the file, as it lies on the disk, had been read.
    """

    line: int = 1
    """The line on which to begin."""
    offset: int = 0
    """The number of bytes before it, after decompression."""
    behind: bool = False
    """Whether the record there is done already, so that the next one is the first."""
    unended: bool = False
    """Whether the record before it is done and had no line end yet."""
    whole: bool = False
    """Whether all records were done that the file had."""
    size: int = 0
    digest: str = _DIGEST_OF_NOTHING
    """The :class:`Fingerprint` of the first *size* bytes."""

    def text(self, name: str) -> str:
        """Return it as it is kept, for the file called *name*."""
        flags = ",".join(flag for flag in FLAGS if getattr(self, flag)) or "-"
        return f"{self.line} {self.offset} {flags} {self.size} {self.digest} {name}"


def place_of(text: str) -> tuple[str, Place]:
    """
    Return the name and the place that :meth:`Place.text` was made of.

    Raises:
        ValueError: it was not.
    """
    line, offset, flags, size, digest, name = text.split(" ", 5)
    behind, unended, whole = (flag in flags.split(",") for flag in FLAGS)
    return name, Place(int(line), int(offset), behind, unended, whole, int(size), digest)


class Fingerprint:
    """Tells a file from others by the first and the last 1 KiB of what was read of it."""

    def __init__(self, head: bytes = b"", tail: bytes = b"", size: int = 0) -> None:
        self._head = head
        self._tail = tail
        self.size = size

    def feed(self, block: bytes) -> None:
        """Take what was read next."""
        if len(self._head) < WINDOW:
            self._head += block[: WINDOW - len(self._head)]
        self.size += len(block)
        self._tail = (block if len(block) >= WINDOW else self._tail + block)[-WINDOW:]

    def digest(self) -> str:
        """Return it, of what was read so far."""
        return blake2b(self._head + self._tail, digest_size=16).hexdigest()


def fingerprint_of(descriptor: int, size: int) -> Fingerprint:
    """Return the fingerprint of the first *size* bytes of a file, read at two places."""
    window = min(WINDOW, size)
    head = os.pread(descriptor, window, 0)
    return Fingerprint(head, os.pread(descriptor, window, size - window), size)


def check_unchanged(name: str, descriptor: int, place: Place) -> None:
    """
    Raise :exc:`~m3.errors.StateError` unless the file still begins with what was read.

    Something new behind it is no change.
    """
    remedy = "restore the file, or begin anew with --from-start"
    size = os.fstat(descriptor).st_size
    if size < place.size:
        raise StateError(
            f"{name} has become shorter: {place.size} bytes of it had been read, "
            f"now it has {size}; {remedy}"
        )
    if fingerprint_of(descriptor, place.size).digest() != place.digest:
        raise StateError(
            f"{name} has changed: its first {place.size} bytes are not those that had been "
            f"read, so line {place.line} cannot be found again; {remedy}"
        )


class Trail:
    """
    What is known of one file that is being read, or was.

    Args:
        name: what the file is called in positions.
        start: where its reading began.
    """

    def __init__(self, name: str, start: Place) -> None:
        self.name = name
        self._lock = threading.Lock()
        # (lines whose records have ended, bytes read, digest), in the order of reading.
        self._notes = [(start.line - 1, start.size, start.digest)]
        self._end: Place | None = None
        self._last_line = 0

    def note(self, lines: int, fingerprint: Fingerprint) -> None:
        """Say that what begins on the first *lines* lines has ended in what *fingerprint* saw."""
        with self._lock:
            self._notes.append((lines, fingerprint.size, fingerprint.digest()))
            if len(self._notes) > MANY:
                # A later note says more than an earlier one, and is right too.
                del self._notes[:-1:2]

    def end(self, end: Place, last_line: int) -> None:
        """Say that the file was read to its *end*, and on which line its last record begins."""
        with self._lock:
            self._end, self._last_line = end, last_line

    @property
    def has_records(self) -> bool:
        """Whether the file was read to its end, and was not empty."""
        with self._lock:
            return self._end is not None and self._end.size > 0

    @property
    def end_place(self) -> Place:
        """Where to go on when all of its records are done."""
        with self._lock:
            assert self._end is not None, f"{self.name} was not read to its end"
            return self._end

    def place(self, position: RecordPosition) -> Place:
        """Return the place behind the record at *position*."""
        with self._lock:
            if self._end is not None and position.line >= self._last_line:
                return self._end
            first = bisect_left(self._notes, position.line, key=itemgetter(0))
            del self._notes[: min(first, len(self._notes) - 1)]
            _, size, digest = self._notes[0]
        return Place(position.line, position.offset, behind=True, size=size, digest=digest)
