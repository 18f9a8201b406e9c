"""A listener of a queue of RabbitMQ's."""

from collections.abc import Callable

from m3._wire import Received
from m3.messaging._amqp.connection import Channel, Connection
from m3.messaging._amqp.consumer import AmqpConsumer, Consuming
from m3.messaging._amqp.contents import Content
from m3.messaging._amqp.envelopes import opened
from m3.messaging._amqp.publishing import Publishing
from m3.messaging.entities import Message, Queue

__all__ = ("AmqpListener",)

UNLIMITED = 0

TOGETHER = 0.05
"""Seconds for which what was heard is acknowledged at once, with one frame."""


class AmqpListener(AmqpConsumer):
    """
    Has messages heard in the link's thread, and acknowledges them a little later.

    The broker delivers without waiting for that.  What is on its way when the connection is
    lost comes again on the next one, and so does what was heard just before.
    """

    is_heard = True

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
        self._heard: tuple[Channel, int] | None = None
        """The latest message that was heard and is not acknowledged: its channel and number."""

    def stop(self) -> None:
        """Hear nothing more."""
        if self._stop():
            self._ended(None)

    def _deliver(self, channel: Channel, queue: Queue, raw: Content | Received) -> None:
        if self._is_stopped:  # it goes back with the channel
            return
        try:
            message = opened(raw)
        except Exception as error:  # as any consumer
            self._refuse(channel, queue, raw, error)
            return
        if self._heard is None:
            self._consuming.link.later(TOGETHER, self._acknowledge)
        self._heard = channel, raw.delivery_tag
        self._hear(message)

    def _acknowledge(self, _: Connection) -> None:
        heard, self._heard = self._heard, None
        if heard is not None and heard[0] is self._channel:
            heard[0].acknowledge(heard[1], with_earlier=True)
