"""Messages in the database of a bus; all of this within transactions."""

import time
from collections.abc import Iterable
from typing import NamedTuple

from m3._plain import dumps, loads
from m3.errors import UndeliverableError
from m3.messaging._sqlite.database import Database
from m3.messaging._sqlite.topology import route
from m3.messaging.entities import DEATH_QUEUE, DEATH_REASON, Delivery, Message

__all__ = (
    "FullError",
    "Tag",
    "Written",
    "ack",
    "claim",
    "has_waiting",
    "look_after",
    "next_alarm",
    "publish",
    "reject",
    "requeue",
    "unclaim",
    "write",
)

OWN = "WHERE id = ? AND owner = ? AND attempts = ?"
WAITING = "queue = ? AND owner IS NULL AND due IS NULL"


class FullError(Exception):
    """A message has to wait for room in a queue, whose name this has."""


class Written(NamedTuple):
    """A message as it stands in the database."""

    body: bytes
    properties: str
    expiration: float | None


class Tag(NamedTuple):
    """
    What a delivery is known by: if it was taken away from its session, nothing has it.

    Its fields are the parameters of OWN.
    """

    id: int
    session: int
    attempts: int


def write(message: Message) -> Written:
    """
    Return *message* as it is stored.

    Raises:
        NotPlainError: there is something in its headers that cannot be.
    """
    properties = (
        dict(message.headers),
        message.content_type,
        message.correlation_id,
        message.reply_to,
        message.expiration,
        message.message_id,
        message.priority,
        message.timestamp,
        message.persistent,
    )
    return Written(message.body, dumps(properties), message.expiration)


def _read(body: bytes, properties: str) -> Message:
    headers, kind, correlation, reply_to, expiration, number, priority, made, persistent = loads(
        properties
    )
    return Message(
        body=body,
        headers=headers,
        content_type=kind,
        correlation_id=correlation,
        reply_to=reply_to,
        expiration=expiration,
        message_id=number,
        priority=priority,
        timestamp=made,
        persistent=persistent,
    )


def publish(
    database: Database, written: Written, exchange: str, routing_key: str, mandatory: bool
) -> None:
    """
    Put a message into its queues.

    Raises:
        UndeliverableError: it is mandatory, and there is none.
        FullError: a queue has no room.
    """
    queues = route(database, exchange, routing_key)
    if not queues and mandatory:
        raise UndeliverableError(
            f"no queue gets messages of exchange {exchange!r} with routing key "
            f"{routing_key!r}: nobody has declared one"
        )
    for queue in queues:
        _check_room(database, queue)
    for queue in queues:
        _insert(database, queue, written)


def _check_room(database: Database, queue: str) -> None:
    (options,) = database.execute("SELECT options FROM queues WHERE name = ?", (queue,)).fetchone()
    if options == "{}":
        return
    most = loads(options).get("max_length")
    if most is None:
        return
    query = f"SELECT count(*) FROM (SELECT 1 FROM messages WHERE {WAITING} LIMIT ?)"
    if database.execute(query, (queue, most)).fetchone()[0] >= most:
        raise FullError(queue)


def _insert(database: Database, queue: str, written: Written) -> None:
    life = written.expiration
    expires = None if life is None else time.time() + life
    row = (queue, expires)
    inserted = database.execute("INSERT INTO messages (queue, expires) VALUES (?, ?)", row)
    content = (inserted.lastrowid, written.body, written.properties)
    database.execute("INSERT INTO contents VALUES (?, ?, ?)", content)
    database.touched.add(queue)


def has_waiting(database: Database, queue: str) -> bool:
    """Return whether there is a message in a queue that nobody has."""
    query = f"SELECT 1 FROM messages WHERE {WAITING} LIMIT 1"
    return database.execute(query, (queue,)).fetchone() is not None


def claim(database: Database, session: int, queue: str, most: int) -> list[Delivery]:
    """Give the first messages of a queue to a session, *most* of them at most."""
    ids = database.execute(
        "UPDATE messages SET owner = ?, attempts = attempts + 1 WHERE id IN "
        f"(SELECT id FROM messages WHERE {WAITING} AND (expires IS NULL OR expires > ?) "
        "ORDER BY id LIMIT ?) RETURNING id, attempts",
        (session, queue, time.time(), most),
    )
    deliveries = []
    for number, attempts in sorted(ids.fetchall()):
        query = "SELECT body, properties FROM contents WHERE id = ?"
        message = _read(*database.execute(query, (number,)).fetchone())
        tag = Tag(number, session, attempts)
        deliveries.append(Delivery(message, queue, tag, attempts > 1, attempts))
    return deliveries


def ack(database: Database, tag: Tag) -> bool:
    """Remove a message; return whether the session still had it."""
    return database.execute(f"DELETE FROM messages {OWN}", tag).rowcount > 0


def requeue(database: Database, tag: Tag, due: float | None = None) -> bool:
    """Put a message back where it was, not before *due*; return whether the session had it."""
    update = f"UPDATE messages SET owner = NULL, due = ? {OWN} RETURNING queue"
    return _put_back(database, database.execute(update, (due, *tag)))


def unclaim(database: Database, tags: Iterable[Tag]) -> None:
    """Put messages back that nobody has received."""
    update = f"UPDATE messages SET owner = NULL, attempts = attempts - 1 {OWN} RETURNING queue"
    for tag in tags:
        _put_back(database, database.execute(update, tag))


def reject(database: Database, tag: Tag) -> bool:
    """Make a dead letter of a message, or discard it; return whether the session had it."""
    row = database.execute(f"SELECT id FROM messages {OWN}", tag).fetchone()
    if row is None:
        return False
    _bury(database, row[0], "rejected")
    return True


def look_after(database: Database) -> None:
    """Deal with what has expired, and with what was to come back later."""
    now = time.time()
    due = database.execute("UPDATE messages SET due = NULL WHERE due <= ? RETURNING queue", (now,))
    database.touched.update(queue for (queue,) in due.fetchall())
    query = "SELECT id FROM messages WHERE expires <= ? AND owner IS NULL ORDER BY id"
    for (number,) in database.execute(query, (now,)).fetchall():
        _bury(database, number, "expired")


def next_alarm(database: Database) -> float | None:
    """Return when :func:`look_after` has something to do, in seconds since 1970."""
    queries = (
        "SELECT min(due) FROM messages WHERE due IS NOT NULL",
        "SELECT min(expires) FROM messages WHERE expires IS NOT NULL AND owner IS NULL",
    )
    times = [database.execute(query).fetchone()[0] for query in queries]
    return min((moment for moment in times if moment is not None), default=None)


def _put_back(database: Database, rows: Iterable[tuple[str]]) -> bool:
    queues = [queue for (queue,) in rows]
    database.touched.update(queues)
    return bool(queues)


def _bury(database: Database, number: int, reason: str) -> None:
    """Move a message to the back of the dead letters of its queue, if it has a place for these."""
    found = database.execute(
        "SELECT queues.name, letters.name, body, properties FROM messages "
        "JOIN contents USING (id) JOIN queues ON queues.name = queue "
        "LEFT JOIN queues AS letters ON letters.name = queues.dead_letter WHERE id = ?",
        (number,),
    ).fetchone()
    database.execute("DELETE FROM messages WHERE id = ?", (number,))
    if found is None or found[1] is None:
        return
    queue, letters, body, properties = found
    message = _read(body, properties)
    message.headers = {DEATH_REASON: reason, DEATH_QUEUE: queue, **message.headers}
    message.expiration = None
    _insert(database, letters, write(message))
