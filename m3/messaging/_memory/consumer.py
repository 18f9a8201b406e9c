"""A consumer of the bus in memory."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic

from m3._parking import Bell
from m3.errors import BusError
from m3.messaging._memory.broker import Broker
from m3.messaging._memory.queues import Entry
from m3.messaging.bus import Consumer
from m3.messaging.entities import Delivery, Queue

__all__ = ("MemoryConsumer",)


class MemoryConsumer(Consumer):
    """
    Takes one message at a time, when it is asked for one.

    So what *prefetch* allows is not set aside for it: it goes to whoever is free.
    """

    def __init__(
        self,
        broker: Broker,
        queues: Iterable[Queue],
        prefetch: int,
        *,
        forget: Callable[["MemoryConsumer"], object],
    ) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self._forget = forget
        self._bell = Bell()
        self._is_waiting = False
        self._unsettled: dict[object, Entry] = {}
        self._offered_to: Callable[[Delivery], bool] | None = None
        self._left: deque[Delivery] = deque()
        with broker.lock:
            self._shelves = [broker.shelf(queue) for queue in queues]
            for shelf in self._shelves:
                if shelf.spec.exclusive and shelf.consumers:
                    raise BusError(f"queue {shelf.spec.name!r} is exclusive, and has a consumer")
            for shelf in self._shelves:
                shelf.consumers += 1

    def receive(self, timeout: float | None = None) -> Delivery | None:
        """See :meth:`Consumer.receive`."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with self._broker.lock:
                delivery = self._take()
                if delivery is not None or self._is_stopped:
                    return delivery
                self._enlist()
            if not self._wait(deadline):
                with self._broker.lock:
                    self._delist()
                    return self._take()

    def offer_to(self, take: Callable[[Delivery], bool]) -> None:
        """See :meth:`Consumer.offer_to`."""
        with self._broker.lock:
            self._offered_to = take

    def _take(self) -> Delivery | None:
        if self._is_stopped:
            return None
        delivery = self._left.popleft() if self._left else self._take_next()
        if len(self._shelves) > 1:  # it may have been called for another message, which it leaves
            for shelf in self._shelves:
                shelf.wake_one()
        return delivery

    def _take_next(self) -> Delivery | None:
        if len(self._unsettled) >= self._prefetch:
            return None
        for at, shelf in enumerate(self._shelves):
            entry = self._broker.take(shelf)
            if entry is None:
                continue
            if len(self._shelves) > 1:
                self._shelves.append(self._shelves.pop(at))
            tag = object()
            self._unsettled[tag] = entry
            attempts = entry.attempts
            return Delivery(entry.message, shelf.spec.name, tag, attempts > 1, attempts)
        return None

    def _enlist(self) -> None:
        self._is_waiting = True
        if len(self._unsettled) < self._prefetch:
            for shelf in self._shelves:
                shelf.waiters[self] = None

    def _delist(self) -> None:
        self._is_waiting = False
        for shelf in self._shelves:
            shelf.waiters.pop(self, None)

    def _wait(self, deadline: float | None) -> bool:
        try:
            return self._bell.wait(None if deadline is None else max(deadline - monotonic(), 0.0))
        except BaseException:  # a signal: whoever woke it meant somebody who takes the message
            with self._broker.lock:
                self._pass_on()
            raise

    def called(self) -> Bell:
        """See :class:`Waiter`; the broker's lock is held."""
        self._delist()
        return self._bell

    def served(self) -> Callable[[], object]:
        """See :class:`Waiter`; the broker's lock is held."""
        delivery = self._fed()
        return self.called().ring if delivery is None else partial(self._hand, delivery)

    def _fed(self) -> Delivery | None:
        """Return what is to be offered now; it stays in line for more, behind the others."""
        if self._offered_to is None or self._left or not self._is_waiting or self._is_stopped:
            return None
        delivery = self._take_next()
        if delivery is not None:
            self._delist()
            self._enlist()
        return delivery

    def _hand(self, delivery: Delivery) -> None:
        """Offer a message; if it is not taken, also because of a signal, have it received."""
        assert self._offered_to is not None
        is_taken = False
        try:
            is_taken = self._offered_to(delivery)
        finally:
            if not is_taken:
                self._leave(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """Have a message received that nobody else has taken."""
        with self._broker.lock:
            if delivery.tag not in self._unsettled:  # it was closed, and has given it back
                return
            self._left.append(delivery)
            if self._is_stopped:
                self._pass_on()
            else:
                self.called().ring()

    def _pass_on(self) -> None:
        while self._left:
            entry = self._unsettled.pop(self._left.pop().tag)
            entry.attempts -= 1
            self._broker.put_back(entry)
        self._delist()
        for shelf in self._shelves:
            shelf.wake_one()

    # -- settling

    def ack(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.ack`."""
        with self._broker.lock:
            is_in_need = self._pop(delivery) is not None and self._has_room_again()
            more = self._next_or_wait() if is_in_need else None
        if more is not None:
            self._hand(more)

    def requeue(self, delivery: Delivery, delay: float = 0.0) -> None:
        """See :meth:`Consumer.requeue`."""
        with self._broker.lock:
            entry = self._settle(delivery)
            if entry is not None and delay <= 0:
                self._broker.put_back(entry)
        if entry is not None and delay > 0:
            self._broker.put_back_later(entry, delay)

    def reject(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.reject`."""
        with self._broker.lock:
            entry = self._settle(delivery)
            if entry is not None:
                self._broker.bury(entry, "rejected")

    def _settle(self, delivery: Delivery) -> Entry | None:
        entry = self._pop(delivery)
        if entry is not None and self._has_room_again():
            self.called().ring()
        return entry

    def _pop(self, delivery: Delivery) -> Entry | None:
        entry = self._unsettled.pop(delivery.tag, None)
        self.late += entry is None
        return entry

    def _has_room_again(self) -> bool:
        return self._is_waiting and len(self._unsettled) == self._prefetch - 1

    def _next_or_wait(self) -> Delivery | None:
        """Return what is to be offered now that there is room; else wait in line for it."""
        if self._offered_to is None:
            self.called().ring()
            return None
        delivery = self._fed()
        if delivery is None:
            self._enlist()
        return delivery

    # -- the end

    def stop(self) -> None:
        """See :meth:`Consumer.stop`."""
        with self._broker.lock:
            self._stop()

    def close(self) -> None:
        """See :meth:`Consumer.close`."""
        with self._broker.lock:
            self._stop()
            unsettled, self._unsettled = self._unsettled, {}
            for entry in unsettled.values():
                self._broker.put_back(entry)
            shelves, self._shelves = self._shelves, []
            for shelf in shelves:
                self._broker.release(shelf)
        self._forget(self)

    def _stop(self) -> None:
        self._is_stopped = True
        self._pass_on()
        self._bell.ring()
