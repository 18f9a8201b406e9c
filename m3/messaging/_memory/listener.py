"""A listener of the bus in memory."""

from collections.abc import Callable

from m3.errors import BusError
from m3.messaging._memory.broker import Broker
from m3.messaging._memory.queues import Shelf
from m3.messaging.entities import Message, Queue

__all__ = ("MemoryListener",)


class MemoryListener:
    """Has messages heard by who publishes them, so no thread has to be woken for them."""

    def __init__(
        self,
        broker: Broker,
        queue: Queue,
        hear: Callable[[Message], object],
        ended: Callable[[Exception | None], object],
        *,
        forget: Callable[["MemoryListener"], object],
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._hear = hear
        self._ended = ended
        self._forget = forget
        self._shelf: Shelf | None = None

    def begin(self) -> None:
        """Hear what there is in its queue, which is declared, and all that comes."""
        with self._broker.lock:
            shelf = self._broker.shelf(self._queue)
            if shelf.consumers:
                raise BusError(f"queue {self._queue.name!r} is exclusive, and has a consumer")
            self._shelf = shelf
            shelf.consumers.add(self)
            while (entry := self._broker.take(shelf, {}, None)) is not None:
                self._hear(entry.message)
            shelf.hear = self._hear

    def close(self) -> None:
        """Hear nothing more; what is published now is not heard."""
        with self._broker.lock:
            shelf = self._shelf
            if shelf is not None:
                shelf.hear = None
                self._broker.release(shelf, self)
                self._shelf = None
        self._forget(self)
        if shelf is not None:
            self._ended(None)
