"""From CSV records to dictionaries, with a failure for each record that makes none."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from m3.connectors._dialect import BLANK, Dialect, line_ends
from m3.connectors._quoting import Spoilt, Stretch, unended
from m3.errors import ConfigError, MalformedRecordError
from m3.stages import Failure, Item

__all__ = ("RowPosition", "Rows", "checked_columns")


class RowPosition(NamedTuple):
    """Where a record stands in its file, and where the next one begins."""

    source: str
    """The path of the file, or ``"stdin"``."""
    line: int
    """The line on which it begins, from 1."""
    offset: int
    """The number of bytes before it."""
    next_line: int
    """The line on which the next one begins."""
    end: int
    """The number of bytes before the next one."""
    rest: bool = False
    """Whether the rest of a line is to be passed over before the next one."""
    file: int = 0
    """The number of the file in the list of all, from 0."""


class Rows:
    """
    Makes items of the records of one file.

    Args:
        source: what the file is called in positions.
        dialect: how it is written.
        columns: the keys; None takes them from the first record.
        positions: whether to put the dictionaries into an :class:`~m3.stages.Item`.
        file: the number of the file.

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
        file: int,
    ) -> None:
        self.columns = columns
        self._source = source
        self._dialect = dialect
        self._positions = positions
        self._file = file

    def items(self, found: Stretch | Spoilt) -> list[Any]:
        """
        Return the items and failures that *found* makes.

        Raises:
            ConfigError: the columns cannot be taken from it.
        """
        if isinstance(found, Spoilt):
            if self.columns is None:
                raise ConfigError(f"the header cannot be used: {found.error}") from found.error
            position = self._position(found.line, found.offset, found.next_line, found.end)
            return [Failure(found.error, found.record, position._replace(rest=found.rest))]
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
        file, source, width = self._file, self._source, len(columns)
        for record, row in zip(found.records, rows, strict=True):
            next_line, end = line + line_ends(record), offset + len(record)
            if row:
                position = RowPosition(source, line, offset, next_line, end, False, file)
                if self._positions and isinstance(row, list) and len(row) == width:
                    items.append(Item(dict(zip(columns, row, strict=True)), position))
                else:
                    items.append(self._item(record, row, position))
            line, offset = next_line, end
        return items

    def _item(self, record: bytes, row: list[str] | Exception, position: RowPosition) -> Any:
        columns = self.columns or []
        if isinstance(row, list) and len(row) != len(columns):
            row = MalformedRecordError(f"it has {len(row)} fields for {len(columns)} columns")
        if isinstance(row, Exception):
            row.add_note(f"in the record of {self._source} that begins on line {position.line}")
            return Failure(row, unended(record), position)
        value = dict(zip(columns, row, strict=True))
        return Item(value, position) if self._positions else value

    def _position(self, line: int, offset: int, next_line: int, end: int) -> RowPosition:
        return RowPosition(self._source, line, offset, next_line, end, file=self._file)


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
