"""Databases behind SQLAlchemy: opened without a secret in any message, their errors told apart."""

import re
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL

from m3.errors import ConfigError

__all__ = ("blames_a_row", "described", "is_mysql", "open_database")

ROW_STATES = ("42804", "42846", "54000", "P0001")
"""SQLSTATEs of errors about a value, beside the classes 22 and 23: types, sizes, RAISE."""

ROW_NUMBERS = {1048, 1062, 1264, 1265, 1292, 1300, 1364, 1366, 1406, 1644, 1690, 3140, 3819, 4025}
"""Numbers of such errors of MySQL and MariaDB that a driver may take for operational."""

CLIENT_ERRORS = (exc.IntegrityError, exc.DataError, exc.InterfaceError, exc.ProgrammingError)

STRICT = "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')"
"""With it, a value that does not fit is an error to MySQL and MariaDB, and is not made to fit."""


def open_database(url: str, *, writes: bool) -> sa.Engine:
    """
    Return what connects to the database at *url*; nothing is connected yet.

    Values do not appear in its errors: the item does, where the pipeline tells of it.

    Raises:
        ConfigError: no database can be meant; what the URL says is not repeated.
    """
    parsed = parsed_url(url)
    try:
        return prepared(sa.create_engine(parsed, hide_parameters=True, pool_pre_ping=True), writes)
    except exc.NoSuchModuleError:
        problem = f"SQLAlchemy knows no {parsed.drivername!r}"
    except ModuleNotFoundError as error:
        problem = (
            f"{parsed.drivername} needs the driver {error.name}, which is not installed; "
            "install it, or name another as in postgresql+pg8000://"
        )
    except (exc.ArgumentError, TypeError, ValueError):
        problem = f"its options are none that {parsed.drivername} takes"
    raise ConfigError(f"url: {problem}")  # out here, so that no other error comes along


def prepared(engine: sa.Engine, writes: bool) -> sa.Engine:
    """Return *engine*, set up as its dialect needs it."""
    if engine.dialect.name == "sqlite":
        prepare_sqlite(engine, writes=writes)
    elif is_mysql(engine.dialect):
        event.listen(engine, "connect", be_strict)
    return engine


def parsed_url(url: str) -> URL:
    """Return *url* in its parts, or raise without a word of it, for there may be a password."""
    parsed = None
    with suppress(exc.ArgumentError, ValueError, AttributeError):
        parsed = sa.make_url(url)
    if parsed is None:
        raise ConfigError(
            "url: it is none of a database; write dialect+driver://user:password@host:port/name"
        )
    in_memory = parsed.database in (None, "", ":memory:") or "memory" in str(parsed.query)
    if parsed.get_backend_name() == "sqlite" and in_memory:
        raise ConfigError("url: a database that is kept has a file; write sqlite:///path")
    return parsed


def described(engine: sa.Engine) -> str:
    """Return which database it is, without user and password."""
    url = engine.url
    if engine.dialect.name == "sqlite":
        return str(Path(url.database or "").resolve())
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}/{url.database or ''}"


def is_mysql(dialect: sa.Dialect) -> bool:
    """Say whether it is MySQL or MariaDB."""
    return dialect.name in ("mysql", "mariadb")


def prepare_sqlite(engine: sa.Engine, *, writes: bool) -> None:
    """
    Have transactions begin when SQLAlchemy says so.

    Python's sqlite3 would begin them later by itself, and then a savepoint can
    be the outermost transaction, whose release commits.
    """

    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        if writes:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")

    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)


def be_strict(connection: Any, _record: Any) -> None:
    """Have values refused that do not fit."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(STRICT)


def blames_a_row(error: Exception) -> bool:
    """Say whether *error* is about what is in a row, not about the database or the statement."""
    if not isinstance(error, exc.DBAPIError):
        kinds = (exc.StatementError, TypeError, ValueError, OverflowError)
        return isinstance(error, kinds)
    if error.connection_invalidated:
        return False
    code = code_of(error.orig)
    if isinstance(code, int):
        return code in ROW_NUMBERS or isinstance(error, exc.IntegrityError | exc.DataError)
    if code:
        return code[:2] in ("22", "23") or code in ROW_STATES
    return isinstance(error, CLIENT_ERRORS)


def code_of(error: Any) -> str | int | None:
    """Return the server's number or SQLSTATE for *error*; None if it came from no server."""
    first = error.args[0] if error.args else None
    if isinstance(first, dict):  # of pg8000, with the fields of the protocol
        return first.get("C")
    if isinstance(first, int):
        return first
    if isinstance(first, str) and re.fullmatch("[0-9A-Z]{5}", first):  # of pyodbc
        return first
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
