"""From mappings to the lines of a CSV file."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from m3.connectors._csv.dialect import Dialect
from m3.connectors._csv.rows import checked_columns
from m3.errors import abridged

__all__ = ("Cells", "columns_of")

NO_CELL = (bytes, bytearray, memoryview, Mapping, list, tuple, set, frozenset)

QUICK = {str, int, float, bool, type(None)}
"""Of what is a cell, what most cells are."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets take for the beginning of a formula, or pass over before one."""


class Cells:
    """
    Makes lines of mappings.

    Args:
        dialect: how the file is written.
        escape_formulas: whether to put a ``'`` before text that a spreadsheet
            would take for a formula.
    """

    def __init__(self, dialect: Dialect, *, escape_formulas: bool) -> None:
        self._encoding = dialect.encoding
        self._escape = escape_formulas
        self._lines: list[str] = []
        # It quotes line ends if they are of those that it writes, and the line
        # of a mapping is to end with \n.
        writer = csv.writer(
            self, delimiter=dialect.separator.decode(self._encoding), lineterminator="\r\n"
        )
        self._write_row = writer.writerow

    def write(self, line: str) -> None:
        """Take a line from the csv module."""
        self._lines.append(line)

    def header(self, columns: Sequence[str]) -> bytes:
        """
        Return the line that names *columns*, without its end.

        Raises:
            ValueError: a name cannot be written.
        """
        return self._line([self._cell(name) for name in columns])

    def line(self, item: Any, columns: Sequence[str]) -> bytes:
        """
        Return the line of a mapping, without its end; what it has not is empty.

        Raises:
            TypeError: it is no mapping, or has a value that is no cell.
            ValueError: it has a key that is no column, or text that cannot be written.
        """
        if not isinstance(item, Mapping):
            raise TypeError(f"a mapping can be written, not {abridged(item)}")
        cells = [self._cell(item.get(name)) for name in columns]
        if unknown := item.keys() - columns:
            raise ValueError(
                f"no column is called {abridged(sorted(map(str, unknown)))}; "
                f"there are: {', '.join(columns)}"
            )
        return self._line(cells)

    def _cell(self, value: Any) -> Any:
        if type(value) in QUICK and not self._escape:
            return value
        if isinstance(value, NO_CELL):
            raise TypeError(f"a cell is text, a number or a date, not {abridged(value)}")
        if self._escape and isinstance(value, str) and value.startswith(FORMULA):
            return f"'{value}"
        return value

    def _line(self, cells: list[Any]) -> bytes:
        self._write_row(cells)
        line = self._lines.pop()
        if "\0" in line:
            raise ValueError("a NUL character cannot be written, nobody could read it")
        return line[:-2].encode(self._encoding)


def columns_of(item: Any) -> list[str]:
    """
    Return the columns that *item* has.

    Raises:
        TypeError: it is no mapping, or its keys are no text.
        ConfigError: it has none.
    """
    if not isinstance(item, Mapping):
        raise TypeError(f"a mapping can be written, not {abridged(item)}")
    if not all(isinstance(name, str) for name in item):
        raise TypeError(f"columns have text for names, and not all of {abridged(list(item))} is")
    return checked_columns(item, "the first item")
