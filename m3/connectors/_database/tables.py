"""
Backends that write items as rows of a table.

A batch is all or nothing but for the items that the database itself refuses:
those are found by halving the batch, and the others are stored.  Where it
ends up is a :class:`Table`, of which each connector has its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple, Protocol

from m3.connectors._database.identifiers import checked_name, name_problem
from m3.errors import BatchError, ConfigError, StateError, abridged
from m3.policies import Batch
from m3.stages import TransactionalBackend

__all__ = ("CHECKPOINTS", "VALUE", "Columns", "Table", "TableBackend")

CHECKPOINTS = "m3_checkpoints"
"""The table in which checkpoints are kept, beside the data."""

VALUE = "value"
"""The column of an item that is no mapping."""


class Columns(NamedTuple):
    """The columns of a table that can be written to."""

    names: tuple[str, ...]
    """All of them, in their order."""
    defaults: frozenset[str]
    """Those that a row without a value for them should leave to the database."""


class Row(NamedTuple):
    """An item on its way into a table."""

    place: int
    """The index of the item in its batch."""
    names: tuple[str, ...]
    """The columns that are written."""
    values: tuple[Any, ...]


class Table(Protocol):
    """A table of a database, and one transaction."""

    simple: frozenset[type]
    """The types of values that go into any column as they are."""

    def columns(self) -> Columns | None:
        """Return the table's columns, or None if there is no such table."""

    def create(self, kinds: Mapping[str, set[type]]) -> None:
        """Create the table, with a column for each name and the types of values in it."""

    def folded(self, name: str) -> str:
        """Return what two names have in common that the database takes for the same column."""

    def storable(self, name: str, value: Any) -> Any:
        """Return *value* as the column *name* can hold it, or raise if it cannot."""

    def kind(self, name: str, value: Any) -> type:
        """Return the type that :meth:`create` is told of for *value*; raise if there is none."""

    def begin(self) -> None:
        """Begin the transaction, unless it has begun."""

    def is_whole(self) -> bool:
        """Say whether the transaction that has begun still holds all that was written in it."""

    def savepoint(self) -> AbstractContextManager[object]:
        """Return what undoes all that is written in it, if it is left by an exception."""

    def insert(self, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Write *rows*; if that raises, some of them may be written."""

    def blames_a_row(self, error: Exception) -> bool:
        """Say whether :meth:`insert` raised *error* because of what is in a row."""

    def commit(self) -> None:
        """Make the transaction durable, which ends it."""

    def rollback(self) -> None:
        """Undo the transaction, which ends it; without one, do nothing."""

    def open_checkpoints(self) -> None:
        """Make the place where checkpoints are kept, for good, if it is not there."""

    def kept(self, key: str) -> str | None:
        """Return what is kept under *key*; in the transaction, nobody else changes it then."""

    def keep(self, key: str, checkpoint: str) -> None:
        """Keep *checkpoint* under *key*, in the transaction."""

    def close(self) -> None:
        """Undo the transaction if there is one, and let go of the database."""


class TableBackend(TransactionalBackend[Any]):
    """
    What the backends that write to a table have in common.

    Args:
        table: its name.
        key: the columns by which a row replaces an earlier one; none to add only.
        create: whether the table is created if there is none.
    """

    max_workers: ClassVar[int | None] = 1
    """A database has one writer at a time, or a transaction for each of several."""

    batch: ClassVar[Batch | None] = Batch(count=1000, period=0.2)
    """Making a batch durable takes as long as writing hundreds of rows, so it is worth a wait."""

    def __init__(self, *, table: str, key: tuple[str, ...], create: bool) -> None:
        self._name = checked_name("table", table)
        if table.lower() == CHECKPOINTS:
            raise ConfigError(f"table={table!r}: m3 keeps its checkpoints there; name another")
        self._key = key
        self._create = create
        self._columns: Columns | None = None

    def open(self) -> Table:
        """Return the table to write to."""
        raise NotImplementedError

    def setup(self) -> None:
        """Open the database; look whether there is the table, if it is not to be created."""
        self._keeps_state = self._is_lost = False
        self._kept: dict[str, str | None] = {}
        self._table = self.open()
        try:
            self._look()
        except BaseException:
            self._table.close()
            raise

    def process_batch(self, items: list[Any]) -> None:
        """
        Write *items*: all of them, or all but those that a BatchError names, or none.

        It blocks while another process writes to the database.
        """
        self._refuse_if_lost()
        self._table.begin()
        errors: dict[int, Exception] = {}
        try:
            with self._table.savepoint():
                self._store(items, errors)
            if not self._keeps_state:
                self._table.commit()
        except BaseException:
            self._undo()
            raise
        if errors:
            raise BatchError(dict(sorted(errors.items())))

    def committed(self, key: str) -> str | None:
        """Return the checkpoint under *key*; from now on, commit with checkpoints only."""
        self._table.open_checkpoints()
        self._table.begin()
        try:
            self._kept[key] = self._table.kept(key)
        finally:
            self._table.rollback()
        self._keeps_state = True
        return self._kept[key]

    def commit_with(self, key: str, checkpoint: str) -> None:
        """Commit all items since the last call, and *checkpoint*, in one transaction."""
        self._refuse_if_lost()
        try:
            self._table.begin()
            self._refuse_another_run(key)
            self._table.keep(key, checkpoint)
            self._table.commit()
        except BaseException:
            self._is_lost = True
            raise
        self._kept[key] = checkpoint

    def cleanup(self) -> None:
        """Close the database; what was not committed is undone."""
        self._table.close()

    def _refuse_if_lost(self) -> None:
        if self._is_lost:
            raise StateError(
                "the transaction with the items since the last checkpoint was lost, as an earlier "
                "error has told; start the run again, and it goes on from that checkpoint"
            )

    def _refuse_another_run(self, key: str) -> None:
        if self._table.kept(key) != self._kept.get(key):
            raise StateError(
                f"another run has committed a checkpoint as {key!r} since this one began, perhaps "
                "one that was killed and ended late; nothing was committed: start the run again"
            )

    def _undo(self) -> None:
        """After a failed batch: be as if it had never come, or know that this cannot be."""
        if not self._keeps_state:
            self._table.rollback()
        elif not self._table.is_whole():
            self._is_lost = True
        self._columns = None  # the table may have been created with the batch

    def _look(self) -> None:
        """Note the table's columns, if there is the table; raise if there must be."""
        self._columns = self._table.columns()
        self._known = frozenset(self._columns.names if self._columns else ())
        if self._columns is None and not self._create:
            raise ConfigError(
                f"there is no table {self._name!r}, and create=False: create it first"
            )

    # -- from items to rows ---------------------------------------------------

    def _store(self, items: list[Any], errors: dict[int, Exception]) -> None:
        records = [item if isinstance(item, Mapping) else {VALUE: item} for item in items]
        if self._columns is None:
            self._look()
        if self._columns is None and not self._create_for(records, errors):
            return
        rows = self._rows(records, errors)
        for names, group in groupby(rows, itemgetter(1)):
            self._insert(names, list(group), errors)

    def _rows(
        self, records: list[Mapping[str, Any]], errors: dict[int, Exception]
    ) -> Iterator[Row]:
        """Yield a row of each record; into *errors* goes why there is none."""
        simple = self._table.simple
        for index, record in enumerate(records):
            if index in errors:
                continue
            try:
                names = self._names(record)
                values = tuple(map(record.get, names))
                if not simple.issuperset(map(type, values)):
                    values = tuple(map(self._table.storable, names, values))
            except Exception as error:
                errors[index] = error
            else:
                yield Row(index, names, values)

    def _names(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the columns to write *record* to; raise if it does not fit the table."""
        assert self._columns is not None
        if not record.keys() <= self._known:
            raise self._unknown_key(record)
        self._check_key(record)
        names, defaults = self._columns
        if not defaults or record.keys() >= defaults:
            return names
        return tuple(name for name in names if name in record or name not in defaults)

    def _check_key(self, record: Mapping[str, Any]) -> None:
        for name in self._key:
            if record.get(name) is None:
                raise ValueError(f"there is no value for the key {name!r}")

    def _unknown_key(self, record: Mapping[str, Any]) -> ValueError:
        assert self._columns is not None
        unknown = [name for name in record if name not in self._known]
        return ValueError(
            f"the table has no column {abridged(unknown[0])}; "
            f"it has {abridged(', '.join(self._columns.names), 500)}"
        )

    def _insert(
        self, names: tuple[str, ...], rows: list[Row], errors: dict[int, Exception]
    ) -> None:
        """Write *rows*; into *errors* goes why the database refuses one."""
        try:
            with self._table.savepoint():
                self._table.insert(names, [row.values for row in rows])
        except Exception as error:
            if not (self._table.is_whole() and self._table.blames_a_row(error)):
                raise
            if len(rows) == 1:
                errors[rows[0].place] = error
                return
        else:
            return
        middle = len(rows) // 2
        self._insert(names, rows[:middle], errors)
        self._insert(names, rows[middle:], errors)

    # -- the table that is not there yet ----------------------------------------

    def _create_for(self, records: list[Mapping[str, Any]], errors: dict[int, Exception]) -> bool:
        """Create the table so that *records* fit; say whether there were any."""
        kinds: dict[str, set[type]] = {}
        spelt: dict[str, str] = {}
        for index, record in enumerate(records):
            try:
                self._check_new(record, spelt)
                found = {
                    name: set() if value is None else {self._table.kind(name, value)}
                    for name, value in record.items()
                }
            except Exception as error:
                errors[index] = error
                continue
            for name, kind in found.items():
                spelt.setdefault(self._table.folded(name), name)
                kinds.setdefault(name, set()).update(kind)
        if kinds:
            self._table.create(kinds)
            self._look()
        return bool(kinds)

    def _check_new(self, record: Mapping[str, Any], spelt: Mapping[str, str]) -> None:
        if not record:
            raise ValueError("an item without keys cannot tell which columns the table is to have")
        for name in record:
            if problem := name_problem(name):
                raise ValueError(f"{abridged(name)} cannot be a column: {problem}")
        refuse_same([*spelt.values(), *record], self._table.folded)
        self._check_key(record)


def refuse_same(names: Iterable[str], folded: Any) -> None:
    """Raise :exc:`ValueError` if two different names are one column to the database."""
    spelt: dict[str, str] = {}
    for name in names:
        other = spelt.setdefault(folded(name), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} are the same column to the database")
