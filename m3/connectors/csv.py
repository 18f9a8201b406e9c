r"""
``csv``: records with a header, one per line.

The frontend makes a dictionary of text of each record.  An empty field is the
empty text, nothing is taken for a number.  Lines end with ``\n``, ``\r\n`` or
``\r``; within quotes they are part of the field.  Empty lines are passed over.
It reads one file after the other, as ``file`` does, compressed ones too; each
has its own header.

Quotes are taken strictly, as RFC 4180 has them: they stand around a whole field
or not at all, and within are doubled.  A record whose quotes are wrong, and one
that is too long, is a failure with its first line as the value, and the next
line begins the next record.  (If it was a field of several lines that went
wrong, its further lines are read as records; mostly they are failures then, as
they have too few fields.)  A record with too few or too many fields, with a NUL
byte or with bytes that are not in the encoding is a failure with all of it as
the value, in bytes, and reading goes on behind it.

The backend writes mappings to a file, as ``file`` does: as a whole at the end,
unless it appends or state is kept.  A path with fields, as
``out/{country}/{day}.csv``, makes a file of its own for all items that have
these in common; each begins with a header, and all have the same columns.
Before ``append`` adds to a file, a last record without a line end gets one, and
before it a quote if it ends within quotes, as a torn one may; the file is read
once to see that.

Delivery: as of ``file`` and ``stdin``, ``stdout``.  Files of a path with fields
are gone on with too.
"""

import codecs
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from m3.connectors._csv.cells import Cells, columns_of
from m3.connectors._csv.dialect import Dialect
from m3.connectors._csv.header import read_header
from m3.connectors._csv.rows import LINE_ENDS, RowSplitter, checked_columns
from m3.connectors._csv.torn import record_end
from m3.connectors._input.compression import MAX_OUTPUT, MAX_RATIO, Compression, Decompression
from m3.connectors._input.files import FilesFrontend
from m3.connectors._input.records import RECORD_LIMIT, checked_limit
from m3.connectors._marks import values_of
from m3.connectors._output.in_place import InPlace
from m3.connectors._output.templated import TemplatedFiles
from m3.connectors._output.templates import Template
from m3.connectors._output.tree import Names
from m3.connectors._output.writing import FileRecordBackend
from m3.connectors._paths import FilePath, FilePaths, is_stream
from m3.errors import ConfigError, StateError

__all__ = ("CsvBackend", "CsvFrontend")


class CsvFrontend(FilesFrontend):
    """
    Read records of CSV files as dictionaries.

    Args:
        path: the file, or - for standard input; or a directory, a pattern, or
            a list, as of the frontend file.
        header: True if the first record has the names of the columns, or a list of names.
        delimiter: what stands between two fields.
        quotechar: what stands around a field; None if nothing does.
        encoding: of the files; in UTF-8, a byte order mark is passed over.
        limit: the most bytes of a record; a longer one is a failure.
        compression: of the files, gzip, bz2, xz, zstd or none; auto knows it
            by the first bytes.
        max_ratio: end the run if compressed input becomes so many times as
            long, and more than 1 MiB.
        max_output: end the run if one compressed file holds more bytes.
    """

    standard_input = "-"
    line_ends = LINE_ENDS

    def __init__(
        self,
        *,
        path: FilePaths = "-",
        header: bool | Sequence[str] = True,
        delimiter: str = ",",
        quotechar: str | None = '"',
        encoding: str = "utf-8",
        limit: int = RECORD_LIMIT,
        compression: Compression = "auto",
        max_ratio: float = MAX_RATIO,
        max_output: int = MAX_OUTPUT,
    ) -> None:
        if header is False or isinstance(header, str):
            raise ConfigError(f"header={header!r}: it is True, or a list of the names")
        self._columns = None if header is True else checked_columns(header, "header")
        dialect = Dialect(delimiter=delimiter, quotechar=quotechar, encoding=encoding)
        limit = checked_limit(limit)
        super().__init__(
            path=path,
            splitter=self._rows,
            compression=compression,
            max_ratio=max_ratio,
            max_output=max_output,
        )
        self._make_rows = partial(RowSplitter, dialect=dialect, limit=limit)
        self._read_header = partial(
            read_header,
            dialect=dialect,
            limit=limit,
            decompression=self._decompression,
        )

    def check(self, path: str) -> None:
        """
        Raise what reading the file would raise, also if its header cannot be used.

        Raises:
            ConfigError: two of its columns have the same name, or it cannot be read.
        """
        super().check(path)
        if not is_stream(path):
            self._header(path)

    def _rows(self, source: str, *, offset: int = 0, **where: Any) -> RowSplitter:
        """Return what splits a file, of which the first *offset* bytes are not read."""
        columns = self._header(source) if offset else self._columns
        return self._make_rows(source, columns=columns, offset=offset, **where)

    def _header(self, path: str) -> list[str] | None:
        """Return the columns of a regular file; None if it has no record."""
        return self._columns or self._read_header(path)


class CsvBackend(FileRecordBackend):
    """
    Write mappings to a CSV file.

    Args:
        path: the file, or - for standard output; with fields of the items, as
            in out/{country}/{day}.csv, one of many files.
        columns: the keys, in their order; without them, those of the first item.
        delimiter: what stands between two fields.
        header: begin the file with the names of the columns.
        escape_formulas: put a quote (') before text that begins with = + - @ or a
            tab or line end, which spreadsheets would take for a formula.
        encoding: of the file; utf-8-sig is UTF-8 with a byte order mark.
        append: write to the end of the file, as the items come; not with fields.
    """

    standard_output = "-"
    items_have_fields = True
    takes_records = False

    def __init__(
        self,
        *,
        path: FilePath = "-",
        columns: Sequence[str] | None = None,
        delimiter: str = ",",
        header: bool = True,
        escape_formulas: bool = False,
        encoding: str = "utf-8",
        append: bool = False,
    ) -> None:
        super().__init__(self._line, path=path, append=append)
        if append and isinstance(self._path, Template):
            raise ConfigError(
                f"path={os.fspath(path)!r}: with append it can have no fields, for each file that "
                "is there may have other columns; leave append out, or name one file"
            )
        self._given = None if columns is None else checked_columns(columns, "columns")
        self._header = header
        self._dialect = Dialect(delimiter=delimiter, quotechar='"', encoding=encoding)
        self._cells = Cells(self._dialect, escape_formulas=escape_formulas)
        self._wants_bom = codecs.lookup(encoding).name == "utf-8-sig"
        self._columns = self._given
        self._is_empty = True

    def setup(self) -> None:
        """
        Open the target; of many files, only the directory.

        Raises:
            ConfigError: the file that is added to has other columns.
        """
        self._columns, self._is_empty = self._given, True
        super().setup()
        if self._many is not None:
            return
        try:
            if self._append and self.can_resume:
                self._take_columns(Path(str(self._path)))
            self._begin()
        except BaseException:
            self._sink.close(keep=False)
            raise

    def write(self, lines: bytes) -> None:
        """Write whole *lines*, behind the header if they are the first."""
        super().write(self._begun(lines) if self._is_empty else lines)
        self._is_empty = False

    def write_below(self, files: TemplatedFiles, names: Names, lines: bytes) -> None:
        """Write whole *lines* to one of many *files*, behind the header if they are its first."""
        super().write_below(files, names, self._begun(lines) if files.is_new(names) else lines)

    def commit(self) -> dict[str, Any] | None:
        """Make durable what was written; in a run with state, return the mark of it."""
        mark = super().commit()
        return None if mark is None else {"columns": self._columns or [], "written": mark}

    def resume(self, mark: Any) -> None:
        """
        From here on write to the file itself; cut off what came after *mark*.

        Without a mark a file begins empty or, with ``append``, goes on behind
        what is there.

        Raises:
            StateError: a file is not as it was then, or is to have other columns.
        """
        if not self.can_resume:
            return
        written = None
        if mark is not None:
            kind = list if self._many is None else dict
            columns, written = values_of(mark, columns=list, written=kind)
            self._check_columns(columns)
            self._columns = columns or self._given
        super().resume(written)
        if self._many is None:
            assert isinstance(self._sink, InPlace)
            self._is_empty = self._sink.is_empty
            self._begin()

    def _check_columns(self, columns: list[str]) -> None:
        """Check that the columns that an earlier run has written are those that are wanted."""
        if self._given and columns != self._given:
            raise StateError(
                f"{self._path} has the columns {', '.join(columns)}, and is now to have "
                f"{', '.join(self._given)}; begin anew with --from-start"
            )

    def lacking(self, descriptor: int) -> bytes:
        """Return what ends the last record of a file that is there, before any is added."""
        return record_end(descriptor, self._dialect)

    def _take_columns(self, path: Path) -> None:
        """Take the columns that the file has, if it has a header, before it is added to."""
        self._is_empty = not path.stat().st_size
        if self._is_empty or not self._header:
            return
        columns = read_header(
            path, self._dialect, limit=RECORD_LIMIT, decompression=Decompression("none")
        )
        if self._given and columns and self._given != columns:
            raise ConfigError(
                f"{path} has the columns {', '.join(columns)}, so none can be added to "
                f"it that have {', '.join(self._given)}"
            )
        self._columns = columns or self._given

    def _line(self, item: Any) -> bytes:
        """Return the line of *item*; the first one that has a line gives the columns."""
        columns = self._columns or self._columns_of(item)
        line = self._cells.line(item, columns)
        self._columns = columns
        return line

    def _columns_of(self, item: Any) -> list[str]:
        """Return the columns of the first item, if they can be written."""
        columns = columns_of(item)
        self._cells.header(columns)
        return columns

    def _begin(self) -> None:
        """Write the header, if it is known already."""
        if self._is_empty and self._header and self._columns:
            self.write(b"")

    def _begun(self, lines: bytes) -> bytes:
        """Return what a file that begins with *lines* begins with."""
        if self._header and self._columns:
            lines = self._cells.header(self._columns) + b"\n" + lines
        # Text that begins with the character of a mark needs one to be read as it is.
        if self._wants_bom or (self._dialect.bom and lines.startswith(self._dialect.bom)):
            lines = self._dialect.bom + lines
        return lines
