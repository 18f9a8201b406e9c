"""The rows of a table of an SQLite database, or of a query."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from m3.connectors._database.identifiers import refuse_twins
from m3.connectors._database.keyset import check_key, fingerprint
from m3.connectors._database.sqlite import listed, quoted
from m3.connectors._input.reading import FilePath
from m3.errors import ConfigError

__all__ = ("SqliteRows", "query_rows", "table_rows")


class SqliteRows:
    """
    The rows of a table or query.

    Args:
        connection: to the database; it is closed with the rows.
        identity: which rows they are.
        statement: selects them, without a key.
        source: what stands behind FROM.
        names: the columns of the items.
        key: the columns of the key, or those that make a rowid.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        identity: str,
        statement: str,
        source: str,
        names: tuple[str, ...],
        key: tuple[str, ...],
    ) -> None:
        self._connection = connection
        self.identity = identity
        self.names = names
        self.key = key
        self._statement = statement
        self._source = source

    def page(self, start: tuple[Any, ...] | None, limit: int) -> list[tuple[Any, ...]]:
        """Return the rows from *start* on."""
        values: Sequence[Any] = start or ()
        columns = listed([*self.key, *self.names])
        where = ""
        if start is not None:
            marks = [f"?{number + 1}" for number in range(len(start))]
            columns += f", ({listed(self.key)}) = ({', '.join(marks)})"
            where = f"WHERE ({listed(self.key)}) >= ({', '.join(marks)})"
        order = f"ORDER BY {listed(self.key)} LIMIT {limit:d}"
        statement = f"SELECT {columns} FROM {self._source} {where} {order}"
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        with self._text_or_bytes():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _text_or_bytes(self) -> Iterator[None]:
        """Have text that is not UTF-8 read as bytes, which takes longer for all text."""
        self._connection.text_factory = text_or_bytes
        try:
            yield
        finally:
            self._connection.text_factory = str

    def has_null_in_key(self) -> bool:
        """Say whether a row has NULL in its key."""
        condition = " OR ".join(f"{quoted(name)} IS NULL" for name in self.key)
        statement = f"SELECT 1 FROM {self._source} WHERE {condition} LIMIT 1"
        return bool(self._connection.execute(statement).fetchall())

    def pages(self, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield all rows, as they come."""
        execute = self._connection.execute
        with self._text_or_bytes(), closing(execute(self._statement)) as cursor:
            self.names = tuple(column[0] for column in cursor.description)
            refuse_twins("query", self.names)
            while page := cursor.fetchmany(size):
                yield page

    def interrupt(self) -> None:
        """End the query that runs."""
        with suppress(sqlite3.ProgrammingError):  # it is closed already
            self._connection.interrupt()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def text_or_bytes(value: bytes) -> str | bytes:
    """Return *value* as text, or as it is if it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def table_rows(
    connection: sqlite3.Connection, path: FilePath, table: str, key: tuple[str, ...]
) -> SqliteRows:
    """
    Return the rows of a table.

    Raises:
        ConfigError: there is no such table, or no such column for the key.
    """
    found = connection.execute(
        "SELECT name, pk FROM pragma_table_xinfo(?) WHERE hidden != 1", [table]
    ).fetchall()
    if not found:
        raise ConfigError(f"{Path(path)}: there is no table {table!r}")
    names = tuple(name for name, _ in found)
    check_key(key, names)
    return SqliteRows(
        connection,
        identity=f"the table {table!r} of {Path(path).resolve()}",
        statement=f"SELECT * FROM {quoted(table)}",
        source=quoted(table),
        names=names,
        key=key or default_key(connection, table, found),
    )


def default_key(
    connection: sqlite3.Connection, table: str, found: list[tuple[str, int]]
) -> tuple[str, ...]:
    """Return what tells the rows of a table apart: its rowid, or its primary key."""
    taken = {name.lower() for name, _ in found}
    is_table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
    if not connection.execute(is_table, [table]).fetchall():
        return ()
    for name in ("rowid", "_rowid_", "oid"):
        if name not in taken:
            # Quoted, it would be a string where there is no rowid; so it is asked for unquoted.
            with suppress(sqlite3.OperationalError):
                connection.execute(f"SELECT {name} FROM {quoted(table)} LIMIT 0")
                return (name,)
    ranks = sorted((rank, name) for name, rank in found if rank)
    return tuple(name for _, name in ranks)


def query_rows(
    connection: sqlite3.Connection, path: FilePath, query: str, key: tuple[str, ...]
) -> SqliteRows:
    """
    Return what a query results in.

    Raises:
        ConfigError: there is no such column for the key.
    """
    query = query.strip().rstrip(";")
    source = f"(\n{query}\n)"
    with closing(connection.execute(f"SELECT * FROM {source} LIMIT 0")) as cursor:
        names = tuple(column[0] for column in cursor.description)
    check_key(key, names)
    return SqliteRows(
        connection,
        identity=f"a query ({fingerprint(query)}) of {Path(path).resolve()}",
        statement=query,
        source=source,
        names=names,
        key=key,
    )
