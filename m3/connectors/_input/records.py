r"""
From blocks of bytes to records: split on ``\n`` only, bounded, converted.

Records come in lists, one per block, so that a chain of the lists gives the
engine record after record without a Python frame for each.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate, chain, count, repeat
from typing import Any, NamedTuple, Protocol

from m3.errors import ConfigError, RecordTooLongError, StateError
from m3.stages import Failure, Item

__all__ = (
    "AS_IT_IS",
    "RECORD_LIMIT",
    "Converter",
    "Decoder",
    "RecordPosition",
    "Splitter",
    "Splitting",
    "check_line_end",
    "checked_limit",
    "converter",
    "splitting",
)

RECORD_LIMIT = 16 * 1024 * 1024
r"""The default for the most bytes of a record, without its ``\n``."""

HEAD = 1024
"""How many bytes of a record that is too long are kept, to recognise it by."""


class RecordPosition(NamedTuple):
    """Where a record stands in its source."""

    source: str
    """The path of a file, or ``"stdin"``."""
    line: int
    """The number of the record, from 1."""
    offset: int
    """The number of bytes before it."""


# Of what is made for every record, nothing goes through a Python frame.
_new_position = partial(tuple.__new__, RecordPosition)
_with_line_end = (1).__add__


class Converter:
    """Makes an item of a record; this one leaves it as it is."""

    def one(self, record: bytes) -> Any:
        """Return the item; what this raises is a failure of the record."""
        return record

    def many(self, records: list[bytes]) -> list[Any]:
        """Return the items of all *records*, or raise if that cannot be done quickly."""
        return records


AS_IT_IS = Converter()


class Decoder(Converter):
    r"""
    Makes text of a record.

    Args:
        encoding: the name of the encoding.
        errors: the error mode, as of :meth:`bytes.decode`.

    Raises:
        ConfigError: there is no such encoding or error mode, or the encoding
            writes a line end as something else than the byte ``\n``.
    """

    def __init__(self, encoding: str, errors: str) -> None:
        try:
            codecs.lookup_error(errors)
            splittable = str(b"a\nb", encoding, errors) == "a\nb"
        except LookupError as error:
            raise ConfigError(f"encoding={encoding!r}, errors={errors!r}: {error}") from error
        except UnicodeError:
            splittable = False
        if not splittable:
            raise ConfigError(
                f"encoding={encoding!r}: it does not end lines with the byte \\n, "
                "so its records cannot be told apart"
            )
        self._encoding = encoding
        self._errors = errors
        # In these no character reaches over a line end, so records that have no
        # error in them can be decoded together.
        self._together = codecs.lookup(encoding).name in ("ascii", "iso8859-1", "utf-8")

    def one(self, record: bytes) -> str:
        """Return the text of *record*."""
        return str(record, self._encoding, self._errors)

    def many(self, records: list[bytes]) -> list[str]:
        """Return the texts of *records*."""
        if self._together and records:
            return str(b"\n".join(records), self._encoding).split("\n")
        return [str(record, self._encoding, self._errors) for record in records]


def converter(encoding: str | None, errors: str) -> Converter:
    """Return a :class:`Decoder`, or for no encoding what leaves the bytes."""
    return AS_IT_IS if encoding is None else Decoder(encoding, errors)


class Splitting(Protocol):
    """What makes items of a source, block by block: of its lines, or of other records."""

    @property
    def line(self) -> int:
        """The line on which the record begins that has not ended yet, from 1."""

    @property
    def offset(self) -> int:
        """The number of bytes before that record."""

    @property
    def last_line(self) -> int:
        """The line on which the last record begins that was told."""

    @property
    def unended(self) -> bool:
        """Whether that has no line end yet, at the end of its source or of an earlier run."""

    def feed(self, block: bytes) -> Iterable[Any]:
        """Return the items and failures of the records that end in *block*."""

    def end(self) -> Iterable[Any]:
        """Return the last record, if the source did not end with a line end."""


class Splitter:
    r"""
    Splits what a source holds into records that end with ``\n``.

    A record longer than the limit gives one failure as soon as it is known to
    be too long; the rest of it is passed over without being kept.

    Args:
        source: what the source is called in positions.
        limit: the most bytes of a record, without its ``\n``.
        converter: makes the items.
        positions: put each item in an :class:`~m3.stages.Item` with its position.
        line: the number of the first record.
        offset: the number of bytes before it.
        unended: whether they end with a record whose ``\n`` has not come yet.

    Attributes:
        line: the number of the record that has not ended yet.
        offset: the number of bytes before it.
        unended: whether the one before it has no ``\n`` yet.
    """

    def __init__(
        self,
        source: str,
        *,
        limit: int = RECORD_LIMIT,
        converter: Converter = AS_IT_IS,
        positions: bool = False,
        line: int = 1,
        offset: int = 0,
        unended: bool = False,
    ) -> None:
        self._source = source
        self._limit = limit
        self._converter = converter
        self._positions = positions
        self.line = line
        self.offset = offset
        self.unended = unended
        # Of the record that has begun and not ended: what is kept, how long it
        # is so far, and whether it was too long and is passed over.
        self._parts: list[bytes] = []
        self._length = 0
        self._skipping = False

    @property
    def last_line(self) -> int:
        """The number of the last record that has ended."""
        return self.line - 1

    def feed(self, block: bytes) -> Iterable[Any]:
        """
        Return the items and failures of the records that end in *block*.

        It is a list, or with positions perhaps an iterator, which makes each
        item when it is asked for: thousands at once would be work for the
        garbage collector.

        Raises:
            StateError: the record that had no line end in an earlier run goes on.
        """
        if self.unended:
            check_line_end(self._source, self.line, self.offset, block[:1])
            self.unended = False
            self.offset += 1
            block = block[1:]
        records = block.split(b"\n")
        tail = records.pop()
        found = self._end_records(records, len(block) - len(tail)) if records else []
        began = self._begin_record(tail) if tail else []
        return chain(found, began) if began else found

    def end(self) -> Iterable[Any]:
        r"""Return the last record, if the source did not end with ``\n``."""
        if not self._length:
            return []
        self.unended = True
        return self._end_records([b""], 0)

    def _begin_record(self, part: bytes) -> list[Failure]:
        """Keep *part* of a record that goes on in the next block."""
        self._length += len(part)
        if self._skipping:
            return []
        self._parts.append(part)
        if self._length <= self._limit:
            return []
        head = b"".join(self._parts)
        self._parts.clear()
        self._skipping = True
        return [self._too_long(head, self.line, self.offset)]

    def _end_records(self, records: list[bytes], size: int) -> Iterable[Any]:
        """Convert *records*, the first of which may have begun earlier."""
        line, offset = self.line, self.offset
        self.line += len(records)
        self.offset += self._length + size
        longest = size
        if self._skipping:
            offset += self._length + len(records.pop(0)) + 1
            line += 1
        elif self._length:
            self._parts.append(records[0])
            records[0] = b"".join(self._parts)
            longest += self._length
        self._parts.clear()
        self._length = 0
        self._skipping = False
        if longest <= self._limit:
            with suppress(Exception):
                items = self._converter.many(records)
                return self._placed(items, records, line, offset) if self._positions else items
        return self._one_by_one(records, line, offset)

    def _placed(
        self, items: Iterable[Any], records: list[bytes], line: int, offset: int
    ) -> Iterator[Item]:
        """Return an iterator of *items* with the positions of their *records*."""
        offsets = accumulate(map(_with_line_end, map(len, records)), initial=offset)
        positions = map(_new_position, zip(repeat(self._source), count(line), offsets))
        return map(Item, items, positions)

    def _one_by_one(self, records: list[bytes], line: int, offset: int) -> list[Any]:
        """Convert *records*, with a failure for each that cannot be."""
        items = []
        for record in records:
            items.append(self._item(record, line, offset))
            line += 1
            offset += len(record) + 1
        return items

    def _item(self, record: bytes, line: int, offset: int) -> Any:
        if len(record) > self._limit:
            return self._too_long(record, line, offset)
        position = RecordPosition(self._source, line, offset)
        try:
            item = self._converter.one(record)
        except Exception as error:
            return Failure(error, record, position)
        return Item(item, position) if self._positions else item

    def _too_long(self, head: bytes, line: int, offset: int) -> Failure:
        error = RecordTooLongError(
            f"record {line} of {self._source}, at byte {offset}, is longer than {self._limit} "
            "bytes; the rest of it was skipped; the option limit says how long one may be"
        )
        return Failure(error, head[:HEAD], RecordPosition(self._source, line, offset))


def splitting(limit: int, converter: Converter) -> Callable[..., Splitter]:
    """
    Return what makes a :class:`Splitter` of a source.

    Raises:
        ConfigError: no record could be as short as *limit*.
    """
    return partial(Splitter, limit=checked_limit(limit), converter=converter)


def checked_limit(limit: int) -> int:
    """Return *limit*, or raise :exc:`~m3.errors.ConfigError` if no record could be as short."""
    if limit < 1:
        raise ConfigError(f"limit={limit}: a record must be allowed to have 1 byte at least")
    return limit


def check_line_end(
    name: str, line: int, offset: int, following: bytes, line_ends: Sequence[bytes] = (b"\n",)
) -> None:
    r"""
    Raise :exc:`~m3.errors.StateError` if a record goes on that an earlier run took for ended.

    Args:
        name: of its file.
        line: that of the next record.
        offset: where its line end may come.
        following: the byte there; empty if there is none yet.
        line_ends: what it may be.
    """
    if following and following not in line_ends:
        raise StateError(
            f"{name}: line {line - 1} was the last one and had no line end, so it was "
            f"delivered as it was; now it goes on at byte {offset}; end that line there, or "
            "begin anew with --from-start"
        )
