"""
``sqlite``: rows of a table of an SQLite database, in and out.

The frontend yields a dictionary for each row.  A table is read in the order of
its rowid or of the key that is named, page by page, so rows that are added
behind are read too; a query is read in the order of a key if one is named, and
then run for each page, else as it comes.  Without an INTEGER PRIMARY KEY, a
VACUUM between two runs may number the rows anew: name a key then.  Text that is
not UTF-8 is given as bytes.

The backend writes each item as a row: of a mapping, each key is a column; any
other item goes into the column ``value``.  If there is no table, it is created
so that the first batch fits: INTEGER, REAL, TEXT or BLOB where all values of a
column are of that kind, no type where they differ, for what is None says
nothing.  From then on, an item with a key that is no column is an error of the
item, and a key that an item does not have is the column's default, NULL as a
rule.  As in any SQLite table, a column with a type makes numbers of text that
looks like them, or the reverse; ``columns`` says what is not to be guessed, for
what is in the first batch depends on how fast the items come.

Numbers, text, bytes and None are stored as they are, true and false as 1 and
0, dates and times as ISO 8601 text, decimals and UUIDs as text; lists and
mappings as JSON text.  What cannot be stored (integers beyond 64 bits, NaN,
anything else) and what the table's constraints refuse is an error of the item,
and the others of its batch are stored.  If the database is full, damaged, or
locked for longer than ``busy_timeout``, nothing of the batch is stored.

The database is put into WAL mode, with ``synchronous=FULL``.

Delivery: without state, each batch is a transaction, and an item counts as
delivered when it is committed.  With state, all items since a checkpoint are
committed together with it: each is in the table exactly once.  The frontend
goes on behind the last key; without a key it cannot.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m3.connectors._database.identifiers import checked_name, key_columns
from m3.connectors._database.keyset import PAGE_SIZE, KeysetFrontend, Rows, check_source
from m3.connectors._database.sqlite import BUSY_TIMEOUT, connect, told
from m3.connectors._database.sqlite_rows import query_rows, table_rows
from m3.connectors._database.sqlite_table import SqliteTable, checked_columns
from m3.connectors._database.tables import Table, TableBackend
from m3.connectors._input.reading import FilePath
from m3.errors import ConfigError

__all__ = ("SqliteBackend", "SqliteFrontend")


class SqliteFrontend(KeysetFrontend):
    """
    Read the rows of a table or a query of an SQLite database.

    Args:
        path: the database.
        table: the table or view.
        query: a SELECT, instead of a table.
        key: a column or several that tell the rows apart; they are read in its
            order, and a run with state goes on behind it. A table's default is
            its rowid (or primary key, where it has none).
        page_size: how many rows are read at once.
        busy_timeout: seconds to wait for another process that locks the database.
    """

    def __init__(
        self,
        *,
        path: FilePath,
        table: str | None = None,
        query: str | None = None,
        key: str | Sequence[str] | None = None,
        page_size: int = PAGE_SIZE,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        check_source(table, query)
        self._path = path
        self._table = table if table is None else checked_name("table", table)
        self._query = query
        self._key = key_columns(key)
        self._busy_timeout = busy_timeout
        super().__init__(page_size=page_size, can_resume=bool(self._key or table))

    def open(self) -> Rows:
        """Open the database; nothing is written but what a crash has left to be undone."""
        connection = connect(self._path, "rw", self._busy_timeout)
        try:
            with told(self._path, self._busy_timeout):
                connection.execute("PRAGMA query_only = ON")
                if self._table is not None:
                    return table_rows(connection, self._path, self._table, self._key)
                assert self._query is not None
                return query_rows(connection, self._path, self._query, self._key)
        except BaseException:
            connection.close()
            raise

    def _lists(self) -> Iterator[list[Any]]:
        with told(self._path, self._busy_timeout):
            yield from super()._lists()


class SqliteBackend(TableBackend):
    """
    Write items as rows of a table of an SQLite database.

    Args:
        path: the database.
        table: the table.
        key: a column or several; an item replaces the row that has the same
            values there. Without a key, rows are added.
        create: whether the database and the table are created if they are not there.
        columns: the columns that the table is created with, each with its type in SQL,
            which may be empty; without it, they are those of the first batch.
        busy_timeout: seconds to wait for another process that writes.
    """

    def __init__(
        self,
        *,
        path: FilePath,
        table: str = "items",
        key: str | Sequence[str] | None = None,
        create: bool = True,
        columns: Mapping[str, str] | None = None,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        super().__init__(table=table, key=key_columns(key), create=create)
        if table.lower().startswith("sqlite_"):
            raise ConfigError(f"table={table!r}: SQLite keeps names with sqlite_ for itself")
        self._path = path
        self._declared = checked_columns(columns or {}, self._key)
        self._busy_timeout = busy_timeout

    def open(self) -> Table:
        """Open the database, which is created if need be."""
        connection = connect(self._path, "rwc" if self._create else "rw", self._busy_timeout)
        try:
            with told(self._path, self._busy_timeout):
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("PRAGMA synchronous = FULL").fetchall()
                table = SqliteTable(connection, self._name, self._key)
                if self._create and self._declared and table.columns() is None:
                    table.create_with(self._declared)
        except BaseException:
            connection.close()
            raise
        return table

    def committed(self, key: str) -> str | None:
        """Return the checkpoint under *key*; from now on, commit with checkpoints only."""
        with told(self._path, self._busy_timeout):
            return super().committed(key)

    def process_batch(self, items: list[Any]) -> None:
        """Write *items*: all of them, or all but those that a BatchError names, or none."""
        with told(self._path, self._busy_timeout):
            super().process_batch(items)

    def commit_with(self, key: str, checkpoint: str) -> None:
        """Commit *checkpoint* with the items before it."""
        with told(self._path, self._busy_timeout):
            super().commit_with(key, checkpoint)
