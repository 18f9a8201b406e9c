"""
``sql``: rows of a table of any database that SQLAlchemy knows, in and out.

It needs the extra ``sql`` and the driver that the URL names.  Names are quoted
as the database does it, values are never part of a statement, and a password
in the URL appears in no message.

The frontend yields a dictionary for each row.  A table is read in the order of
its primary key, or of the key that is named, page by page, each page in a
transaction of its own, so rows that are added behind are read too.  A query with
a key is run for each page; without a key, rows are streamed as they come.

The backend writes each item as a row: of a mapping, each key is a column; any
other item goes into the column ``value``.  An item with a key that is no
column is an error of the item; a key that an item does not have is the
column's default, NULL as a rule.  Lists and mappings are JSON text, unless the
column is of JSON or an array; dates, decimals and UUIDs are text where the
column is; all else is left to the driver.  What it or the database refuses in
a row is an error of the item, and the others of its batch are stored.  With
``create``, a table that is not there is created so that the first batch fits;
what is mixed or always None is a column of text.  With SQLite, values are
treated as by the connector ``sqlite``.

Delivery: without state, each batch is a transaction, and an item counts as
delivered when it is committed.  With state, all items since a checkpoint are
committed together with it: each is in the table exactly once.  The frontend
goes on behind the last key; without a key it cannot.

When the connection is lost, the batch raises, and without state the next one
connects again.  With state the transaction is lost too, so the run fails, and
the next run goes on from the checkpoint.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from m3.connectors._database.identifiers import checked_name, key_columns
from m3.connectors._database.keyset import PAGE_SIZE, KeysetFrontend, Rows, check_source
from m3.connectors._database.tables import Table, TableBackend
from m3.errors import MissingExtraError

__all__ = ("SqlBackend", "SqlFrontend")


def need_sqlalchemy() -> None:
    """Raise :exc:`MissingExtraError` if there is no SQLAlchemy."""
    if find_spec("sqlalchemy") is None:
        raise MissingExtraError("the connector sql needs SQLAlchemy", extra="sql")


class SqlFrontend(KeysetFrontend):
    """
    Read the rows of a table or a query of a database.

    Args:
        url: of the database, as dialect+driver://user:password@host:port/name.
        table: the table or view.
        query: a SELECT, instead of a table.
        key: a column or several that tell the rows apart; they are read in its
            order, and a run with state goes on behind it. A table's default is
            its primary key.
        schema: where the table is, if not where the database looks by itself.
        page_size: how many rows are read at once.
    """

    def __init__(
        self,
        *,
        url: str,
        table: str | None = None,
        query: str | None = None,
        key: str | Sequence[str] | None = None,
        schema: str | None = None,
        page_size: int = PAGE_SIZE,
    ) -> None:
        need_sqlalchemy()
        check_source(table, query)
        self._url = url
        self._table = table if table is None else checked_name("table", table)
        self._schema = schema if schema is None else checked_name("schema", schema)
        self._query = query
        self._key = key_columns(key)
        super().__init__(page_size=page_size, can_resume=bool(self._key or table))

    def open(self) -> Rows:
        """Connect to the database."""
        from m3.connectors._database.sql import open_database
        from m3.connectors._database.sql_rows import query_rows, table_rows

        engine = open_database(self._url, writes=False)
        try:
            if self._table is not None:
                return table_rows(engine, self._table, self._schema, self._key)
            assert self._query is not None
            return query_rows(engine, self._query, self._key)
        except BaseException:
            engine.dispose()
            raise


class SqlBackend(TableBackend):
    """
    Write items as rows of a table of a database.

    Args:
        url: of the database, as dialect+driver://user:password@host:port/name.
        table: the table.
        key: a column or several; an item replaces the row that has the same
            values there. Without a key, rows are added.
        create: whether the table is created if it is not there.
        schema: where the table is, if not where the database looks by itself.
    """

    def __init__(
        self,
        *,
        url: str,
        table: str,
        key: str | Sequence[str] | None = None,
        create: bool = False,
        schema: str | None = None,
    ) -> None:
        need_sqlalchemy()
        super().__init__(table=table, key=key_columns(key), create=create)
        self._schema = schema if schema is None else checked_name("schema", schema)
        self._url = url

    def open(self) -> Table:
        """Connect to the database."""
        from m3.connectors._database.sql import open_database
        from m3.connectors._database.sql_table import SqlTable

        engine = open_database(self._url, writes=True)
        return SqlTable(engine, self._name, self._schema, self._key)
