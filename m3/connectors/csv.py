r"""
``csv``: records with a header, one per line.

The frontend makes a dictionary of text of each record.  An empty field is the
empty text, nothing is taken for a number.  Lines end with ``\n``, ``\r\n`` or
``\r``; within quotes they are part of the field.  Empty lines are passed over.

Quotes are taken strictly, as RFC 4180 has them: they stand around a whole field
or not at all, and within are doubled.  A record whose quotes are wrong, and one
that is too long, is a failure with its first line as the value, and the next
line begins the next record.  (If it was a field of several lines that went
wrong, its further lines are read as records; mostly they are failures then, as
they have too few fields.)  A record with too few or too many fields, with a NUL
byte or with bytes that are not in the encoding is a failure with all of it as
the value, in bytes, and reading goes on behind it.

The backend writes mappings.  A regular file is replaced as a whole when the run
has ended well, as by ``file``; with ``append``, and where state is kept, it is
written to directly.

Delivery: the frontend goes on behind a record in a file; standard input and
FIFOs cannot be read again.  In a run with state, the backend cuts the file
back to where it was at the last checkpoint, so it delivers effectively once.
Without state, and with replacement, an item counts as delivered when it is
written, and all are lost together if the process dies before the end.
"""

import codecs
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from m3.connectors._cells import Cells, columns_of
from m3.connectors._dialect import Dialect
from m3.connectors._growing import Growing
from m3.connectors._marks import fingerprint, hash_of_names, same_files, same_until, values_of
from m3.connectors._quoting import Quoting
from m3.connectors._reading import FilePath, Source, check_readable, open_path, open_stdin
from m3.connectors._records import RECORD_LIMIT
from m3.connectors._rows import RowPosition, Rows, checked_columns
from m3.connectors._sinks import Sink, Stdout, open_sink
from m3.connectors._wakeup import Wakeup
from m3.errors import BatchError, ConfigError, StateError
from m3.policies import Batch
from m3.stages import Backend, Frontend

__all__ = ("CsvBackend", "CsvFrontend")


class CsvFrontend(Frontend[Any]):
    """
    Read records of CSV files as dictionaries.

    Args:
        path: the file, or a list of files, each with its header; - is standard input.
        header: True if the first record has the names of the columns, or a list of names.
        delimiter: what stands between two fields.
        quotechar: what stands around a field; None if nothing does.
        encoding: of the files; in UTF-8, a byte order mark is passed over.
        limit: the most bytes of a record; a longer one is a failure.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would each get pieces of the other's records."""

    def __init__(
        self,
        *,
        path: FilePath | Sequence[FilePath] = "-",
        header: bool | Sequence[str] = True,
        delimiter: str = ",",
        quotechar: str | None = '"',
        encoding: str = "utf-8",
        limit: int = RECORD_LIMIT,
    ) -> None:
        if limit < 1:
            raise ConfigError(f"limit={limit}: a record must be allowed to have 1 byte at least")
        self._paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        if not self._paths:
            raise ConfigError("path: no file is named")
        if header is False or isinstance(header, str):
            raise ConfigError(f"header={header!r}: it is True, or a list of the names")
        self._columns = None if header is True else checked_columns(header, "header")
        self._dialect = Dialect(delimiter=delimiter, quotechar=quotechar, encoding=encoding)
        self._limit = limit
        self._wakeup = Wakeup()
        self._start: RowPosition | None = None

    @property
    def can_resume(self) -> bool:
        """Whether all that is read can be read again: not standard input, and no FIFO."""
        return not any(path == "-" or is_stream(path) for path in self._paths)

    def setup(self) -> None:
        """
        Check that the files are there, can be read, and have a header that can be used.

        Raises:
            ConfigError: two columns of a header have the same name, or it cannot be read.
        """
        for number, path in enumerate(self._paths):
            if path != "-":
                check_readable(path)
                if not is_stream(path):
                    self._header(number)
        self._wakeup.open()

    def produce(self) -> Iterator[Any]:
        """Return an iterator of the records; it blocks while there is no input."""
        return chain.from_iterable(self._lists())

    def stop(self) -> None:
        """Wake :meth:`produce` from a blocking read at once."""
        self._wakeup.set()

    def cleanup(self) -> None:
        """Release what a wake-up needs."""
        self._wakeup.close()

    def checkpoint(self, position: Any) -> dict[str, Any] | None:
        """Return where the next record begins, and by what to recognise what stands before."""
        if not self.can_resume:
            return None
        place = RowPosition(*position)
        path = os.fspath(self._paths[place.file])
        return {
            "file": place.file,
            "path": path,
            "names": hash_of_names(self._paths[: place.file + 1]),
            "line": place.next_line,
            "offset": place.end,
            "rest": place.rest,
            "fingerprint": fingerprint(path, place.end),
        }

    def resume(self, checkpoint: Any) -> None:
        """
        Begin behind the record of *checkpoint*, if the files up to there are the same.

        Raises:
            StateError: they are not, or they cannot be read again.
        """
        if checkpoint is None:
            return
        if not self.can_resume:
            raise StateError("standard input and FIFOs cannot be read again from a checkpoint on")
        file, path, names, line, offset, rest, expected = values_of(
            checkpoint,
            file=int,
            path=str,
            names=str,
            line=int,
            offset=int,
            rest=bool,
            fingerprint=str,
        )
        same_files(self._paths, file, path, names)
        same_until(path, offset, expected)
        if not rest and not begins_line(path, offset):
            self._check_size(path, offset)
        self._start = RowPosition(path, line, offset, line, offset, rest, file)

    def _check_size(self, path: str, offset: int) -> None:
        """Check that the last record, which had no line end, has not got longer."""
        if Path(path).stat().st_size > offset:
            raise StateError(
                f"{path} was written to: an earlier run has come to byte {offset}, then the end "
                "of the file, and now no end of a line; begin again without the kept state"
            )

    def _lists(self) -> Iterator[list[Any]]:
        first = self._start.file if self._start else 0
        for number in range(first, len(self._paths)):
            with self._opened(number) as source:
                place = self._start if self._start and number == first else None
                rows, quoting = self._begun(source, number, place)
                for block in source.blocks(self._wakeup):
                    yield from map(rows.items, quoting.feed(block))
            if self._wakeup.is_set():
                return
            yield from map(rows.items, quoting.end())

    def _opened(self, number: int) -> AbstractContextManager[Source]:
        path = self._paths[number]
        return open_stdin() if path == "-" else open_path(path)

    def _begun(
        self, source: Source, number: int, place: RowPosition | None
    ) -> tuple[Rows, Quoting]:
        """Return what makes items of *source*, which is wound to *place* if that is given."""
        columns = self._columns
        where: dict[str, Any] = {}
        if place is not None:
            columns = columns or self._header(number)
            assert source.descriptor is not None, "standard input cannot be gone on with"
            os.lseek(source.descriptor, place.end, os.SEEK_SET)
            where = {"line": place.line, "offset": place.end, "rest": place.rest}
        quoting = Quoting(source.name, self._dialect, limit=self._limit, **where)
        positions = self.wants_positions
        rows = Rows(source.name, self._dialect, columns=columns, positions=positions, file=number)
        return rows, quoting

    def _header(self, number: int) -> list[str] | None:
        """Return the columns of a regular file; None if it is empty."""
        return self._columns or read_header(self._paths[number], self._dialect, self._limit)


class CsvBackend(Backend[Any]):
    """
    Write mappings to a CSV file.

    Args:
        path: the file, or - for standard output.
        columns: the keys, in their order; without them, those of the first item.
        delimiter: what stands between two fields.
        header: begin the file with the names of the columns.
        escape_formulas: put a quote (') before text that begins with = + - @ or a
            tab or line end, which spreadsheets would take for a formula.
        encoding: of the file; utf-8-sig is UTF-8 with a byte order mark.
        append: write to the end of the file, as the items come.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would write into each other's records."""

    batch: ClassVar[Batch | None] = Batch(count=1024)
    """What is waiting, without waiting for more."""

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
        self._path = path
        self._given = None if columns is None else checked_columns(columns, "columns")
        self._header = header
        self._append = append
        self._dialect = Dialect(delimiter=delimiter, quotechar='"', encoding=encoding)
        self._cells = Cells(self._dialect, escape_formulas=escape_formulas)
        self._wants_bom = codecs.lookup(encoding).name == "utf-8-sig"
        self._columns = self._given
        self._is_empty = True
        self._keeps_state = False

    @property
    def can_resume(self) -> bool:
        """Whether what is written can be cut back: not on standard output or in a FIFO."""
        return not (self._path == "-" or is_stream(self._path))

    @property
    def keeps_at_end(self) -> bool:
        """Whether, unless it is resumed, the file is put in its place at the end only."""
        return not self._append and self.can_resume

    def setup(self) -> None:
        """
        Open the target.

        Raises:
            ConfigError: the file that is added to has other columns.
        """
        self._sink: Sink
        if self._path == "-":
            self._sink = Stdout()
        elif self._append and not is_stream(self._path):
            self._sink = self._opened_at_its_end()
        else:
            self._sink = open_sink(self._path, append=False)
        self._begin()

    def process_batch(self, items: list[Any]) -> None:
        """Write *items*; one that does not fit fails by itself."""
        errors: dict[int, Exception] = {}
        lines = []
        for index, item in enumerate(items):
            try:
                columns = self._columns or self._columns_of(item)
                lines.append(self._cells.line(item, columns))
                self._columns = columns
            except Exception as error:
                errors[index] = error
        if lines:
            self._write(b"".join(lines))
        if errors:
            raise BatchError(errors)

    def commit(self) -> dict[str, Any] | None:
        """Make what was written durable; return the length of the file, and what is in it."""
        if not isinstance(self._sink, Growing):
            return None
        self._sink.commit()
        if not self._keeps_state:
            return None
        length = self._sink.length
        expected = fingerprint(self._path, length)
        return {"columns": self._columns or [], "length": length, "fingerprint": expected}

    def resume(self, mark: Any) -> None:
        """
        Cut the file to the length that it had at *mark*, and write to it directly.

        Without a mark it begins empty or, with ``append``, behind what is there.

        Raises:
            StateError: the file is another one, or is to have other columns.
        """
        if not self.can_resume:
            return
        self._keeps_state = True
        if self._append and mark is None:
            return
        length = 0
        if mark is not None:
            columns, length, expected = values_of(mark, columns=list, length=int, fingerprint=str)
            same_until(self._path, length, expected)
            if self._given and columns != self._given:
                raise StateError(
                    f"{self._path} has the columns {', '.join(columns)}, and is now to have "
                    f"{', '.join(self._given)}; begin again without the kept state"
                )
            self._columns = columns or None
        self._sink.close(keep=False)
        self._sink = Growing(self._path, length=length)
        self._is_empty = not length
        self._begin()

    def cleanup(self) -> None:
        """End the output, as far as the run came."""
        self._sink.close(keep=not self.failed)

    def _opened_at_its_end(self) -> Growing:
        """Return the file that is added to, whose last line is ended if it was not."""
        file = Growing(self._path, length=None)
        try:
            self._is_empty = not file.length
            if file.length:
                self._go_on_with_columns()
                if not begins_line(self._path, file.length):
                    file.write(b"\n")
        except BaseException:
            file.close(keep=False)
            raise
        return file

    def _go_on_with_columns(self) -> None:
        """Take the columns that the file has, if it has a header."""
        columns = None
        if self._header:
            columns = read_header(self._path, self._dialect, RECORD_LIMIT)
        if self._given and columns and self._given and self._given != columns:
            raise ConfigError(
                f"{self._path} has the columns {', '.join(columns)}, so none can be added to "
                f"it that have {', '.join(self._given)}"
            )
        self._columns = columns or self._given

    def _columns_of(self, item: Any) -> list[str]:
        """Return the columns of the first item, if they can be written."""
        columns = columns_of(item)
        self._cells.header(columns)
        return columns

    def _begin(self) -> None:
        """Write the header, if it is known already."""
        if self._is_empty and self._header and self._columns:
            self._write(b"")

    def _write(self, lines: bytes) -> None:
        """Write *lines*, behind the header if they are the first."""
        if self._is_empty:
            if self._header and self._columns:
                lines = self._cells.header(self._columns) + lines
            # Text that begins with the character of a mark needs one to be read as it is.
            if self._wants_bom or (self._dialect.bom and lines.startswith(self._dialect.bom)):
                lines = self._dialect.bom + lines
        self._sink.write(lines)
        self._is_empty = False


def read_header(path: FilePath, dialect: Dialect, limit: int) -> list[str] | None:
    """
    Return the columns that the regular file at *path* names; None if it is empty.

    Raises:
        ConfigError: two have the same name, or its header cannot be read.
    """
    with open_path(path) as source:
        rows = Rows(source.name, dialect, columns=None, positions=False, file=0)
        quoting = Quoting(source.name, dialect, limit=limit)
        while rows.columns is None and (block := source.read(64 * 1024)):
            for found in quoting.feed(block):
                rows.items(found)
        for found in quoting.end() if rows.columns is None else ():
            rows.items(found)
        return rows.columns


def is_stream(path: FilePath) -> bool:
    """Say whether *path* is there and is no regular file, or stands for a descriptor."""
    if os.fspath(path).startswith(("/dev/", "/proc/")):
        return True
    return Path(path).exists() and not Path(path).is_file()


def begins_line(path: FilePath, offset: int) -> bool:
    """Say whether what stands at *offset*, or may be written there, is the beginning of a line."""
    with Path(path).open("rb") as file:
        return offset == 0 or os.pread(file.fileno(), 1, offset - 1) in (b"\n", b"\r")
