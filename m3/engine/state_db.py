"""The database of a state: SQLite, one row for the checkpoint and one for crashes, one writer."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from m3._durable import sync
from m3.errors import StateError

__all__ = (
    "Damaged",
    "Kept",
    "StateDatabase",
    "create_database",
    "files_of",
    "now",
    "read_database",
    "sync",
)

SCHEMA = 1
APPLICATION = 0x6D337374
PATIENCE = 10.0

NO_ACCESS = (
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
)

CRASHES = (
    "CREATE TABLE IF NOT EXISTS crashes (id INTEGER PRIMARY KEY CHECK (id = 1), "
    "record TEXT NOT NULL)"
)
"""Made when it is needed first; a state without it is whole."""

SUFFIXES = ("", "-wal", "-shm", "-journal")


class Damaged(Exception):
    """The database is not as it was left; the text says what is wrong."""


class Kept(NamedTuple):
    """What is kept: what the state is, its last checkpoint, when that was written, and crashes."""

    about: str
    checkpoint: str
    written: str
    crashes: str | None = None


class StateDatabase:
    """
    The database, open for writing, for one thread at a time.

    Args:
        path: of a database that :func:`read_database` has found whole.

    Raises:
        StateError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _connect(path)
        try:
            _prepare(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._connection.close()
            raise StateError(f"{path} cannot be written: {error}") from error
        self._file = path.stat()

    def write(self, checkpoint: str | None = None, crashes: str | None = None) -> None:
        """
        Replace the checkpoint, the record of crashes, or both together; durable at the return.

        Raises:
            StateError: it was not written; what was there before it stays.
        """
        execute = self._connection.execute
        changed = 1
        try:
            with self._connection:
                execute("BEGIN IMMEDIATE")
                if checkpoint is not None:
                    update = "UPDATE state SET checkpoint = ?, written = ?"
                    changed = execute(update, (checkpoint, now())).rowcount
                if crashes is not None:
                    execute(CRASHES)
                    execute("INSERT OR REPLACE INTO crashes VALUES (1, ?)", (crashes,))
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: no checkpoint can be written: {error}") from error
        if changed != 1 or not self._is_in_place():
            raise StateError(f"{self.path} was removed or replaced while a run was using it")

    def close(self) -> None:
        """Close it; what is in the write-ahead log goes into the file, if that can be done now."""
        with suppress(sqlite3.Error):
            _empty_log(self._connection)
        self._connection.close()

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._file, self.path.stat())
        except OSError:
            return False


def create_database(path: Path, about: str, checkpoint: str) -> None:
    """
    Make the database; after a crash or an error on the way there is none, or all of it.

    What such an attempt has left beside it is removed by the next one.

    Raises:
        StateError: it cannot be written.
        OSError: the same.
    """
    beside = path.with_name(path.name + ".new")
    for leftover in files_of(beside):
        leftover.unlink()
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_connect(beside)) as connection:
            _prepare(connection)
            _fill(connection, about, checkpoint)
            _empty_log(connection)
    except sqlite3.Error as error:
        raise StateError(f"{path} cannot be written: {error}") from error
    sync(beside)
    beside.rename(path)
    sync(path.parent)


def read_database(path: Path) -> Kept:
    """
    Return the row without changing any file, also while a run writes.

    Raises:
        Damaged: there is none that can be read.
        StateError: there is no access to it.
    """
    if not path.is_file():
        raise Damaged("it is no file" if path.exists() else "it is missing")
    if path.with_name(path.name + "-journal").exists():
        raise Damaged("there is a journal beside it that is not of m3")
    has_log = path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}"
    with _speaking_of(path), closing(_connect(uri, uri=True)) as connection:
        return _read(connection)


def files_of(path: Path) -> list[Path]:
    """Return the files of the database that are there."""
    files = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
    return [file for file in files if os.path.lexists(file)]


def _connect(database: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        database, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=uri
    )


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")


def _fill(connection: sqlite3.Connection, about: str, checkpoint: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute(
        "CREATE TABLE state (about TEXT NOT NULL, checkpoint TEXT NOT NULL, written TEXT NOT NULL)"
    )
    connection.execute("INSERT INTO state VALUES (?, ?, ?)", (about, checkpoint, now()))
    connection.execute("COMMIT")


def _empty_log(connection: sqlite3.Connection) -> None:
    """
    Put what is in the write-ahead log into the file, which a close does only if it can.

    Raises:
        sqlite3.Error: not all of it is there.
    """
    ((is_busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if is_busy:
        raise sqlite3.OperationalError("its write-ahead log is in use")


def _read(connection: sqlite3.Connection) -> Kept:
    connection.execute("BEGIN")
    _check(connection)
    rows = connection.execute("SELECT about, checkpoint, written FROM state").fetchall()
    crashes = _read_crashes(connection)
    connection.execute("COMMIT")
    if len(rows) != 1 or not all(isinstance(value, str) for value in rows[0]):
        raise Damaged("it does not hold one checkpoint")
    about, checkpoint, written = rows[0]
    return Kept(about, checkpoint, written, crashes)


def _read_crashes(connection: sqlite3.Connection) -> str | None:
    """Return the record of crashes, if there is one."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if tables == {"state"}:
        return None
    if tables != {"state", "crashes"}:
        raise Damaged("it has tables that are not of m3")
    rows = connection.execute("SELECT record FROM crashes").fetchall()
    if len(rows) != 1 or not isinstance(rows[0][0], str):
        raise Damaged("it does not hold one record of crashes")
    return str(rows[0][0])


def _check(connection: sqlite3.Connection) -> None:
    ((application,),) = connection.execute("PRAGMA application_id")
    ((schema,),) = connection.execute("PRAGMA user_version")
    if application != APPLICATION:
        raise Damaged("it is no state of m3")
    if schema > SCHEMA:
        raise Damaged("it was written by a newer m3")
    if schema != SCHEMA:
        raise Damaged(f"it has the schema {schema}, which there never was")
    found = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if found != [("ok",)]:
        raise Damaged(f"SQLite says: {found[0][0]}")


@contextmanager
def _speaking_of(path: Path) -> Iterator[None]:
    """Tell damage from what has nothing to do with the content of the files."""
    try:
        yield
    except (sqlite3.Error, MemoryError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in NO_ACCESS:
            raise StateError(f"{path} cannot be read: {error}") from error
        raise Damaged(f"SQLite says: {error}") from error


def now() -> str:
    """Return the time as it is kept: ISO 8601, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
