"""Where the messages of a bus in memory are: its exchanges and queues, under one lock."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic

from m3.errors import BusError, BusTimeoutError, UndeliverableError
from m3.messaging._memory.queues import Entry, Shelf, Waiter
from m3.messaging._memory.timer import Timer
from m3.messaging.entities import DEATH_QUEUE, DEATH_REASON, Exchange, Message, Queue
from m3.messaging.every import call_all
from m3.messaging.routing import routed

__all__ = ("Broker",)

MOST_ROUTES = 4096

log = logging.getLogger("m3.messaging.memory")


class Broker:
    """
    Exchanges, queues and messages of the buses that have one name.

    Attributes:
        lock: held by whoever looks at anything in it; never while somebody waits.
        consumers: all that there are.
        users: how many buses are set up; its registry's lock is held for that.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.consumers: set[Waiter] = set()
        self._room = threading.Condition(self.lock)
        self._exchanges: dict[str, Exchange] = {}
        self._bindings: dict[str, dict[tuple[str, str], None]] = {}
        self._shelves: dict[str, Shelf] = {}
        self._routes: dict[tuple[str, str], tuple[Shelf, ...]] = {}
        self._numbers = count(1)
        self._timer = Timer()

    def close(self) -> None:
        """Let go of everything; no bus uses it any more."""
        self._timer.close()

    def wake_publishers(self) -> None:
        """Let those who wait for room look again."""
        with self.lock:
            self._room.notify_all()

    def recover(self) -> None:
        """Have all look again: somebody was interrupted, perhaps just before waking one of them."""
        with self.lock:
            self._room.notify_all()
            for consumer in self.consumers:
                consumer.look_again()

    # -- what there is

    def declare(self, *entities: Exchange | Queue) -> None:
        """Let exchanges and queues be there."""
        with self.lock:
            for entity in entities:
                if isinstance(entity, Exchange):
                    self._declare_exchange(entity)
                else:
                    self._declare_queue(entity)

    def delete(self, *entities: Exchange | Queue) -> None:
        """Let them be there no longer."""
        with self.lock:
            for entity in entities:
                if isinstance(entity, Exchange):
                    self._delete_exchange(entity.name)
                elif (shelf := self._shelves.get(entity.name)) is not None:
                    self._delete_shelf(shelf)
            self._room.notify_all()

    def shelf(self, queue: Queue) -> Shelf:
        """Let a queue be there, and return it; the lock is held."""
        self._declare_queue(queue)
        return self._shelves[queue.name]

    def _declare_exchange(self, exchange: Exchange) -> None:
        if not exchange.name:
            return
        there = self._exchanges.setdefault(exchange.name, exchange)
        if there != exchange:
            raise BusError(f"{exchange} cannot be declared: there is {there}")
        self._bindings.setdefault(exchange.name, {})

    def _declare_queue(self, queue: Queue) -> None:
        there = self._shelves.get(queue.name)
        if there is not None and not queue.is_like(there.spec):
            raise BusError(f"{queue} cannot be declared: there is {there.spec}")
        for exchange, _ in queue.all_bindings():
            self._declare_exchange(exchange)
        if queue.dead_letter is not None and queue.dead_letter not in self._shelves:
            self._shelves[queue.dead_letter] = Shelf(Queue(queue.dead_letter))
        if there is None:
            self._shelves[queue.name] = Shelf(queue)
        for exchange, key in queue.all_bindings():
            self._bindings[exchange.name][key, queue.name] = None
        self._routes.clear()

    def _delete_exchange(self, name: str) -> None:
        self._exchanges.pop(name, None)
        self._bindings.pop(name, None)
        self._routes.clear()

    def _delete_shelf(self, shelf: Shelf) -> None:
        name = shelf.spec.name
        del self._shelves[name]
        shelf.is_deleted = True
        shelf.clear()
        for exchange, bindings in list(self._bindings.items()):
            bound = [binding for binding in bindings if binding[1] == name]
            for binding in bound:
                del bindings[binding]
            if bound and not bindings and self._exchanges[exchange].auto_delete:
                self._delete_exchange(exchange)
        self._routes.clear()

    # -- messages on their way in

    def publish(
        self,
        message: Message,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        timeout: float | None,
        check: Callable[[], object],
    ) -> None:
        """
        Put a message into its queues; blocks while one of them is full.

        Args:
            message: what to publish.
            exchange: as of :meth:`Bus.publish`, and so are the next three.
            routing_key: see there.
            mandatory: see there.
            timeout: see there.
            check: raises if its bus was closed.
        """
        calls: list[Callable[[], object]] = []
        try:
            try:
                with self.lock:
                    shelves = self._route(exchange, routing_key)
                    for shelf in shelves:
                        if shelf.most is not None and shelf.is_full:
                            shelves = self._await_room(exchange, routing_key, timeout, check)
                            break
                    if not shelves and mandatory:
                        raise UndeliverableError(
                            f"no queue gets messages of exchange {exchange!r} with routing key "
                            f"{routing_key!r}: nobody has declared one"
                        )
                    for shelf in shelves:
                        self._put(shelf, message, calls)
            finally:
                call_all(calls)  # without the lock, which whoever is woken may need
        except BusError:
            raise
        except BaseException:
            self.recover()
            raise

    def _route(self, exchange: str, routing_key: str) -> tuple[Shelf, ...]:
        if not exchange:
            shelf = self._shelves.get(routing_key)
            return () if shelf is None else (shelf,)
        try:
            return self._routes[exchange, routing_key]
        except KeyError:
            return self._find_route(exchange, routing_key)

    def _find_route(self, exchange: str, routing_key: str) -> tuple[Shelf, ...]:
        if exchange not in self._exchanges:
            raise BusError(f"there is no exchange {exchange!r}; declare it before publishing to it")
        names = routed(self._exchanges[exchange].type, self._bindings[exchange], routing_key)
        shelves = tuple(self._shelves[name] for name in names)
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        self._routes[exchange, routing_key] = shelves
        return shelves

    def _await_room(
        self,
        exchange: str,
        routing_key: str,
        timeout: float | None,
        check: Callable[[], object],
    ) -> tuple[Shelf, ...]:
        def full() -> list[str]:
            check()
            route = self._route(exchange, routing_key)
            return [shelf.spec.name for shelf in route if shelf.is_full]

        if not self._room.wait_for(lambda: not full(), timeout):
            raise BusTimeoutError(
                f"queue {full()[0]!r} was full for {timeout:g} s; "
                "the message was not published: its consumers are too slow, or gone"
            )
        return self._route(exchange, routing_key)

    def _put(self, shelf: Shelf, message: Message, calls: list[Callable[[], object]]) -> None:
        """Put a message into a queue; add to *calls* what has it received."""
        if shelf.hear is not None:
            calls.append(partial(shelf.hear, message))
            return
        life = message.expiration
        expires = None if life is None else monotonic() + life
        shelf.append(Entry(next(self._numbers), message, shelf, expires))
        if shelf.waiters:
            calls.append(shelf.serve_one())
        if life is not None:
            self._watch(shelf)

    # -- messages on their way out; the lock is held

    def take(self, shelf: Shelf, to: dict[object, Entry], tag: object) -> Entry | None:
        """Take the first message of a queue that has not expired, if any, and have it in *to*."""
        head = shelf.head()
        if head is None:
            return None
        if head.expires is not None:
            self._bury_expired(shelf)
            if not len(shelf):
                return None
        entry = shelf.move_first(to, tag)
        if shelf.most is not None:
            self._room.notify_all()
        self._watch(shelf)
        return entry

    def put_back(self, unsettled: dict[object, Entry], tag: object) -> None:
        """Put a delivered message back where it was."""
        shelf = unsettled[tag].shelf
        shelf.move_back(unsettled, tag)
        self._watch(shelf)
        shelf.wake_one()

    def put_off(self, unsettled: dict[object, Entry], tag: object, delay: float) -> None:
        """Do so after *delay* seconds; at once if there can be no thread that does it then."""
        entry = unsettled[tag]
        entry.is_put_off = True
        try:
            self._timer.call_at(monotonic() + delay, partial(self._end_delay, entry))
        except BaseException as error:
            entry.is_put_off = False
            if not isinstance(error, RuntimeError):
                raise
            text = "a message of %r goes back at once: %s"
            log.warning(text, entry.shelf.spec.name, error)
            self.put_back(unsettled, tag)
        else:
            del unsettled[tag]

    def reject(self, unsettled: dict[object, Entry], tag: object) -> None:
        """Make a dead letter of it, or discard it."""
        self.bury(unsettled[tag], "rejected")
        del unsettled[tag]

    def bury(self, entry: Entry, reason: str) -> None:
        """Make a dead letter of a message, where its queue has a place for these."""
        spec = entry.shelf.spec
        shelf = None if spec.dead_letter is None else self._shelves.get(spec.dead_letter)
        if shelf is None:
            return
        causes = {DEATH_REASON: reason, DEATH_QUEUE: spec.name}
        headers = {**causes, **entry.message.headers}
        message = replace(entry.message, headers=headers, expiration=None)
        if shelf.hear is not None:
            shelf.hear(message)
            return
        shelf.append(Entry(next(self._numbers), message, shelf, None))
        shelf.wake_one()

    def release(self, shelf: Shelf, consumer: object) -> None:
        """Note that one of its consumers is gone; it may go, too."""
        shelf.consumers.discard(consumer)
        goes = shelf.spec.auto_delete or shelf.spec.exclusive
        if goes and not shelf.consumers and not shelf.is_deleted:
            self._delete_shelf(shelf)
            self._room.notify_all()

    def _end_delay(self, entry: Entry) -> None:
        with self.lock:
            entry.shelf.put_back(entry)
            self._watch(entry.shelf)
            entry.shelf.wake_one()

    def _bury_expired(self, shelf: Shelf) -> None:
        while (entry := shelf.expired()) is not None:
            self.bury(entry, "expired")
            shelf.move_first({}, None)
            if shelf.most is not None:
                self._room.notify_all()

    def _watch(self, shelf: Shelf) -> None:
        """See to it that the first message does not stay when it has expired."""
        head = shelf.head()
        if head is None or head.expires is None:
            return
        before, due = shelf.alarm, head.expires
        if before is not None and before <= due:
            return
        shelf.alarm = due
        try:
            self._timer.call_at(due, partial(self._look_after, shelf, due))
        except BaseException as error:
            shelf.alarm = before
            if not isinstance(error, RuntimeError):
                raise
            text = "what expires in %r stays until somebody receives or publishes: %s"
            log.warning(text, shelf.spec.name, error)

    def _look_after(self, shelf: Shelf, alarm: float) -> None:
        with self.lock:
            if shelf.alarm != alarm:
                return
            shelf.alarm = None
            self._bury_expired(shelf)
            self._watch(shelf)
