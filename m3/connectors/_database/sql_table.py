"""A table of any database that SQLAlchemy knows, written to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from m3.connectors._database.sql import blames_a_row, is_mysql
from m3.connectors._database.sql_reflection import engine_of, reflected, unique_columns
from m3.connectors._database.storable import PLAIN, as_text, storable
from m3.connectors._database.tables import CHECKPOINTS, Columns
from m3.errors import ConfigError

__all__ = ("SqlTable",)

NO_TRANSACTIONS = {"aria", "archive", "csv", "memory", "merge", "mrg_myisam", "myisam"}


class Aware(datetime):
    """Stands for the times that have a zone."""


TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
SHORT_TEXT = sa.Text().with_variant(sa.String(255), "mysql", "mariadb")
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
SHORT_BYTES = sa.LargeBinary().with_variant(mysql.VARBINARY(255), "mysql", "mariadb")
TYPES: dict[type, sa.types.TypeEngine[Any]] = {
    bool: sa.Boolean(),
    int: sa.BigInteger(),
    float: sa.Double(),
    bytes: BYTES,
    Decimal: sa.Numeric().with_variant(mysql.DECIMAL(65, 30), "mysql", "mariadb"),
    UUID: sa.Uuid(),
    date: sa.Date(),
    time: sa.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb"),
    datetime: sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
    Aware: sa.DateTime(timezone=True).with_variant(mysql.LONGTEXT(), "mysql", "mariadb"),
}


class SqlTable:
    """
    A table of a database, and one transaction.

    Args:
        engine: connects to the database; it is disposed of with the table.
        name: of the table.
        schema: where the table is; None for where the database looks by itself.
        key: the columns by which rows are replaced.
    """

    def __init__(
        self, engine: sa.Engine, name: str, schema: str | None, key: tuple[str, ...]
    ) -> None:
        self._engine = engine
        self._dialect = engine.dialect
        self._name = sa.quoted_name(name, quote=True)
        self._schema = schema if schema is None else sa.quoted_name(schema, quote=True)
        self._key = key
        self._table: sa.Table | None = None
        self._statements: dict[tuple[str, ...], Any] = {}
        self._connection: sa.Connection | None = None
        self._is_broken = False
        self._checkpoints: sa.Table | None = None
        self._is_sqlite = engine.dialect.name == "sqlite"
        self.simple = PLAIN if self._is_sqlite else PLAIN | {float}

    # -- the table --------------------------------------------------------------

    def columns(self) -> Columns | None:
        """Return the table's columns that can be written to."""
        self._statements.clear()
        with self._any_connection() as connection:
            self._table = reflected(connection, self._name, self._schema)
            if self._table is None:
                return None
            self._check(connection, self._table)
        found = [column for column in self._table.columns if column.computed is None]
        return Columns(
            names=tuple(str(column.name) for column in found),
            defaults=frozenset(str(column.name) for column in found if has_default(column)),
        )

    @contextmanager
    def _any_connection(self) -> Iterator[sa.Connection]:
        """Return the connection that is in the transaction, or one for now."""
        if self._connection is not None:
            yield self._connection
        else:
            with self._engine.connect() as connection:
                yield connection

    def _check(self, connection: sa.Connection, table: sa.Table) -> None:
        kind = engine_of(connection, table)
        if kind.lower() in NO_TRANSACTIONS:
            raise ConfigError(f"table={self._name!r}: its engine {kind} has no transactions")
        for name in self._key:
            if name not in table.columns:
                raise ConfigError(f"key={name!r}: the table {self._name!r} has no such column")
        if self._key and set(self._key) not in unique_columns(connection, table):
            raise ConfigError(
                f"key: the table {self._name!r} has no primary key and no unique constraint of "
                f"{', '.join(map(repr, self._key))}, so a row cannot be replaced by it; create one"
            )

    def folded(self, name: str) -> str:
        """Return *name* as the database tells names of columns apart."""
        tells_case = self._dialect.name not in ("sqlite", "mysql", "mariadb", "mssql")
        return name if tells_case else name.casefold()

    def create(self, kinds: Mapping[str, set[type]]) -> None:
        """
        Create the table for values of *kinds*, in the transaction.

        MySQL and MariaDB know no transactions of such things: there it is
        created, for good, before anything else is written.
        """
        columns = [
            sa.Column(
                sa.quoted_name(name, quote=True),
                column_type(found, is_key=name in self._key),
                primary_key=name in self._key,
                autoincrement=False,
            )
            for name, found in kinds.items()
        ]
        table = sa.Table(
            self._name, sa.MetaData(), *columns, schema=self._schema, **self._options()
        )
        if is_mysql(self._dialect):
            table.create(self._engine)
        else:
            table.create(self._connected())

    def _options(self) -> dict[str, Any]:
        """Return what a new table is to be beside its columns: exact about text, with MySQL."""
        if not is_mysql(self._dialect):
            return {}
        is_mariadb = getattr(self._dialect, "is_mariadb", False)
        options = {
            "engine": "InnoDB",
            "charset": "utf8mb4",
            "collate": "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin",
        }
        return {f"{self._dialect.name}_{name}": value for name, value in options.items()}

    # -- values -----------------------------------------------------------------

    def storable(self, name: str, value: Any) -> Any:
        """Return *value* for the column *name*; most is left to the driver."""
        try:
            if self._is_sqlite:
                return storable(value)
            if self._table is None:
                return as_text(value) if isinstance(value, dict | list | tuple) else value
            return fitted(self._table.columns[name].type, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the value for {name!r}: {error}") from error

    def kind(self, name: str, value: Any) -> type:
        """Return which type of column *value* asks for."""
        value = self.storable(name, value)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return Aware
        return type(value)

    # -- the transaction ----------------------------------------------------------

    def begin(self) -> None:
        """Begin the transaction, on a connection that works."""
        if self._connection is not None:
            return
        try:
            connection = self._engine.connect()
        except OSError:  # pg8000 says so of a connection that was lost while nobody used it
            self._engine.dispose()
            connection = self._engine.connect()
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._is_broken = False

    def _connected(self) -> sa.Connection:
        assert self._connection is not None, "the transaction has begun"
        return self._connection

    def is_whole(self) -> bool:
        """Say whether neither the connection nor a savepoint was lost."""
        connection = self._connection
        return (
            connection is not None
            and not self._is_broken
            and not connection.invalidated
            and connection.in_transaction()
        )

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is written in it, if it is left by an exception."""
        with self._breaking():
            nested = self._connected().begin_nested()
        try:
            yield
        except BaseException:
            with suppress(Exception), self._breaking():
                nested.rollback()
            raise
        with self._breaking():
            nested.commit()

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Note that the transaction is lost if a savepoint is: some databases end both."""
        try:
            yield
        except BaseException:
            self._is_broken = True
            raise

    def insert(self, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Write *rows*, each with a value for each of the columns *names*."""
        if names not in self._statements:
            self._statements[names] = self._statement(names)
        execute = self._connected().execute
        if names:
            execute(self._statements[names], [dict(zip(names, row, strict=True)) for row in rows])
            return
        for _ in rows:
            execute(self._statements[names])

    def _statement(self, names: tuple[str, ...]) -> Any:
        assert self._table is not None
        table: Any = self._table
        if self._is_sqlite:  # SQLAlchemy's types for it would take dates for dates only
            columns: list[sa.ColumnClause[Any]] = [sa.column(c.name) for c in table.columns]
            table = sa.table(self._name, *columns, schema=self._schema)
        if not self._key:
            return sa.insert(table)
        return upsert(self._dialect.name, table, names, self._key)

    def blames_a_row(self, error: Exception) -> bool:
        """Say whether it is about a constraint or a value."""
        return blames_a_row(error)

    def commit(self) -> None:
        """Make the transaction durable, and give the connection back."""
        connection = self._connected()
        try:
            connection.commit()
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Undo the transaction, if there is one, and give the connection back."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except Exception:  # it is lost; then the server undoes the transaction
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()

    # -- checkpoints ----------------------------------------------------------------

    def open_checkpoints(self) -> None:
        """Create the table for checkpoints, if it is not there."""
        with self._engine.connect():  # for what is known of a server only when it was asked
            self._checkpoints = checkpoints(self._schema, self._options())
        self._checkpoints.create(self._engine, checkfirst=True)

    def kept(self, key: str) -> str | None:
        """Return the checkpoint under *key*, and lock it."""
        table = self._checkpoints
        assert table is not None, "they have been opened"
        statement = sa.select(table.c.checkpoint).where(table.c.key == key).with_for_update()
        found = self._connected().execute(statement).scalar_one_or_none()
        return found if found is None else str(found)

    def keep(self, key: str, checkpoint: str) -> None:
        """Keep *checkpoint*, in the transaction."""
        table, execute = self._checkpoints, self._connected().execute
        assert table is not None, "they have been opened"
        now = sa.func.current_timestamp()
        execute(sa.delete(table).where(table.c.key == key))
        execute(sa.insert(table).values(key=key, checkpoint=checkpoint, updated=now))

    def close(self) -> None:
        """Undo the transaction, and close all connections."""
        try:
            self.rollback()
        finally:
            self._engine.dispose()


def checkpoints(schema: str | None, options: dict[str, Any]) -> sa.Table:
    """Return the table for checkpoints."""
    return sa.Table(
        CHECKPOINTS,
        sa.MetaData(),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("checkpoint", TEXT, nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        schema=schema,
        **options,
    )


def has_default(column: sa.Column[Any]) -> bool:
    """Say whether the database may have a value of its own for *column*."""
    has_value = column.server_default is not None or column.identity is not None
    return has_value or not column.nullable or column.primary_key


def column_type(kinds: set[type], *, is_key: bool) -> sa.types.TypeEngine[Any]:
    """Return the type of a column that holds values of *kinds*; text where they differ."""
    if kinds == {int, float}:
        kinds = {float}
    kind = next(iter(kinds)) if len(kinds) == 1 else str
    if is_key and kind is bytes:
        return SHORT_BYTES
    return TYPES.get(kind, SHORT_TEXT if is_key else TEXT)


def fitted(kind: sa.types.TypeEngine[Any], value: Any) -> Any:
    """
    Return *value* for a column of a *kind*.

    Raises:
        ValueError: it is a time with a zone, and the column would drop the zone.
    """
    if isinstance(kind, sa.String) or (
        isinstance(value, dict | list | tuple) and not isinstance(kind, sa.JSON | sa.ARRAY)
    ):
        return as_text(value)
    if (
        isinstance(kind, sa.DateTime)
        and isinstance(value, datetime)
        and value.tzinfo is not None
        and not getattr(kind, "timezone", False)
    ):
        raise ValueError("it has a time zone, which the column would drop")
    return value


def upsert(dialect: str, table: Any, names: tuple[str, ...], key: tuple[str, ...]) -> Any:
    """Return the statement that adds a row, or replaces the one with the same *key*."""
    others = [name for name in names if name not in key]
    if dialect in ("mysql", "mariadb"):
        into = mysql.insert(table)
        # Not into.inserted: with that, SQLAlchemy 2.1 doubles each % in a name once too often.
        updates = {name: sa.func.values(sa.column(name)) for name in others}
        return into.on_duplicate_key_update(updates or {key[0]: table.columns[key[0]]})
    inserts: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
    if dialect not in inserts:
        raise ConfigError(f"key: there is no upsert for {dialect}; leave the option out")
    statement = inserts[dialect](table)
    elements = [table.columns[name] for name in key]
    if not others:
        return statement.on_conflict_do_nothing(index_elements=elements)
    updates = {name: statement.excluded[name] for name in others}
    return statement.on_conflict_do_update(index_elements=elements, set_=updates)
