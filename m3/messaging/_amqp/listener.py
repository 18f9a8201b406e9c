"""A listener of a queue of RabbitMQ's."""

from collections.abc import Callable

import amqp

from m3.messaging._amqp.connection import Channel
from m3.messaging._amqp.consumer import AmqpConsumer, Consuming
from m3.messaging._amqp.envelopes import opened
from m3.messaging._amqp.publishing import Publishing
from m3.messaging.bus import Message, Queue

__all__ = ("AmqpListener",)

UNLIMITED = 0


class AmqpListener(AmqpConsumer):
    """Has messages heard in the link's thread; the broker does not wait for acknowledgements."""

    settles = False

    def __init__(
        self,
        queue: Queue,
        hear: Callable[[Message], object],
        ended: Callable[[Exception | None], object],
        consuming: Consuming,
        publishing: Publishing,
    ) -> None:
        super().__init__((queue,), UNLIMITED, consuming, publishing)
        self._hear = hear
        self._ended = ended

    def stop(self) -> None:
        """Hear nothing more."""
        if not self.is_stopped:
            super().stop()
            self._ended(None)

    def _deliver(self, _channel: Channel, _queue: Queue, raw: amqp.Message) -> None:
        self._hear(opened(raw))
