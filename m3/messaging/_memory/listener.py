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
        self._ended = ended
        self._forget = forget
        with broker.lock:
            shelf = broker.shelf(queue)
            if shelf.consumers:
                raise BusError(f"queue {queue.name!r} is exclusive, and has a consumer")
            shelf.consumers, shelf.hear = 1, hear
            self._shelf: Shelf | None = shelf
            while (entry := broker.take(shelf)) is not None:
                hear(entry.message)

    def close(self) -> None:
        """Hear nothing more; what is published now is not heard."""
        with self._broker.lock:
            shelf, self._shelf = self._shelf, None
            if shelf is None:
                return
            shelf.hear = None
            self._broker.release(shelf)
        self._forget(self)
        self._ended(None)
