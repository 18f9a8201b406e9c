"""Exchanges and queues in the database of a bus; all of this within transactions."""

from m3._plain import dumps, loads
from m3.errors import BusError
from m3.messaging._sqlite.database import Database
from m3.messaging.entities import Exchange, Queue
from m3.messaging.routing import routed

__all__ = ("add_consumer", "declare", "delete", "delete_queue", "remove_consumer", "route")

SELECT_QUEUE = "SELECT durable, auto_delete, exclusive, dead_letter, options FROM queues"


def declare(database: Database, *entities: Exchange | Queue) -> None:
    """Let exchanges and queues be there."""
    for entity in entities:
        if isinstance(entity, Exchange):
            _declare_exchange(database, entity)
        else:
            _declare_queue(database, entity)


def delete(database: Database, *entities: Exchange | Queue) -> None:
    """Let them be there no longer."""
    for entity in entities:
        if isinstance(entity, Exchange):
            _delete_exchange(database, entity.name)
        else:
            delete_queue(database, entity.name)


def route(database: Database, exchange: str, routing_key: str) -> list[str]:
    """Return the names of the queues that get a message."""
    if not exchange:
        found = database.execute("SELECT name FROM queues WHERE name = ?", (routing_key,))
        return [name for (name,) in found]
    kind = database.execute("SELECT type FROM exchanges WHERE name = ?", (exchange,)).fetchone()
    if kind is None:
        raise BusError(f"there is no exchange {exchange!r}; declare it before publishing to it")
    query = "SELECT routing_key, queue FROM bindings WHERE exchange = ?"
    return routed(kind[0], database.execute(query, (exchange,)), routing_key)


def delete_queue(database: Database, name: str) -> None:
    """Let a queue and its messages be there no longer."""
    bound = database.execute("SELECT DISTINCT exchange FROM bindings WHERE queue = ?", (name,))
    exchanges = bound.fetchall()
    database.execute("DELETE FROM messages WHERE queue = ?", (name,))
    database.execute("DELETE FROM bindings WHERE queue = ?", (name,))
    database.execute("DELETE FROM queues WHERE name = ?", (name,))
    for row in exchanges:
        database.execute(
            "DELETE FROM exchanges WHERE name = ? AND auto_delete "
            "AND name NOT IN (SELECT exchange FROM bindings)",
            row,
        )


def add_consumer(database: Database, session: int, queues: tuple[Queue, ...]) -> None:
    """Note that a session has a consumer of *queues*, which are declared."""
    declare(database, *queues)
    for queue in queues:
        if queue.exclusive and _consumers(database, queue.name):
            raise BusError(f"queue {queue.name!r} is exclusive, and has a consumer")
    rows = [(session, queue.name) for queue in queues]
    for row in rows:
        database.execute("INSERT INTO consumers (session, queue) VALUES (?, ?)", row)


def remove_consumer(database: Database, session: int, queue: str) -> None:
    """Note that a session has one consumer of a queue less; the queue may go with it."""
    database.execute(
        "DELETE FROM consumers WHERE rowid = "
        "(SELECT rowid FROM consumers WHERE session = ? AND queue = ? LIMIT 1)",
        (session, queue),
    )
    if _consumers(database, queue):
        return
    goes = "SELECT 1 FROM queues WHERE name = ? AND (auto_delete OR exclusive)"
    if database.execute(goes, (queue,)).fetchone():
        delete_queue(database, queue)


def _consumers(database: Database, queue: str) -> int:
    query = "SELECT count(*) FROM consumers WHERE queue = ?"
    number: int = database.execute(query, (queue,)).fetchone()[0]
    return number


def _declare_exchange(database: Database, exchange: Exchange) -> None:
    if not exchange.name:
        return
    query = "SELECT name, type, durable, auto_delete FROM exchanges WHERE name = ?"
    row = database.execute(query, (exchange.name,)).fetchone()
    if row is None:
        values = (exchange.name, exchange.type, exchange.durable, exchange.auto_delete)
        database.execute("INSERT INTO exchanges VALUES (?, ?, ?, ?)", values)
        return
    there = Exchange(row[0], row[1], durable=bool(row[2]), auto_delete=bool(row[3]))
    if there != exchange:
        raise BusError(f"{exchange} cannot be declared: there is {there}")


def _declare_queue(database: Database, queue: Queue) -> None:
    there = _find_queue(database, queue.name)
    if there is not None and not queue.is_like(there):
        raise BusError(f"{queue} cannot be declared: there is {there}")
    bindings = queue.all_bindings()
    for exchange, _ in bindings:
        _declare_exchange(database, exchange)
    if queue.dead_letter is not None and _find_queue(database, queue.dead_letter) is None:
        _insert_queue(database, Queue(queue.dead_letter))
    if there is None:
        _insert_queue(database, queue)
    for exchange, key in bindings:
        row = (exchange.name, key, queue.name)
        database.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?, ?)", row)


def _find_queue(database: Database, name: str) -> Queue | None:
    row = database.execute(f"{SELECT_QUEUE} WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    return Queue(
        name,
        durable=bool(row[0]),
        auto_delete=bool(row[1]),
        exclusive=bool(row[2]),
        dead_letter=row[3],
        options=loads(row[4]),
    )


def _insert_queue(database: Database, queue: Queue) -> None:
    nature = (queue.durable, queue.auto_delete, queue.exclusive, queue.dead_letter)
    row = (queue.name, *nature, dumps(dict(queue.options)))
    database.execute("INSERT INTO queues VALUES (?, ?, ?, ?, ?, ?)", row)


def _delete_exchange(database: Database, name: str) -> None:
    database.execute("DELETE FROM bindings WHERE exchange = ?", (name,))
    database.execute("DELETE FROM exchanges WHERE name = ?", (name,))
