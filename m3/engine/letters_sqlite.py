"""Dead letters in SQLite."""

import os
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from m3.engine.claims import claimed
from m3.engine.dead_letter import (
    EVERY,
    NOBODY,
    OF_STATE,
    DeadLetter,
    Row,
    Selection,
    letter_of,
    read_mark,
    row_of,
    rows_of,
    states_of,
)
from m3.errors import DeadLetterError, StageError, StateError

__all__ = ("SqliteDeadLetters",)

APPLICATION = 0x6D33646C
"""``m3dl``: what the file says it is."""

SCHEMA = 1
LEAST = 512
"""The bytes of the smallest database; SQLite takes a rest of one for an empty file."""

PATIENCE = 10.0
"""Seconds to wait for another process that writes."""

MOST_PENDING = 1_000
MOST_PENDING_BYTES = 4_000_000
PAGE = 200
"""So many letters are in memory while they are iterated over."""

TABLE = """
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item TEXT,
    text TEXT NOT NULL,
    position TEXT NOT NULL,
    stage TEXT NOT NULL,
    kind TEXT NOT NULL,
    worker INTEGER NOT NULL,
    pipeline TEXT NOT NULL,
    error_type TEXT NOT NULL,
    message TEXT NOT NULL,
    traceback TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_failed REAL NOT NULL,
    last_failed REAL NOT NULL,
    writer TEXT NOT NULL
)
"""
COLUMNS = ", ".join(Row._fields)
INSERT = f"INSERT INTO letters ({COLUMNS}, writer) VALUES ({'?, ' * len(Row._fields)}?)"  # noqa: S608
UPDATE = f"UPDATE letters SET {', '.join(f'{name} = ?' for name in Row._fields)} WHERE id = ?"  # noqa: S608
SELECT = f"SELECT id, {COLUMNS} FROM letters WHERE id > ? AND id <= ? ORDER BY id LIMIT {PAGE}"  # noqa: S608


class SqliteDeadLetters:
    """
    A store as of :class:`~m3.engine.letters.DeadLetters`.

    Transactions are short: letters wait in memory for :meth:`commit`, or until
    there are many, so that several processes can write.

    Args:
        path: the file; made, for its owner only, if it is not there.

    Raises:
        StateError: it is something else, damaged or cannot be opened.
    """

    note = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._writer = secrets.token_hex(8)
        self._pending: list[tuple[Any, ...]] = []
        self._pending_bytes = 0
        self._connection: sqlite3.Connection | None = None
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise StateError(
                f"{path}: cannot be opened as a store of dead letters: {error}"
            ) from error
        except BaseException:
            self._disconnect()
            raise

    # -- putting letters in

    def put(
        self,
        failure: StageError,
        *,
        items: Sequence[tuple[Any, Any]],
        kind: str,
        pipeline: str,
        now: float,
    ) -> None:
        """Keep a letter for each of *items*."""
        rows = [*rows_of(failure, items=items, kind=kind, pipeline=pipeline, now=now)]
        with self._lock:
            self._pending += [(*row, self._writer) for row in rows]
            self._pending_bytes += sum(row.size for row in rows)
            if len(self._pending) >= MOST_PENDING or self._pending_bytes >= MOST_PENDING_BYTES:
                self.commit()

    def belong_to(self, state: str) -> None:
        """Note the folder of the state of the run that puts letters."""
        self._writer += OF_STATE + state

    def states(self) -> set[str]:
        """Return the folders of the states of the runs that have put them."""
        with self._lock, self._reading() as connection:
            rows = connection.execute("SELECT DISTINCT writer FROM letters").fetchall()
        return states_of(writer for (writer,) in rows)

    def commit(self) -> None:
        """Make durable what was put."""
        with self._lock:
            if not self._pending:
                return
            with self._writing() as connection:
                connection.executemany(INSERT, self._pending)
            self._pending.clear()
            self._pending_bytes = 0

    def hasten(self, seconds: float) -> None:
        """Wait no longer than so many *seconds* for another process that writes."""
        with self._lock:
            if self._connection is not None:
                milliseconds = int(1000 * min(seconds, PATIENCE))
                self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")

    def close(self) -> None:
        """Commit and close."""
        with self._lock:
            try:
                if self._connection is not None:
                    self.commit()
            finally:
                self._disconnect()

    # -- going back

    def mark(self) -> Any:
        """Commit, and return where the store stands."""
        with self._lock:
            self.commit()
            with self._reading() as connection:
                row = connection.execute(
                    "SELECT seq FROM sqlite_sequence WHERE name = 'letters'"
                ).fetchone()
            return {"writer": self._writer, "last": row[0] if row else 0}

    def resume(self, mark: Any) -> None:
        """Remove what was put since *mark* by those who go by it."""
        if mark is None:
            return
        writer, last = read_mark(mark, self._path)
        with self._lock:
            with self._writing() as connection:
                connection.execute(
                    "DELETE FROM letters WHERE writer = ? AND id > ?", (writer, last)
                )
            self._writer = writer

    # -- looking at them, and taking them out

    def select(self, selection: Selection = EVERY) -> Iterator[DeadLetter]:
        """Iterate over the letters of *selection* that are there now."""
        with self._lock:
            self.commit()
            with self._reading() as connection:
                (last,) = connection.execute("SELECT max(id) FROM letters").fetchone()
        number = 0
        if selection.ids is not None:
            number, last = (
                min(selection.ids, default=1) - 1,
                min(last or 0, max(selection.ids, default=0)),
            )
        while page := self._page(number, last or 0):
            number = page[-1].id
            yield from (letter for letter in page if letter in selection)

    def settle(self, *, gone: Collection[int] = (), changed: Iterable[DeadLetter] = ()) -> None:
        """Remove and change letters, in one transaction."""
        kept = [(letter.id, row_of(letter)) for letter in changed]
        with self._lock, self._writing() as connection:
            connection.executemany("DELETE FROM letters WHERE id = ?", [(each,) for each in gone])
            connection.executemany(UPDATE, [(*row, number) for number, row in kept if number])
            new = [(*row, NOBODY) for number, row in kept if not number]
            connection.executemany(INSERT, new)

    @contextmanager
    def redriving(self) -> Iterator[None]:
        """Keep other redrives out, by a file beside the database."""
        path = self._path.with_name(f"{self._path.name}-redrive")
        try:
            descriptor = claimed(path, refusal=f"{self._path}: another process redrives letters")
        except OSError as error:
            raise StateError(f"{path}: cannot be made: {error.strerror}") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _page(self, number: int, last: int) -> list[DeadLetter]:
        with self._lock, self._reading() as connection:
            rows = connection.execute(SELECT, (number, last)).fetchall()
        try:
            return [letter_of(row[0], Row(*row[1:])) for row in rows]
        except (ValueError, TypeError) as error:
            raise StateError(f"{self._path}: a damaged letter behind number {number}") from error

    # -- the file

    def _open(self) -> None:
        with suppress(FileExistsError):
            # Only a new file: closing one that is open in this process gives up SQLite's locks.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if 0 < self._path.stat().st_size < LEAST:
            raise StateError(f"{self._path}: is cut off, and no store of dead letters any more")
        connection = self._connection = sqlite3.connect(
            self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (tables or application) and application != APPLICATION:
            raise StateError(f"{self._path}: is a database of something else, not of dead letters")
        if version > SCHEMA:
            raise StateError(
                f"{self._path}: was written by a newer m3 (schema {version}, this one knows "
                f"{SCHEMA}); use that one"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if not version:
            self._make_table()

    def _make_table(self) -> None:
        assert self._connection is not None
        with _transaction(self._connection):
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if not version:  # nobody else has made it since
                self._connection.execute(TABLE)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with _transaction(self._connected()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise DeadLetterError(
                f"{self._path}: the dead letters cannot be written: {error}"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connected()
        except sqlite3.Error as error:
            raise StateError(f"{self._path}: the dead letters cannot be read: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise DeadLetterError(f"{self._path}: the store was closed")
        return self._connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Write together what the block writes, or nothing if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
