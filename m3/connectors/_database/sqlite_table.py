"""A table of an SQLite database that is written to."""

import re
import sqlite3
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from m3.connectors._database.identifiers import checked_name
from m3.connectors._database.sqlite import listed, quoted
from m3.connectors._database.storable import PLAIN, storable
from m3.connectors._database.tables import CHECKPOINTS, Columns
from m3.errors import ConfigError

__all__ = ("SqliteTable", "checked_columns")

AFFINITIES = {int: "INTEGER", bool: "INTEGER", float: "REAL", str: "TEXT"}
TYPE = re.compile(r"[A-Za-z_][\w ]*(\(\d+(, *\d+)?\))?", re.ASCII)
LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}
NO_KEY = "ON CONFLICT clause does not match"
ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


def checked_columns(columns: Mapping[str, str], key: tuple[str, ...]) -> dict[str, str]:
    """
    Return *columns*, names and types, if a table can be created with them.

    Raises:
        ConfigError: it cannot.
    """
    for name, kind in columns.items():
        checked_name("columns", name)
        if kind and not TYPE.fullmatch(kind):
            raise ConfigError(f"columns: {kind!r} is no type; write one such as TEXT or ''")
    missing = [name for name in key if name not in columns]
    if columns and missing:
        raise ConfigError(f"key={missing[0]!r}: it is not one of the columns")
    return dict(columns)


class SqliteTable:
    """
    A table of an SQLite database, and one transaction.

    Args:
        connection: to the database; it is closed with the table.
        name: of the table.
        key: the columns by which rows are replaced.
    """

    simple = PLAIN

    def __init__(self, connection: sqlite3.Connection, name: str, key: tuple[str, ...]) -> None:
        self._connection = connection
        self._name = name
        self._key = key
        self._statements: dict[tuple[str, ...], str] = {}

    def columns(self) -> Columns | None:
        """Return the table's columns that can be written to."""
        found = self._connection.execute(
            'SELECT name, "notnull" OR pk OR dflt_value IS NOT NULL FROM pragma_table_xinfo(?) '
            "WHERE hidden = 0",
            [self._name],
        ).fetchall()
        if not found:
            return None
        self._check_key([name for name, _ in found])
        return Columns(
            names=tuple(name for name, _ in found),
            defaults=frozenset(name for name, has_default in found if has_default),
        )

    def _check_key(self, names: list[str]) -> None:
        for name in self._key:
            if name not in names:
                raise ConfigError(f"key={name!r}: the table {self._name!r} has no such column")
        if not self._key:
            return
        try:
            self._prepare(tuple(names))
        except sqlite3.OperationalError as error:
            if NO_KEY not in str(error):
                raise
            raise ConfigError(
                f"key: the table {self._name!r} has no primary key and no unique index of "
                f"{listed(self._key)}, so a row cannot be replaced by it; create one"
            ) from error

    def folded(self, name: str) -> str:
        """Return *name* without what SQLite does not look at in it."""
        return name.translate(LOWER)

    def create(self, kinds: Mapping[str, set[type]]) -> None:
        """Create the table for values of *kinds*."""
        self.create_with({name: affinity(found) for name, found in kinds.items()})

    def create_with(self, types: Mapping[str, str]) -> None:
        """Create the table with columns of *types*."""
        columns = [
            f"{quoted(name)} {kind}{' NOT NULL' if name in self._key else ''}"
            for name, kind in types.items()
        ]
        if self._key:
            columns.append(f"PRIMARY KEY ({listed(self._key)})")
        self._connection.execute(f"CREATE TABLE {quoted(self._name)} ({', '.join(columns)})")

    def storable(self, name: str, value: Any) -> Any:
        """Return *value* as SQLite can hold it; raise if it cannot."""
        try:
            return storable(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the value for {name!r}: {error}") from error

    def kind(self, name: str, value: Any) -> type:
        """Return the type of what is stored for *value*."""
        return type(self.storable(name, value))

    def begin(self) -> None:
        """Begin to write; wait while another process does."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def is_whole(self) -> bool:
        """Say whether there is the transaction; some errors make SQLite undo it."""
        return self._connection.in_transaction

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is written in it, if it is left by an exception."""
        self._connection.execute("SAVEPOINT batch")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO batch")
                self._connection.execute("RELEASE batch")
            raise
        self._connection.execute("RELEASE batch")

    def insert(self, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Write *rows*, each with a value for each of the columns *names*."""
        self._last = names
        self._connection.executemany(self._statement(names), rows)

    def _prepare(self, names: tuple[str, ...]) -> None:
        """Raise what is wrong with the statement, whatever the values are."""
        nothing = [None] * len(names)
        self._connection.execute(f"EXPLAIN {self._statement(names)}", nothing).fetchall()

    def _statement(self, names: tuple[str, ...]) -> str:
        if names not in self._statements:
            self._statements[names] = insertion(self._name, names, self._key)
        return self._statements[names]

    def blames_a_row(self, error: Exception) -> bool:
        """Say whether it is about a constraint or a value, not about the database."""
        if not isinstance(error, sqlite3.OperationalError):
            return isinstance(error, (*ROW_ERRORS, TypeError, ValueError, OverflowError))
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            return False
        with suppress(sqlite3.Error):  # an expression of the table's can fail over a value
            self._prepare(self._last)
            return True
        return False

    def commit(self) -> None:
        """Make the transaction durable."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def open_checkpoints(self) -> None:
        """Create the table for checkpoints, if it is not there."""
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {CHECKPOINTS} "
            "(key TEXT PRIMARY KEY NOT NULL, checkpoint TEXT NOT NULL, updated TEXT NOT NULL)"
        )

    def kept(self, key: str) -> str | None:
        """Return the checkpoint under *key*."""
        statement = f"SELECT checkpoint FROM {CHECKPOINTS} WHERE key = ?"
        found = self._connection.execute(statement, [key]).fetchall()
        return found[0][0] if found else None

    def keep(self, key: str, checkpoint: str) -> None:
        """Keep *checkpoint*, in the transaction."""
        self._connection.execute(
            f"INSERT OR REPLACE INTO {CHECKPOINTS} VALUES (?, ?, datetime('now'))",
            [key, checkpoint],
        )

    def close(self) -> None:
        """Close the database, which undoes the transaction."""
        self._connection.close()


def affinity(kinds: set[type]) -> str:
    """Return the type of a column that holds values of *kinds*; none where they differ."""
    found = {AFFINITIES.get(kind, "BLOB") for kind in kinds}
    return found.pop() if len(found) == 1 else ""


def insertion(table: str, names: tuple[str, ...], key: tuple[str, ...]) -> str:
    """Return the statement that writes a row with a value for each of *names*."""
    into = f"INSERT INTO {quoted(table)}"
    if not names:
        return f"{into} DEFAULT VALUES"
    statement = f"{into} ({listed(names)}) VALUES ({', '.join('?' * len(names))})"
    if not key:
        return statement
    others = ", ".join(
        f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in key
    )
    conflict = f"{statement} ON CONFLICT ({listed(key)})"
    return f"{conflict} DO UPDATE SET {others}" if others else f"{conflict} DO NOTHING"
