"""``memory://``: a bus within one process."""

import re
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from m3.errors import BusError, ConfigError
from m3.messaging._memory.broker import Broker
from m3.messaging._memory.consumer import MemoryConsumer
from m3.messaging._memory.listener import MemoryListener
from m3.messaging.bus import PATIENCE, Bus, asked_for, begun
from m3.messaging.entities import Exchange, Message, Queue
from m3.messaging.every import call_all

__all__ = ("MemoryBus",)

_brokers: dict[str, Broker] = {}
_lock = threading.Lock()


class MemoryBus(Bus):
    """
    A bus within one process: no server, nothing to install, nothing on disk.

    Exchanges, queues and messages are there while any bus of that name is up, and
    gone with the last of them.  Threads that wait cost no time: nothing polls.

    Args:
        name: buses of one name are the same.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._broker: Broker | None = None
        self._consumers: set[MemoryConsumer | MemoryListener] = set()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """
        Return the bus of ``memory://name``.

        Raises:
            ConfigError: the name is not made of letters, digits, ``-``, ``_`` and ``.``.
        """
        name = url.removeprefix("memory://")
        if not re.fullmatch(r"[\w.-]*", name):
            raise ConfigError(f"{url!r}: a name is made of letters, digits, '-', '_' and '.'")
        return cls(name)

    def setup(self) -> None:
        """Begin to take messages."""
        with _lock:
            if self._broker is None:
                self._broker = _brokers.setdefault(self.name, Broker())
                self._broker.users += 1

    def shutdown(self) -> None:
        """Close its consumers; if it is the last of its name, discard all messages."""
        with _lock:
            broker, self._broker = self._broker, None
        if broker is None:
            return
        consumers = [consumer.close for consumer in list(self._consumers)]
        call_all([broker.wake_publishers, *consumers, partial(self._leave, broker)])

    def _leave(self, broker: Broker) -> None:
        with _lock:
            broker.users -= 1
            is_last = not broker.users
            if is_last:
                del _brokers[self.name]
        if is_last:
            broker.close()

    def health(self) -> None:
        """Raise :class:`~m3.errors.BusError` if it is not set up."""
        self._connected()

    def declare(self, *entities: Exchange | Queue) -> None:
        """See :meth:`Bus.declare`."""
        self._connected().declare(*entities)

    def delete(self, *entities: Exchange | Queue) -> None:
        """See :meth:`Bus.delete`."""
        self._connected().delete(*entities)

    def publish(
        self,
        message: Message,
        *,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        timeout: float | None = PATIENCE,
    ) -> None:
        """See :meth:`Bus.publish`."""
        broker = self._connected()
        broker.publish(message, exchange, routing_key, mandatory, timeout, self._connected)

    def consumer(self, queues: Queue | Iterable[Queue], *, prefetch: int = 1) -> MemoryConsumer:
        """See :meth:`Bus.consumer`."""
        broker = self._connected()
        queues = asked_for(queues, prefetch)
        consumer = MemoryConsumer(broker, queues, prefetch, forget=self._consumers.discard)
        return begun(consumer, self._consumers, lambda: self._broker is broker)

    def listen(
        self,
        queue: Queue,
        hear: Callable[[Message], object],
        ended: Callable[[Exception | None], object],
    ) -> MemoryListener:
        """See :meth:`Bus.listen`; who publishes calls *hear*."""
        broker = self._connected()
        listener = MemoryListener(broker, queue, hear, ended, forget=self._consumers.discard)
        return begun(listener, self._consumers, lambda: self._broker is broker)

    def _connected(self) -> Broker:
        broker = self._broker
        if broker is None:
            raise BusError(f"the bus memory://{self.name} is not connected: set it up, or use with")
        return broker
