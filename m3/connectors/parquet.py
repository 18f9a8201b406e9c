"""
``parquet``: rows of Parquet files, and rows to such files.

The frontend makes a dictionary of each row, or an item of each of Arrow's
batches.  It reads row group by row group, so memory stays flat.  A row group
that is damaged is one failure, and reading goes on behind it.

The backend writes mappings, and Arrow's batches, in parts: a part gets its name
when it is complete and durable, so nobody ever sees half of one.  A ``path``
that ends with ``.parquet`` is one file instead, which appears at the end of a
good run.  One with fields, as ``out/country={country}``, is a directory of parts
for all items that have these in common.  A schema that is not given is made of
the rows of the first row group; items that do not fit it, or would lose
something, fail by themselves.

Delivery: the frontend goes on behind a row.  The backend, in a run with state,
ends a part with each checkpoint and removes, when it goes on, the parts that
came later: effectively once.  So a short ``checkpoint_interval`` makes small
parts.  Without state, an item counts as delivered when it is gathered, and what
is in no part yet, or in one file, is lost if the run fails or the process dies.

Needs the extra ``arrow``.
"""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from m3.connectors._both_ends import Reading
from m3.connectors._input.reading import FilePath, check_readable
from m3.connectors._marks import hash_of_names, same_files, values_of
from m3.connectors._output.templates import Template, parse_path
from m3.connectors._output.tree import Names
from m3.connectors._parquet.arrow import arrow, identity, parquet, schema_of
from m3.connectors._parquet.parts import OneFile, Parts
from m3.connectors._parquet.writing import Form, Writing
from m3.errors import BatchError, ConfigError, MalformedRecordError, StateError
from m3.policies import Batch
from m3.stages import Backend, Failure, Frontend, Item

__all__ = ("ParquetBackend", "ParquetFrontend", "RowsPosition")

SUFFIX = ".parquet"
"""How the name of one file ends."""


class RowsPosition(NamedTuple):
    """Where rows stand."""

    source: str
    """The path of the file."""
    row: int
    """The number of the first of them, from 1."""
    rows: int = 1
    """How many there are."""
    file: int = 0
    """The number of the file in the list of all, from 0."""


class ParquetFrontend(Frontend[Any]):
    """
    Read rows of Parquet files.

    Args:
        path: a file, a pattern, a directory (all that ends with .parquet in and
            below it, sorted) or a list of such.
        columns: only these; without them all.
        batch_rows: how many rows are read at once.
        as_batches: make an item of each pyarrow.RecordBatch instead of each row.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would read the same rows."""

    def __init__(
        self,
        *,
        path: FilePath | Sequence[FilePath],
        columns: Sequence[str] | None = None,
        batch_rows: int = 1024,
        as_batches: bool = False,
    ) -> None:
        if batch_rows < 1:
            raise ConfigError(f"batch_rows={batch_rows}: at least 1 row is read at once")
        self._named = [path] if isinstance(path, str | os.PathLike) else list(path)
        self._parquet, self._arrow = parquet(), arrow()
        self._columns = None if columns is None else list(columns)
        self._batch_rows = batch_rows
        self._as_batches = as_batches
        self._start = RowsPosition("", 1, 0)
        self._identities: dict[int, tuple[int, str]] = {}
        self._reading = Reading()

    def setup(self) -> None:
        """
        Look for the files, and check that each is one and has the columns.

        Raises:
            ConfigError: there is none, it is no Parquet file, or has no such column.
        """
        self._paths = [file for path in self._named for file in files_of(os.fspath(path))]
        if not self._paths:
            raise ConfigError(f"path: {', '.join(map(str, self._named))}: there is no such file")
        for path in self._paths:
            check_readable(path)
            try:
                names = self._parquet.read_schema(path).names
            except self._arrow.ArrowException as error:
                raise ConfigError(f"{path} cannot be read as Parquet: {error}") from error
            if len(set(names)) < len(names) and not self._as_batches:
                raise ConfigError(f"{path} has columns of the same name; as_batches reads those")
            for name in set(self._columns or ()) - set(names):
                raise ConfigError(f"{path} has no column {name!r}; it has: {', '.join(names)}")
        self._reading.begin(self._paths)

    def cleanup(self) -> None:
        """Say that the files are read no more."""
        self._reading.end()

    def produce(self) -> Iterator[Any]:
        """Return an iterator of the rows, or of the batches."""
        return chain.from_iterable(self._lists())

    def checkpoint(self, position: Any) -> dict[str, Any]:
        """Return where the next row is, and by what to recognise its file."""
        place = RowsPosition(*position)
        size, footer = self._identity(place.file)
        return {
            "file": place.file,
            "path": self._paths[place.file],
            "names": hash_of_names(self._paths[: place.file + 1]),
            "row": place.row + place.rows,
            "size": size,
            "footer": footer,
        }

    def resume(self, checkpoint: Any) -> None:
        """
        Begin behind the row of *checkpoint*, if its file is the same.

        Raises:
            StateError: it is not, or other files are named before it.
        """
        if checkpoint is None:
            return
        file, path, names, row, size, footer = values_of(
            checkpoint, file=int, path=str, names=str, row=int, size=int, footer=str
        )
        same_files(self._paths, file, path, names)
        if self._identity(file) != (size, footer):
            raise StateError(
                f"{path} is not the file that an earlier run has read; put that back, or "
                "begin again without the kept state"
            )
        self._start = RowsPosition(path, row, 0, file)

    def _identity(self, number: int) -> tuple[int, str]:
        """Return by what a file is recognised."""
        if number not in self._identities:
            self._identities[number] = identity(self._paths[number])
        return self._identities[number]

    def _lists(self) -> Iterator[list[Any]]:
        for number in range(self._start.file, len(self._paths)):
            done = self._start.row - 1 if number == self._start.file else 0
            self._identity(number)
            with self._parquet.ParquetFile(self._paths[number]) as file:
                yield from self._groups(file, number, done)

    def _groups(self, file: Any, number: int, done: int) -> Iterator[list[Any]]:
        """Yield the items of all row groups, without the *done* first rows of the file."""
        behind = 0
        for group in range(file.num_row_groups):
            first, behind = behind, behind + file.metadata.row_group(group).num_rows
            if behind <= done:
                continue
            at = max(first, done)
            for found in self._batches(file, group, at - first):
                rows = found.num_rows if hasattr(found, "num_rows") else behind - at
                place = RowsPosition(self._paths[number], at + 1, rows, number)
                yield self._items(found, place)
                at += rows

    def _batches(self, file: Any, group: int, skip: int) -> Iterator[Any]:
        """Yield the batches of a row group without its *skip* first rows; last, what is wrong."""
        try:
            for batch in file.iter_batches(
                self._batch_rows, row_groups=[group], columns=self._columns, use_threads=False
            ):
                rest = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - rest.num_rows
                if rest.num_rows:
                    yield rest
        except (self._arrow.ArrowException, OSError) as error:
            yield error

    def _items(self, found: Any, place: RowsPosition) -> list[Any]:
        """Return the items that *found* makes, which is a batch, or why there is none."""
        if isinstance(found, Exception):
            message = f"{place.rows} rows of {place.source} from row {place.row} on cannot be read"
            error = MalformedRecordError(f"{message}: {found}")
            error.__cause__ = found
            return [Failure(error, None, place)]
        if self._as_batches:
            return [Item(found, place) if self.wants_positions else found]
        try:
            values = found.to_pylist()
        except Exception:
            return [self._item(found.slice(n, 1), n, place) for n in range(found.num_rows)]
        if not self.wants_positions:
            return values  # type: ignore[no-any-return]  # Arrow is not typed
        return [Item(value, row_of(place, n)) for n, value in enumerate(values)]

    def _item(self, batch: Any, number: int, place: RowsPosition) -> Any:
        """Return the item that a batch of one row makes."""
        position = row_of(place, number)
        try:
            (value,) = batch.to_pylist()
        except Exception as error:
            return Failure(error, None, position)
        return Item(value, position) if self.wants_positions else value


class ParquetBackend(Backend[Any]):
    """
    Write mappings, or Arrow's batches, to Parquet files.

    Args:
        path: a directory for parts; with fields of the items, as in
            out/country={country}, one of many; or, ending with .parquet, one file.
        schema: a pyarrow.Schema, or the names of columns with their types, as
            {id: int64, name: string}; without it, that of the first rows of
            each directory.
        rows_per_file: how many rows a part has.
        rows_per_group: how many rows a row group has, at most.
        compression: zstd, snappy, gzip, brotli, lz4 or none.
        append: add parts to a directory that has some already.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would number the same parts."""

    batch: ClassVar[Batch | None] = Batch(count=1024)
    """What is waiting, without waiting for more."""

    def __init__(
        self,
        *,
        path: FilePath,
        schema: Any = None,
        rows_per_file: int = 1_000_000,
        rows_per_group: int = 65_536,
        compression: str = "zstd",
        append: bool = False,
    ) -> None:
        if rows_per_file < 1 or rows_per_group < 1:
            raise ConfigError("rows_per_file, rows_per_group: there is at least 1 row in each")
        self._form = Form(
            schema_of(schema), rows_per_file, rows_per_group, checked_compression(compression)
        )
        self._append = append
        self._path = parse_path(os.fspath(path).rstrip("/") or "/")
        self._is_one_file = is_one_file(self._path)
        if self._is_one_file and append:
            raise ConfigError(f"append: nothing can be added to {path}; name a directory")

    @property
    def keeps_at_end(self) -> bool:
        """Whether there is only one file, which is put in its place at the end."""
        return self._is_one_file

    @property
    def can_resume(self) -> bool:
        """Whether there are parts, which can be removed again."""
        return not self._is_one_file

    def setup(self) -> None:
        """
        Claim the directory, and look whether parts can be written into it.

        Raises:
            StateError: another run writes there.
            ConfigError: it has parts already.
        """
        self._first = 0
        self._is_sure = False
        self._target = self._made_target()
        self._writing = Writing(self._target, self._form)
        self._target.open()
        if not (isinstance(self._target, Parts) and self._target.belongs_to_state):
            try:
                self._make_sure()
            except BaseException:
                self._target.close()
                raise

    def process_batch(self, items: list[Any]) -> None:
        """Add *items* to the parts that are written; one that does not fit fails by itself."""
        self._make_sure()
        errors: dict[int, Exception] = {}
        for folders, numbers in self._by_folder(items, errors).items():
            wrong = self._writing.add(folders, [items[number] for number in numbers])
            errors |= {numbers[index]: error for index, error in wrong.items()}
        if errors:
            raise BatchError(errors)

    def commit(self) -> dict[str, Any] | None:
        """
        End all parts, and return which parts there are.

        One file is durable at the end only.
        """
        self._make_sure()
        target = self._target
        if not isinstance(target, Parts):
            return None
        self._writing.end()
        self._writing.publish()
        if not self._writing.keeps_state:
            return None
        return {"writer": target.writer, "first": self._first, "next": target.next}

    def resume(self, mark: Any) -> None:
        """
        Remove the parts that came after *mark*.

        Raises:
            StateError: parts that came before are missing.
            ConfigError: the directory has parts of others.
        """
        if not isinstance(self._target, Parts):
            return
        if mark is None:
            self._target.begin()
            if not self._append:
                self._target.refuse_others()
            self._first = self._target.next
        else:
            writer, self._first, behind = values_of(mark, writer=str, first=int, next=int)
            self._target.go_back(writer, self._first, behind)
        self._writing.keeps_state = self._is_sure = True

    def cleanup(self) -> None:
        """End the last parts and put them in their places, unless the run has failed."""
        try:
            if not self.failed:
                self._make_sure()
                self._writing.end()
                self._writing.publish()
        finally:
            self._writing.discard()
            self._target.close()

    def _made_target(self) -> OneFile | Parts:
        if isinstance(self._path, Template):
            return Parts(Path(self._path.root), self._path.depth)
        return OneFile(Path(self._path)) if self._is_one_file else Parts(Path(self._path), 0)

    def _make_sure(self) -> None:
        """Refuse a directory that has parts, unless they are ours or it is to be added to."""
        self._writing.check()
        if not self._is_sure and not self._append and isinstance(self._target, Parts):
            self._target.refuse_others()
        self._is_sure = True

    def _by_folder(
        self, items: list[Any], errors: dict[int, Exception]
    ) -> Mapping[Names, Sequence[int]]:
        """Return the numbers of the items for each directory; into *errors* goes why not."""
        if not isinstance(self._path, Template):
            return {(): range(len(items))}
        found: dict[Names, list[int]] = {}
        for index, item in enumerate(items):
            try:
                found.setdefault(self._path.names(item), []).append(index)
            except Exception as error:
                errors[index] = error
        return found


def is_one_file(path: str | Template) -> bool:
    """
    Say whether *path* is that of one file, and not of a directory for parts.

    Raises:
        ConfigError: it has fields and is written as that of a file.
    """
    if isinstance(path, Template):
        if path.text.endswith(SUFFIX):
            raise ConfigError(f"path={path.text!r}: a path with fields names directories for parts")
        return False
    return path.endswith(SUFFIX) and not Path(path).is_dir()


def checked_compression(compression: str) -> str:
    """Return *compression*, or raise :exc:`~m3.errors.ConfigError` if there is none like it."""
    try:
        known = compression == "none" or arrow().Codec.is_available(compression)
    except ValueError:
        known = False
    if not known:
        raise ConfigError(f"compression={compression!r}: there is none of that name")
    return compression


def row_of(place: RowsPosition, number: int) -> RowsPosition:
    """Return the position of one of the rows at *place*, counted from 0."""
    return place._replace(row=place.row + number, rows=1)


def files_of(path: str) -> list[str]:
    """Return the files that *path* means: itself, what is in a directory, what fits a pattern."""
    if Path(path).is_dir():
        below = Path(path).rglob("*.parquet")
        return sorted(str(file) for file in below if is_visible(file.relative_to(path)))
    if glob.has_magic(path) and not Path(path).exists():
        return sorted(glob.glob(path, recursive=True))  # noqa: PTH207  # the pattern may be absolute
    return [path]


def is_visible(path: Path) -> bool:
    """Say whether no part of *path* begins as the names of unfinished files do."""
    return not any(part.startswith((".", "_")) for part in path.parts)
