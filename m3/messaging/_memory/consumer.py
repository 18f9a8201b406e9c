"""A consumer of the bus in memory."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic

from m3._parking import Bell
from m3.errors import BusError
from m3.messaging._memory.broker import Broker
from m3.messaging._memory.queues import Entry, Shelf
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
        self._queues = tuple(queues)
        self._shelves: list[Shelf] = []

    def begin(self) -> None:
        """Have a part in its queues, which are declared."""
        with self._broker.lock:
            shelves = [self._broker.shelf(queue) for queue in self._queues]
            for shelf in shelves:
                if shelf.spec.exclusive and shelf.consumers:
                    raise BusError(f"queue {shelf.spec.name!r} is exclusive, and has a consumer")
            self._shelves = shelves
            self._broker.consumers.add(self)
            for shelf in shelves:
                shelf.consumers.add(self)

    def receive(self, timeout: float | None = None) -> Delivery | None:
        """See :meth:`Consumer.receive`."""
        deadline = None if timeout is None else monotonic() + timeout
        delivery, is_over = None, False
        try:
            while True:
                with self._broker.lock:
                    if is_over:
                        self._delist()
                    delivery = self._take()
                    if is_over or delivery is not None or self._is_stopped:
                        return delivery
                    self._enlist()
                is_over = not self._wait(deadline)
        except BaseException:  # a signal: whoever woke it meant somebody who takes the message
            self._withdraw(delivery)
            raise

    def _withdraw(self, delivery: Delivery | None) -> None:
        with self._broker.lock:
            entry = None if delivery is None else self._unsettled.get(delivery.tag)
            if entry is not None:
                entry.is_out = False
        self._broker.recover()

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
        if delivery is not None:
            self._unsettled[delivery.tag].is_out = True
        return delivery

    def _take_next(self) -> Delivery | None:
        if len(self._unsettled) >= self._prefetch:
            return None
        for at, shelf in enumerate(self._shelves):
            tag = object()
            entry = self._broker.take(shelf, self._unsettled, tag)
            if entry is None:
                continue
            if len(self._shelves) > 1:
                self._shelves = [*self._shelves[:at], *self._shelves[at + 1 :], shelf]
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
        return self._bell.wait(None if deadline is None else max(deadline - monotonic(), 0.0))

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
        is_taken = True
        try:
            with self._broker.lock:
                entry = self._unsettled.get(delivery.tag)
                if entry is not None:  # else somebody was interrupted, and has given it back
                    is_taken, entry.is_out = False, True
            is_taken = is_taken or self._offered_to(delivery)
        finally:
            if not is_taken:
                self._leave(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """Have a message received that nobody else has taken."""
        with self._broker.lock:
            entry = self._unsettled.get(delivery.tag)
            if entry is None:  # it was closed, and has given it back
                return
            entry.is_out = False
            self._left.append(delivery)
            if self._is_stopped:
                self._pass_on()
            else:
                self.called().ring()

    def look_again(self) -> None:
        """See :class:`Waiter`; the broker's lock is held."""
        self._pass_on()
        self._bell.ring()

    def _pass_on(self) -> None:
        self._left.clear()
        for tag, entry in list(self._unsettled.items()):
            if not entry.is_out:
                entry.attempts -= 1
                self._broker.put_back(self._unsettled, tag)
        self._delist()
        for shelf in self._shelves:
            shelf.wake_one()

    # -- settling

    def ack(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.ack`."""
        try:
            with self._broker.lock:
                is_settled = self._is_in_time(delivery)
                if is_settled:
                    del self._unsettled[delivery.tag]
                more = self._next_or_wait() if is_settled and self._has_room_again() else None
            if more is not None:
                self._hand(more)
        except BaseException:
            self._broker.recover()
            raise

    def requeue(self, delivery: Delivery, delay: float = 0.0) -> None:
        """See :meth:`Consumer.requeue`."""
        put_off = partial(self._broker.put_off, delay=delay)
        self._settle(delivery, put_off if delay > 0 else self._broker.put_back)

    def reject(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.reject`."""
        self._settle(delivery, self._broker.reject)

    def _settle(
        self, delivery: Delivery, how: Callable[[dict[object, Entry], object], object]
    ) -> None:
        try:
            with self._broker.lock:
                if self._is_in_time(delivery):
                    how(self._unsettled, delivery.tag)
                    if self._has_room_again():
                        self.called().ring()
        except BaseException:
            self._broker.recover()
            raise

    def _is_in_time(self, delivery: Delivery) -> bool:
        is_in_time = delivery.tag in self._unsettled
        self.late += not is_in_time
        return is_in_time

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
        self._end(self._stop)

    def close(self) -> None:
        """See :meth:`Consumer.close`."""
        self._end(self._close)
        self._forget(self)

    def _end(self, how: Callable[[], object]) -> None:
        try:
            with self._broker.lock:
                how()
        except BaseException:  # whoever is interrupted may do it again
            self._broker.recover()
            raise

    def _stop(self) -> None:
        self._is_stopped = True
        self.look_again()

    def _close(self) -> None:
        self._stop()
        for tag in list(self._unsettled):
            self._broker.put_back(self._unsettled, tag)
        for shelf in self._shelves:
            self._broker.release(shelf, self)
        self._shelves = []
        self._broker.consumers.discard(self)
