"""
Who uses the database of a bus; all of this within transactions.

A session has a lease, which its clerk renews.  When its process is gone, which
its whistle tells, or its lease is over, somebody else ends it: its messages go
back to their queues.  Leases are in the time of the machine since it was booted,
which is the same for all processes and which nobody sets.
"""

import time

from m3.messaging._sqlite.database import Database
from m3.messaging._sqlite.topology import remove_consumer

__all__ = ("end", "enter", "has_ended", "listeners", "overdue", "renew", "whistles")


def enter(database: Database, whistle: str, lease: float) -> int:
    """Begin a session; return its number, which no other one ever has."""
    row = (whistle, time.monotonic() + lease)
    inserted = database.execute("INSERT INTO sessions (whistle, lease) VALUES (?, ?)", row)
    assert inserted.lastrowid is not None
    return inserted.lastrowid


def has_ended(database: Database, session: int) -> bool:
    """Return whether somebody has ended a session."""
    query = "SELECT 1 FROM sessions WHERE id = ?"
    return database.execute(query, (session,)).fetchone() is None


def renew(database: Database, session: int, lease: float) -> None:
    """Begin its lease anew."""
    row = (time.monotonic() + lease, session)
    database.execute("UPDATE sessions SET lease = ? WHERE id = ?", row)


def end(database: Database, whistle: str) -> None:
    """End the sessions with that whistle: what they had goes back, their consumers are gone."""
    query = "SELECT id FROM sessions WHERE whistle = ?"
    for (session,) in database.execute(query, (whistle,)).fetchall():
        _end(database, session)


def overdue(database: Database) -> list[str]:
    """Return the whistles of the sessions whose lease is over."""
    query = "SELECT whistle FROM sessions WHERE lease < ?"
    return [name for (name,) in database.execute(query, (time.monotonic(),))]


def whistles(database: Database) -> set[str]:
    """Return the whistles of all sessions."""
    return {name for (name,) in database.execute("SELECT whistle FROM sessions")}


def listeners(database: Database, queue: str) -> set[str]:
    """Return the whistles of those who have a consumer of a queue."""
    query = "SELECT whistle FROM consumers JOIN sessions ON id = session WHERE queue = ?"
    return {name for (name,) in database.execute(query, (queue,))}


def _end(database: Database, session: int) -> None:
    update = "UPDATE messages SET owner = NULL WHERE owner = ? RETURNING queue"
    back = database.execute(update, (session,)).fetchall()
    database.touched.update(queue for (queue,) in back)
    query = "SELECT queue FROM consumers WHERE session = ?"
    for (queue,) in database.execute(query, (session,)).fetchall():
        remove_consumer(database, session, queue)
    database.execute("DELETE FROM sessions WHERE id = ?", (session,))
