"""From CSV records to dictionaries, with a failure for each record that makes none."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from m3.connectors._csv.dialect import BLANK, Dialect, line_ends
from m3.connectors._csv.quoting import Quoting, Spoilt, Stretch, unended
from m3.connectors._input.records import RecordPosition, check_line_end
from m3.errors import ConfigError, MalformedRecordError
from m3.stages import Failure, Item

__all__ = ("LINE_ENDS", "RowSplitter", "Rows", "checked_columns")


LINE_ENDS = (b"\n", b"\r")
"""What a line end can begin with."""


class RowSplitter:
    """
    Splits what a CSV file holds into records, and makes items of them.

    Args:
        source: what the file is called in positions.
        dialect: how it is written.
        limit: the most bytes of a record, without its line end.
        columns: the keys; None takes them from the first record.
        positions: whether to put the dictionaries into an :class:`~m3.stages.Item`.
        line: the line on which the first record begins.
        offset: the number of bytes before it.
        unended: whether they end with a record whose line end has not come yet.

    Attributes:
        line: the line on which the record begins that has not ended yet.
        offset: the number of bytes before it.
        last_line: the line on which the last record begins that was told.
        unended: whether that has no line end yet.
    """

    def __init__(
        self,
        source: str,
        *,
        dialect: Dialect,
        limit: int,
        columns: list[str] | None,
        positions: bool = False,
        line: int = 1,
        offset: int = 0,
        unended: bool = False,
    ) -> None:
        self.line = line
        self.offset = offset
        self.last_line = line - 1
        self.unended = unended
        self._source = source
        # The line end that has not come yet will be that of an empty line.
        self._quoting = Quoting(source, dialect, limit=limit, line=line - unended, offset=offset)
        self._rows = Rows(source, dialect, columns=columns, positions=positions)
        self._positions = positions

    @property
    def columns(self) -> list[str] | None:
        """The keys; None while they have not come yet."""
        return self._rows.columns

    def feed(self, block: bytes) -> list[Any]:
        """
        Return the items and failures of the records that end in *block*.

        Raises:
            ConfigError: the columns cannot be taken from the first record.
            StateError: the record that had no line end in an earlier run goes on.
        """
        if self.unended:
            check_line_end(self._source, self.line, self.offset, block[:1], LINE_ENDS)
            self.unended = False
        return self._items(self._quoting.feed(block))

    def end(self) -> list[Any]:
        """Return what is left: the last record may have no line end."""
        if self.unended:
            return []
        items = self._items(self._quoting.end())
        self.unended = self._quoting.unended
        if self.columns is None:  # a header that comes later is found from the beginning on
            self.line, self.offset, self.unended = 1, 0, False
        return items

    def _items(self, parts: Iterable[Stretch | Spoilt]) -> list[Any]:
        items = list(chain.from_iterable(map(self._rows.items, parts)))
        self.line, self.offset = self._quoting.line, self._quoting.offset
        if items and self._positions:
            self.last_line = items[-1].position.line
        return items


class Rows:
    """
    Makes items of the records of one file.

    Args:
        source: what the file is called in positions.
        dialect: how it is written.
        columns: the keys; None takes them from the first record.
        positions: whether to put the dictionaries into an :class:`~m3.stages.Item`.

    Attributes:
        columns: the keys; None while they have not come yet.
    """

    def __init__(
        self,
        source: str,
        dialect: Dialect,
        *,
        columns: list[str] | None,
        positions: bool,
    ) -> None:
        self.columns = columns
        self._source = source
        self._dialect = dialect
        self._positions = positions

    def items(self, found: Stretch | Spoilt) -> list[Any]:
        """
        Return the items and failures that *found* makes.

        Raises:
            ConfigError: the columns cannot be taken from it.
        """
        if isinstance(found, Spoilt):
            if self.columns is None:
                raise ConfigError(f"the header cannot be used: {found.error}") from found.error
            position = RecordPosition(self._source, found.line, found.offset)
            return [Failure(found.error, found.record, position)]
        if self.columns is None:
            found = self._take_header(found)
        if not found.records:
            return []
        return self._from_rows(found, self._fields(found.records))

    def _take_header(self, found: Stretch) -> Stretch:
        """Take the columns from the first record that is none; return what follows."""
        line, offset = found.line, found.offset
        for number, record in enumerate(found.records):
            fields = [] if record in BLANK else self._fields_of(record)
            if isinstance(fields, Exception):
                where = f"line {line} of {self._source}"
                raise ConfigError(f"the header, {where}, cannot be used: {fields}") from fields
            line += line_ends(record)
            offset += len(record)
            if fields:
                self.columns = checked_columns(fields, f"the header of {self._source}")
                return Stretch(found.records[number + 1 :], line, offset)
        return Stretch([], line, offset)

    def _fields(self, records: list[bytes]) -> Sequence[list[str] | Exception]:
        """Return the fields of each record, or what is wrong with it."""
        encoding = self._dialect.encoding
        try:
            texts = [record.decode(encoding) for record in records]
            rows = list(self._dialect.rows(texts))
        except (UnicodeError, csv.Error):
            return [self._fields_of(record) for record in records]
        if any(b"\0" in record for record in records):
            return [self._fields_of(record) for record in records]
        return rows

    def _fields_of(self, record: bytes) -> list[str] | Exception:
        if b"\0" in record:
            return MalformedRecordError("there is a NUL byte in it")
        try:
            return self._dialect.fields(record.decode(self._dialect.encoding))
        except UnicodeError as error:
            return error

    def _from_rows(self, found: Stretch, rows: Sequence[list[str] | Exception]) -> list[Any]:
        columns = self.columns or []
        if not self._positions and fit(rows, len(columns)):
            return [dict(zip(columns, row, strict=True)) for row in rows if row]  # type: ignore[arg-type]  # fit() has seen that they are lists
        items: list[Any] = []
        _, line, offset = found
        width = len(columns)
        for record, row in zip(found.records, rows, strict=True):
            if row:
                position = RecordPosition(self._source, line, offset)
                if self._positions and isinstance(row, list) and len(row) == width:
                    items.append(Item(dict(zip(columns, row, strict=True)), position))
                else:
                    items.append(self._item(record, row, position))
            line += line_ends(record)
            offset += len(record)
        return items

    def _item(self, record: bytes, row: list[str] | Exception, position: RecordPosition) -> Any:
        columns = self.columns or []
        if isinstance(row, list) and len(row) != len(columns):
            row = MalformedRecordError(f"it has {len(row)} fields for {len(columns)} columns")
        if isinstance(row, Exception):
            row.add_note(f"in the record of {self._source} that begins on line {position.line}")
            return Failure(row, unended(record), position)
        value = dict(zip(columns, row, strict=True))
        return Item(value, position) if self._positions else value


def fit(rows: Iterable[list[str] | Exception], width: int) -> bool:
    """Say whether each of *rows* has *width* fields, or none."""
    return all(isinstance(row, list) and len(row) in (0, width) for row in rows)


def checked_columns(names: Iterable[str], where: str) -> list[str]:
    """
    Return *names* as a list.

    Raises:
        ConfigError: there is none, or two are the same; it says so of *where*.
    """
    columns = list(names)
    if not columns:
        raise ConfigError(f"{where}: no column is named")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        named = ", ".join(map(repr, twice))
        raise ConfigError(f"{where}: each column needs a name of its own, there is twice: {named}")
    return columns
