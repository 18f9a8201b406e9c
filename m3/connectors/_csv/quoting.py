r"""
From blocks of bytes to CSV records, whose line ends may stand within quotes.

A record that its quotes or its length spoil ends with the line on which it
begins, and the next line begins the next record; so one quote too many costs
one line, and not the rest of the file.  No byte is looked at more than a few
times: a line that stands as a whole within the quotes of a spoilt record has an
even number of quotes, so read by itself it opens none that go on behind it.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto
from itertools import takewhile
from typing import NamedTuple

from m3.connectors._csv.dialect import LINE_END, Dialect, line_ends
from m3.errors import MalformedRecordError, RecordTooLongError

__all__ = ("Quoting", "Spoilt", "Stretch", "unended")

HEAD = 1024
"""How many bytes of a record that is too long are kept, to recognise it by."""


class Stretch(NamedTuple):
    """Records one behind the other, all in order as far as their quotes go."""

    records: list[bytes]
    """Each with its line end."""
    line: int
    """The line on which the first begins, from 1."""
    offset: int
    """The number of bytes before it."""


class Spoilt(NamedTuple):
    """A line that begins a record which cannot be read."""

    error: Exception
    record: bytes
    """The line without its end, or the beginning of one that is too long."""
    line: int
    offset: int


class Inside(Enum):
    """What there is at a place in a record."""

    START = auto()
    """The beginning of a field."""
    PLAIN = auto()
    """More of a field without quotes."""
    QUOTES = auto()
    """More of what stands within quotes."""
    AFTER = auto()
    """What ends a field."""
    MISTAKE = auto()
    """A mistake, and the end of the line has not come yet."""


class Quoting:
    """
    Splits what a file holds into records, block by block.

    Args:
        source: what it is called in errors.
        dialect: how it is written.
        limit: the most bytes of a record, without its line end.
        line: the line that the first block begins with.
        offset: the number of bytes before it.

    Attributes:
        line: the line on which what is not told yet begins.
        offset: the number of bytes before it.
        unended: at the end, whether the last line had no end.
    """

    def __init__(
        self,
        source: str,
        dialect: Dialect,
        *,
        limit: int,
        line: int = 1,
        offset: int = 0,
    ) -> None:
        self._source = source
        self._dialect = dialect
        self._limit = limit
        self.line = line
        self.offset = offset
        self.unended = False
        self._skipping = False
        self._bom = b"" if offset else dialect.bom
        self._lacks_end = False
        # What has come and is not told yet, from the beginning of a record on;
        # how far the record was looked at, and what there is at that place.
        self._buffer = bytearray()
        self._seen = 0
        self._inside = Inside.START
        self._mistake = ""

    def feed(self, block: bytes) -> Iterator[Stretch | Spoilt]:
        """Yield what is complete with *block*."""
        self._buffer += block
        return self._complete()

    def end(self) -> Iterator[Stretch | Spoilt]:
        """Yield what is left: the last line may have no end, and quotes neither."""
        if self._buffer and not self._buffer.endswith(b"\n"):
            self._lacks_end = True
            self.unended = not self._buffer.endswith(b"\r")
            self._buffer += b"\n"
        yield from self._complete()
        while self._buffer:
            yield self._spoil("a quote is opened and never closed")
            yield from self._complete()
        self.offset -= self._lacks_end
        if self._skipping:
            self.unended = True
            self.line += 1

    def _complete(self) -> Iterator[Stretch | Spoilt]:
        """Yield the records that have come as a whole, and those that cannot be read."""
        while self._buffer and self._has_begun():
            if not self._seen:
                end = matched(self._dialect.records, self._buffer, 0)
                # One byte more, because a \r is an end of a line by what follows.
                yield from self._take(self._dialect.record.findall(self._buffer, 0, end + 1))
            if end := self._look():
                yield from self._take([bytes(self._buffer[:end])])
            elif self._is_spoilt():
                yield self._spoil(self._mistake)
            elif len(self._buffer) > self._limit + 1:
                yield self._spoil("")
            else:
                return

    def _has_begun(self) -> bool:
        """Pass over what stands before a record; say whether there is more."""
        if self._skipping:
            end = self._line_end(0)
            self._skipping = not end
            self._consume(end or len(self._buffer) - self._buffer.endswith(b"\r"))
        elif self._bom:
            head = bytes(self._buffer[: len(self._bom)])
            if head != self._bom and self._bom.startswith(head):
                return False
            self._consume(len(head) if head == self._bom else 0)
            self._bom = b""
        return bool(self._buffer) and not self._skipping

    def _take(self, records: list[bytes]) -> Iterator[Stretch | Spoilt]:
        """Yield *records*, which the buffer begins with, up to one that is too long."""
        good = records
        if sum(map(len, records)) > self._limit:
            good = list(takewhile(lambda record: len(unended(record)) <= self._limit, records))
        if good:
            told = Stretch(good, self.line, self.offset)
            self._consume(sum(map(len, good)))
            if self._lacks_end and not self._buffer:
                good[-1] = good[-1][:-1]
            yield told
        if len(good) < len(records):
            yield self._spoil("")

    def _look(self) -> int:
        """Look at what has come of the first record; return its length if that is all, else 0."""
        buffer, dialect = self._buffer, self._dialect
        while self._seen < len(buffer) and self._inside is not Inside.MISTAKE:
            byte = bytes(buffer[self._seen : self._seen + 1])
            if self._inside is Inside.QUOTES:
                self._seen = matched(dialect.inside, buffer, self._seen)
                if self._seen >= len(buffer) - 1:  # a last quote may be half of a doubled one
                    return 0
                self._move(Inside.AFTER, 1)
            elif self._inside is Inside.START and byte == dialect.quote:
                self._move(Inside.QUOTES, 1)
            elif self._inside is not Inside.AFTER:
                self._look_plain()
            elif byte == dialect.separator:
                behind = matched(dialect.more, buffer, self._seen)
                if behind == self._seen:
                    self._move(Inside.START, 1)
                self._seen = max(behind, self._seen)
            elif LINE_END.match(byte):
                return self._line_end(self._seen)
            else:
                self._note("a quote is closed before the end of its field")
        return 0

    def _look_plain(self) -> None:
        self._seen = matched(self._dialect.plain, self._buffer, self._seen)
        if self._seen == len(self._buffer):
            self._inside = Inside.PLAIN
        elif self._buffer[self._seen : self._seen + 1] == self._dialect.quote:
            self._note("there is a quote in a field that does not begin with one")
        else:
            self._inside = Inside.AFTER

    def _move(self, inside: Inside, size: int) -> None:
        self._seen += size
        self._inside = inside

    def _note(self, mistake: str) -> None:
        """Keep what is wrong at the place that was looked at."""
        self._inside = Inside.MISTAKE
        self._mistake = mistake if self._seen <= self._limit + 1 else ""
        self._seen = 1  # what begins a record with a mistake is no line end

    def _is_spoilt(self) -> bool:
        """Say whether there is a mistake, and the end of the first line has come."""
        if self._inside is not Inside.MISTAKE:
            return False
        end = self._line_end(self._seen)
        if not end:
            self._seen = max(1, len(self._buffer) - 1)
        return bool(end)

    def _line_end(self, start: int) -> int:
        """Return where the first line of the buffer ends that ends behind *start*, or 0."""
        match = LINE_END.search(self._buffer, start)
        if match is None or (match[0] == b"\r" and match.end() == len(self._buffer)):
            return 0
        return match.end()

    def _spoil(self, mistake: str) -> Spoilt:
        """Give the first line up; without a *mistake*, its record is too long."""
        line, offset = self.line, self.offset
        end = self._line_end(0)
        record = unended(bytes(self._buffer[: end or len(self._buffer)]))
        where = f"the record of {self._source} that begins on line {line}, at byte {offset},"
        error: Exception
        if mistake and len(record) <= self._limit:
            error = MalformedRecordError(f"{where} cannot be read: {mistake}")
        else:
            error = RecordTooLongError(
                f"{where} is longer than {self._limit} bytes; the line was skipped; "
                "the option limit says how long a record may be"
            )
            record = record[: min(HEAD, self._limit)]
        self._skipping = not end
        self._consume(end or len(self._buffer) - self._buffer.endswith(b"\r"))
        return Spoilt(error, record, line, offset)

    def _consume(self, size: int) -> None:
        self.line += line_ends(bytes(self._buffer[:size]))
        self.offset += size
        del self._buffer[:size]
        self._seen = 0
        self._inside = Inside.START


def matched(pattern: re.Pattern[bytes], buffer: bytearray, start: int) -> int:
    """Return where what *pattern* matches at *start* ends; it can match nothing."""
    match = pattern.match(buffer, start)
    return match.end() if match else start


def unended(record: bytes) -> bytes:
    """Return *record* without its line end."""
    return record.removesuffix(b"\n").removesuffix(b"\r")
