"""SQLite databases: opened, told apart in errors, and names in their statements."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from m3.connectors._input.reading import FilePath
from m3.errors import ConfigError

__all__ = ("BUSY_TIMEOUT", "connect", "listed", "quoted", "told")

BUSY_TIMEOUT = 30.0
"""The default for how many seconds to wait for another process that writes."""


def connect(path: FilePath, mode: str, busy_timeout: float) -> sqlite3.Connection:
    """
    Open the database at *path*; with the mode "rwc", create it if need be, with "rw" do not.

    Transactions begin and end when they are told to.

    Raises:
        ConfigError: the path is one of those that name no file.
        sqlite3.OperationalError: it cannot be opened.
    """
    if os.fspath(path) in ("", ":memory:"):
        raise ConfigError(f"path={os.fspath(path)!r}: a database that is kept has a file")
    if busy_timeout < 0:
        raise ConfigError(f"busy_timeout={busy_timeout}: a time cannot be negative")
    with told(path, busy_timeout):
        return sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )


@contextmanager
def told(path: FilePath, busy_timeout: float) -> Iterator[None]:
    """Add to what SQLite says which database it is about, and what can be done."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = f"{os.fspath(path)}: {error}"
        if "locked" in str(error):
            text += (
                f": another process has been writing to it for longer than busy_timeout="
                f"{busy_timeout:g} s"
            )
        raise type(error)(text) from error


def quoted(name: str) -> str:
    """Return *name* as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Return *names* as they stand in a list in a statement."""
    return ", ".join(map(quoted, names))
