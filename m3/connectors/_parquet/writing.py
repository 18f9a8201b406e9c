"""Rows on their way into Parquet files: gathered, in row groups, in parts."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from m3.connectors._output.templated import MOST_OPEN
from m3.connectors._output.tree import Names
from m3.connectors._parquet.arrow import WRITER, Gathering, Part, arrow
from m3.connectors._parquet.parts import Finished, OneFile, Parts

__all__ = ("Form", "Writing")

GROUP_SIZE = 64 * 1024 * 1024
"""How many bytes may wait in memory for their row groups, at most."""


class Form(NamedTuple):
    """What the files are to be like."""

    schema: Any
    """What items are to fit into; None makes it of the first rows of each directory."""
    rows_per_file: int
    rows_per_group: int
    compression: str


class Writing:
    """
    All rows that are written, to one file or to parts in any number of directories.

    What was added is lost when a write fails, also of earlier items, so that
    nothing can be written after it.

    Args:
        target: where complete files go.
        form: what they are like.

    Attributes:
        keeps_state: whether files go there when :meth:`publish` is called only.
    """

    def __init__(self, target: OneFile | Parts, form: Form) -> None:
        self.keeps_state = False
        self._target = target
        self._form = form
        self._is_one_file = isinstance(target, OneFile)
        self._rows: dict[Names, Rows] = {}
        self._open: OrderedDict[Names, Rows] = OrderedDict()
        self._finished: list[Finished] = []
        self._broken: Exception | None = None

    def check(self) -> None:
        """Raise what has failed before."""
        if self._broken is not None:
            raise self._broken

    def add(self, folders: Names, items: Sequence[Any]) -> dict[int, Exception]:
        """Add those of *items* that fit; return what is wrong with each other one."""
        rows = self._opened(folders)
        wrong = rows.add(items)
        self._finish(folders, rows.write_full_groups())
        self._make_room()
        return wrong

    def end(self) -> None:
        """Write what is gathered, and end the parts with it; one file there is in any case."""
        for folders, rows in list(self._open.items()):
            self._finish(folders, rows.end())
            del self._open[folders]
        if self._is_one_file and not self._finished:
            with self._unbroken():
                self._finished.append(((), self._opened(()).end_without_rows()))

    def publish(self) -> None:
        """Put the parts that have ended where they belong."""
        with self._unbroken():
            if self._finished:
                self._target.publish(self._finished)
            self._finished = []

    def discard(self) -> None:
        """Remove what was written and has no place yet."""
        for rows in self._open.values():
            rows.discard()
        for _, file in self._finished:
            file.unlink(missing_ok=True)

    def _opened(self, folders: Names) -> "Rows":
        """Return the rows for one directory, which are those that were used last."""
        if folders not in self._rows:
            self._rows[folders] = Rows(
                self._form.schema,
                self._begun,
                per_group=self._form.rows_per_group,
                per_part=None if self._is_one_file else self._form.rows_per_file,
            )
        rows = self._open[folders] = self._rows[folders]
        self._open.move_to_end(folders)
        return rows

    def _begun(self, schema: Any) -> Part:
        if isinstance(self._target, Parts) and self._target.writer:
            known = schema.metadata or {}
            schema = schema.with_metadata({**known, WRITER: self._target.writer.encode()})
        return Part(self._target.temporary(), schema, self._form.compression)

    def _make_room(self) -> None:
        """Bound how many parts are open, and how many bytes wait for their row groups."""
        while len(self._open) > MOST_OPEN:
            folders, rows = self._open.popitem(last=False)
            self._finish(folders, rows.end())
        while sum(rows.size for rows in self._open.values()) >= GROUP_SIZE:
            folders, rows = max(self._open.items(), key=lambda each: each[1].size)
            self._finish(folders, rows.write_group())

    def _finish(self, folders: Names, parts: Iterator[Path]) -> None:
        """Take parts that have ended; nothing goes behind them where no state is kept."""
        with self._unbroken():
            for part in parts:
                self._finished.append((folders, part))
        if not self.keeps_state and not self._is_one_file:
            self.publish()

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._broken = error
            raise


class Rows:
    """
    The rows of one directory, or of one file.

    Args:
        schema: what items are to fit into; None makes it of the first rows.
        begin: makes a part of a schema.
        per_group: how many rows a row group has, at most.
        per_part: how many rows a part has; None for all.
    """

    def __init__(
        self, schema: Any, begin: Callable[[Any], Part], *, per_group: int, per_part: int | None
    ) -> None:
        self._gathering = Gathering(schema)
        self._begin = begin
        self._per_group = per_group
        self._per_part = per_part
        self._part: Part | None = None

    @property
    def size(self) -> int:
        """How many bytes the rows take that are in no row group yet."""
        return self._gathering.size

    def add(self, items: Sequence[Any]) -> dict[int, Exception]:
        """Add those of *items* that fit; return what is wrong with each other one."""
        return self._gathering.add(items)

    def write_full_groups(self) -> Iterator[Path]:
        """Write the row groups for which there are enough rows; yield the parts that end."""
        while self._gathering.rows >= self._room():
            yield from self.write_group()

    def write_group(self) -> Iterator[Path]:
        """Write the first rows as a row group; yield the part, if it ends with them."""
        table = self._gathering.take(self._room())
        part = self._opened()
        part.write(table)
        if part.rows == self._per_part:
            yield self._closed(part)

    def end(self) -> Iterator[Path]:
        """Write all rows, and yield the parts that end: with the last one, all do."""
        while self._gathering.rows:
            yield from self.write_group()
        if self._part is not None:
            yield self._closed(self._part)

    def end_without_rows(self) -> Path:
        """Return a part that has no rows, in the schema that was given or without columns."""
        self._gathering.schema = self._gathering.schema or arrow().schema([])
        return self._closed(self._opened())

    def discard(self) -> None:
        """Remove what was written of a part that has not ended."""
        if self._part is not None:
            self._part.discard()

    def _room(self) -> int:
        """Return how many rows make the next row group."""
        if self._per_part is None:
            return self._per_group
        written = self._part.rows if self._part else 0
        return min(self._per_group, self._per_part - written)

    def _opened(self) -> Part:
        if self._part is None:
            self._part = self._begin(self._gathering.schema)
        return self._part

    def _closed(self, part: Part) -> Path:
        """Make the part durable under the name that it has now."""
        part.close()
        self._part = None
        return part.path
