"""A consumer of the bus in a file."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic

from m3._parking import Bell
from m3.errors import BusError
from m3.messaging._sqlite import messages
from m3.messaging._sqlite.clerk import Clerk
from m3.messaging._sqlite.database import Database
from m3.messaging._sqlite.messages import Tag
from m3.messaging.bus import Consumer
from m3.messaging.entities import Delivery, Queue

__all__ = ("SqliteConsumer",)


class SqliteConsumer(Consumer):
    """Has its clerk look for messages when it is asked for one and has none."""

    def __init__(
        self,
        clerk: Clerk,
        queues: Iterable[Queue],
        prefetch: int,
        *,
        forget: Callable[["SqliteConsumer"], object],
    ) -> None:
        self.queues = tuple(queues)
        self._clerk = clerk
        self._prefetch = prefetch
        self._forget = forget
        self._lock = threading.Lock()
        self._bell = Bell()
        self._ready: deque[Delivery] = deque()
        self._unsettled: set[Tag] = set()
        self._unwritten: set[Tag] = set()
        self._given: Tag | None = None
        self._is_hungry = self._is_unanswered = False
        self._error: BusError | None = None
        self._loss: BusError | None = None

    def begin(self) -> None:
        """Have a part in its queues, which are declared."""
        self._clerk.admit(self)

    def receive(self, timeout: float | None = None) -> Delivery | None:
        """See :meth:`Consumer.receive`."""
        self._clerk.check_process()
        deadline = None if timeout is None else monotonic() + timeout
        self._given = None
        try:
            while True:
                delivery = self._next()
                if delivery is not None or self._is_stopped:
                    return delivery
                if not self._wait(deadline):
                    return self._next(is_last=True)
        except BaseException:  # a signal: what has come is for somebody who takes it
            self._withdraw()
            raise

    def _next(self, *, is_last: bool = False) -> Delivery | None:
        """Return a message that is here, or let the clerk look for some."""
        with self._lock:
            if self._is_stopped:
                return None
            if self._loss is not None:
                raise self._loss
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ready:
                self._is_hungry = False
                delivery = self._ready[0]
                self._given = delivery.tag
                self._unsettled.add(delivery.tag)
                self._ready.popleft()
                return delivery
            asks = not self._is_hungry and not is_last and len(self._unsettled) < self._prefetch
            self._is_hungry = not is_last
            self._is_unanswered = asks or self._is_unanswered
        if asks:
            self._look()
        return None

    def _look(self) -> None:
        try:
            self._clerk.look()
        except BusError:
            with self._lock:
                self._is_hungry = self._is_unanswered = False
            if not self._is_stopped:  # it may have been closed, with the bus, just now
                raise

    def _withdraw(self) -> None:
        """Give back what who receives has come by, but will not get."""
        with self._lock:
            tag = self._given
            if tag is not None and tag in self._unsettled:
                if not self._ready or self._ready[0].tag != tag:
                    self._give_back([tag])
                self._unsettled.remove(tag)
        self._let_go()

    def _wait(self, deadline: float | None) -> bool:
        """Wait for something to have changed; return whether there is time left."""
        if deadline is None or self._is_unanswered:
            return self._bell.wait()
        return self._bell.wait(max(deadline - monotonic(), 0.0))

    # -- called by the clerk

    def wants(self) -> int:
        """Return how many messages it can take now; 0 if it does not wait for any."""
        with self._lock:
            if not self._is_hungry or self._is_stopped:
                return 0
            in_hand = len(self._unsettled) + len(self._unwritten) + len(self._ready)
            return max(self._prefetch - in_hand, 0)

    def feed(self, deliveries: list[Delivery]) -> None:
        """Take what was found for it, perhaps nothing."""
        with self._lock:
            if self._is_hungry and not self._is_stopped:
                self._ready += deliveries
                deliveries, is_fed = [], bool(deliveries)
                is_answer, self._is_unanswered = self._is_unanswered, False
                if is_fed and len(self.queues) > 1:
                    self.queues = (*self.queues[1:], self.queues[0])
                if is_fed or is_answer:
                    self._bell.ring()
        self._give_back([delivery.tag for delivery in deliveries])

    def fail(self, error: BusError) -> None:
        """Take note that nothing could be looked for."""
        with self._lock:
            self._error = error
            self._is_hungry = self._is_unanswered = False
            self._bell.ring()

    def forget_all(self) -> None:
        """Take note that the messages that it has were given to others."""
        with self._lock:
            self._ready.clear()

    def lose(self, error: BusError) -> None:
        """Take note that another one has its queue, and that it gets nothing any more."""
        with self._lock:
            self._loss = error
            self._is_hungry = self._is_unanswered = False
            self._bell.ring()

    # -- settling

    def ack(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.ack`."""
        self._settle(delivery, messages.ack)

    def requeue(self, delivery: Delivery, delay: float = 0.0) -> None:
        """See :meth:`Consumer.requeue`."""
        due = time.time() + delay if delay > 0 else None
        self._settle(delivery, partial(messages.requeue, due=due))

    def reject(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.reject`."""
        self._settle(delivery, messages.reject)

    def _settle(self, delivery: Delivery, how: Callable[[Database, Tag], bool]) -> None:
        tag: Tag = delivery.tag
        try:
            with self._lock:
                is_late = tag not in self._unsettled
                if not is_late:
                    self._unwritten.add(tag)
                    self._unsettled.remove(tag)
                self.late += is_late
                has_room = len(self._unsettled) + len(self._ready) == self._prefetch - 1
                is_waiting = self._is_hungry
            if is_late:
                return
            self._clerk.do_later(partial(self._write, how=how, tag=tag), self._count)
            if has_room and is_waiting:
                self._clerk.look()
        except BaseException:  # a signal: it can be settled again, unless it is
            with self._lock:
                if tag in self._unwritten:
                    self._unsettled.add(tag)
                    self._unwritten.remove(tag)
            raise

    def _write(self, database: Database, how: Callable[[Database, Tag], bool], tag: Tag) -> bool:
        is_in_time = how(database, tag)
        with self._lock:  # there is room for another one from here on, in this same transaction
            self._unwritten.discard(tag)
            self._unsettled.discard(tag)
        return is_in_time

    def _count(self, is_in_time: bool) -> None:
        with self._lock:
            self.late += not is_in_time

    # -- the end

    def stop(self) -> None:
        """See :meth:`Consumer.stop`."""
        with self._lock:
            self._is_stopped = True
            self._bell.ring()
        self._let_go()

    def close(self) -> None:
        """See :meth:`Consumer.close`."""
        self.stop()
        with self._lock:
            for tag in self._unsettled | self._unwritten:  # in vain, if it is settled yet
                self._clerk.do_later(partial(messages.requeue, tag=tag), lambda _: None)
            self._unsettled.clear()
        with suppress(BusError):  # it ends with its session at the latest
            self._clerk.dismiss(self)
        self._forget(self)

    def _let_go(self) -> None:
        """Ask for nothing more, and give back what nobody has received."""
        with self._lock:
            self._is_hungry = self._is_unanswered = False
            self._give_back([delivery.tag for delivery in self._ready])
            self._ready.clear()

    def _give_back(self, tags: list[Tag]) -> None:
        if tags:
            self._clerk.do_later(partial(messages.unclaim, tags=tags), lambda _: None)
