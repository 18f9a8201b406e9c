"""The database of a bus: opened, and written in transactions."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from m3.errors import BusError

__all__ = ("Database", "is_busy")

APPLICATION = 0x6D336275
SCHEMA = 1

BUSY_TIMEOUT = 0.25
"""Seconds for which one attempt to write waits for another process; others follow."""

TABLES = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS exchanges (
        name TEXT PRIMARY KEY, type TEXT NOT NULL,
        durable INTEGER NOT NULL, auto_delete INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS queues (
        name TEXT PRIMARY KEY, durable INTEGER NOT NULL, auto_delete INTEGER NOT NULL,
        exclusive INTEGER NOT NULL, dead_letter TEXT, options TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS bindings (
        exchange TEXT, routing_key TEXT, queue TEXT,
        PRIMARY KEY (exchange, routing_key, queue)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, whistle TEXT NOT NULL, lease REAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS consumers (session INTEGER NOT NULL, queue TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, owner INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0, due REAL, expires REAL
    );
    CREATE TABLE IF NOT EXISTS contents (
        id INTEGER PRIMARY KEY, body BLOB NOT NULL, properties TEXT NOT NULL
    );
    CREATE TRIGGER IF NOT EXISTS settled AFTER DELETE ON messages
        BEGIN DELETE FROM contents WHERE id = OLD.id; END;
    CREATE INDEX IF NOT EXISTS waiting ON messages (queue, id) WHERE owner IS NULL AND due IS NULL;
    CREATE INDEX IF NOT EXISTS owned ON messages (owner) WHERE owner IS NOT NULL;
    CREATE INDEX IF NOT EXISTS delayed ON messages (due) WHERE due IS NOT NULL;
    CREATE INDEX IF NOT EXISTS expiring ON messages (expires)
        WHERE expires IS NOT NULL AND owner IS NULL;
    PRAGMA user_version = {SCHEMA};
    PRAGMA application_id = {APPLICATION};
    COMMIT;
"""

_creating = threading.Lock()
_open: "WeakSet[Database]" = WeakSet()
_inherited: list["Database"] = []


class Database:
    """
    The database, for one thread.

    A message and its content are apart, so that a body is written once.

    Args:
        path: the file; made if it is missing.

    Attributes:
        touched: the queues that have got messages in this transaction.

    Raises:
        BusError: it is something else.
        sqlite3.Error: it cannot be used; :func:`is_busy` tells whether it can be later.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.touched: set[str] = set()
        self._synchronous = ""
        _create(path)
        self._connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self.execute = self._connection.execute
        self._version = self._data_version()
        _open.add(self)

    def _prepare(self) -> None:
        # In this order: whoever makes the tables writes the number with them.
        ((tables,),) = self._connection.execute("SELECT count(*) FROM sqlite_schema")
        ((found,),) = self._connection.execute("PRAGMA application_id")
        if found != APPLICATION and tables:
            raise BusError(f"{self.path} is a database of something else, and not a bus")
        ((version,),) = self._connection.execute("PRAGMA user_version")
        if version > SCHEMA:
            raise BusError(f"{self.path} was made by a later version of m3; update m3")
        self._connection.execute("PRAGMA journal_mode = WAL")
        if version < SCHEMA:
            self._connection.executescript(TABLES)

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[None]:
        """Write all or nothing; *durable*: what outlives a loss of power when this returns."""
        synchronous = "FULL" if durable else "NORMAL"
        if self._synchronous != synchronous:
            self.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        self.touched.clear()
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.execute("ROLLBACK")
            raise

    def has_changed(self) -> bool:
        """Return whether another connection has written since this was last asked."""
        version, self._version = self._version, self._data_version()
        return version != self._version

    def close(self) -> None:
        """Close it."""
        _open.discard(self)
        self._connection.close()

    def _data_version(self) -> int:
        ((version,),) = self._connection.execute("PRAGMA data_version")
        return int(version)


def _create(path: Path) -> None:
    """Make the file if it is missing, for its owner alone."""
    # Never open one that is there: when this process closes a file, it loses all locks that
    # SQLite has on it, and then another process may take away the log that is in use.
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process was writing for too long."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def _keep_open() -> None:
    """Never close in the child of a fork what its parent uses: SQLite would write to it."""
    _inherited.extend(_open)


os.register_at_fork(after_in_child=_keep_open)
