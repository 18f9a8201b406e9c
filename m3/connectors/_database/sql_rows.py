"""The rows of a table or query of any database that SQLAlchemy knows."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from m3.connectors._database.identifiers import refuse_twins
from m3.connectors._database.keyset import check_key, fingerprint
from m3.connectors._database.sql import described
from m3.connectors._database.sql_reflection import reflected
from m3.errors import ConfigError

__all__ = ("SqlRows", "query_rows", "table_rows")


class SqlRows:
    """
    The rows of a table or query.

    Args:
        engine: connects to the database; it is disposed of with the rows.
        identity: which rows they are.
        statement: selects them, without a key.
        source: what they are selected from.
        key: the columns of the key.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        identity: str,
        statement: Any,
        source: sa.FromClause,
        key: tuple[str, ...],
    ) -> None:
        self._engine = engine
        self.identity = identity
        self._statement = statement
        self._source = source
        self.names = tuple(map(str, source.columns.keys()))
        self.key = key
        self._key = [source.columns[name] for name in key]

    def page(self, start: tuple[Any, ...] | None, limit: int) -> list[Any]:
        """Return the rows from *start* on; each page is a transaction of its own."""
        labels = [column.label(f"m3_key_{number}") for number, column in enumerate(self._key)]
        statement = sa.select(*labels, *self._source.columns)
        if start is not None:
            values = [
                sa.literal(
                    value, None if isinstance(column.type, sa.types.NullType) else column.type
                )
                for column, value in zip(self._key, start, strict=True)
            ]
            pairs = list(zip(self._key, values, strict=True))
            is_same = sa.and_(*(column == value for column, value in pairs))
            statement = statement.add_columns(sa.case((is_same, 1), else_=0).label("m3_same"))
            statement = statement.where(from_there_on(pairs))
        with self._engine.connect() as connection:
            return list(connection.execute(statement.order_by(*self._key).limit(limit)).all())

    def has_null_in_key(self) -> bool:
        """Say whether a row has NULL in its key."""
        is_null = sa.or_(*(column.is_(None) for column in self._key))
        statement = sa.select(sa.literal(1)).select_from(self._source).where(is_null).limit(1)
        with self._engine.connect() as connection:
            return connection.execute(statement).first() is not None

    def pages(self, size: int) -> Iterator[list[Any]]:
        """Yield all rows, as they come; the server keeps what has not been read."""
        with self._engine.connect() as connection:
            streaming = connection.execution_options(stream_results=True, max_row_buffer=size)
            with streaming.execute(self._statement) as result:
                self.names = tuple(result.keys())
                refuse_twins("query", self.names)
                for page in result.partitions(size):
                    yield list(page)

    def interrupt(self) -> None:
        """Do nothing: there is no way that all databases have."""

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def from_there_on(pairs: list[tuple[Any, Any]]) -> sa.ColumnElement[bool]:
    """
    Return the condition for rows whose key is not before the given one.

    It says first what the first column alone must be, which databases without
    an index for comparisons of whole keys can use.
    """
    (column, value), *others = pairs
    if not others:
        return sa.and_(column >= value)
    return sa.and_(column >= value, sa.or_(column > value, from_there_on(others)))


def table_rows(engine: sa.Engine, table: str, schema: str | None, key: tuple[str, ...]) -> SqlRows:
    """
    Return the rows of a table.

    Raises:
        ConfigError: there is no such table, or no such column for the key.
    """
    where = described(engine)
    with engine.connect() as connection:
        found = reflected(connection, table, schema)
    if found is None:
        raise ConfigError(f"{where}: there is no table {table!r}")
    check_key(key, tuple(found.columns.keys()))
    source = sa.table(found.name, *map(as_it_comes, found.columns), schema=found.schema)
    return SqlRows(
        engine,
        identity=f"the table {table!r} of {where}{f', schema {schema!r}' if schema else ''}",
        statement=sa.select(source),
        source=source,
        key=key or tuple(str(column.name) for column in found.primary_key.columns),
    )


def as_it_comes(column: sa.Column[Any]) -> sa.ColumnClause[Any]:
    """
    Return *column* without its type, so that its values are those of the driver.

    SQLAlchemy would make rounded decimals of MySQL's DOUBLE.  JSON and bytes it
    reads well; SQLite has the name of JSON as a type, and no such values.
    """
    is_read_well = isinstance(column.type, sa.JSON | sa.LargeBinary)
    keeps_type = is_read_well and not isinstance(column.type, sqlite.JSON)
    return sa.column(column.name, column.type if keeps_type else None)


def query_rows(engine: sa.Engine, query: str, key: tuple[str, ...]) -> SqlRows:
    """
    Return what a query results in.

    Raises:
        ConfigError: there is no such column for the key.
    """
    query = query.strip().rstrip(";")
    # A query has no parameters here, so a colon in it is a colon; the line end ends a comment.
    text = sa.text(query.replace(":", "\\:") + "\n")
    everything = sa.select(sa.text("*")).select_from(text.columns().subquery("m3_query"))
    with engine.connect() as connection:
        names = tuple(connection.execute(everything.limit(0)).keys())
    refuse_twins("query", names)
    check_key(key, names)
    return SqlRows(
        engine,
        identity=f"a query ({fingerprint(query)}) of {described(engine)}",
        statement=text,
        source=text.columns(*map(sa.column, names)).subquery("m3_query"),
        key=key,
    )
