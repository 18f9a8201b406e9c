"""Exchanges and queues as RabbitMQ has them."""

import logging
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from amqp.exceptions import AMQPError, NotFound

from m3.messaging._amqp.brokers import LOST, reason
from m3.messaging._amqp.connection import Channel, Connection
from m3.messaging._amqp.envelopes import DELAYED
from m3.messaging.entities import Exchange, Queue

__all__ = ("OnDeclare", "Topology", "delay_in_steps")

OnDeclare = Callable[[Exchange | Queue], object]
"""Called with what is declared."""

LINGER = 60_000
"""Milliseconds that a queue of put off messages stays when it is of no use any more."""


class Topology:
    """
    The exchanges and queues that are declared on a connection, and again on the next.

    Args:
        queue_type: what durable queues are, as ``"quorum"``; None for what the broker makes them.
        logger: what is told of those that cannot be declared again.
        on_declare: called with each before it is declared; None for nothing.
    """

    def __init__(
        self,
        queue_type: str | None,
        logger: logging.Logger,
        on_declare: OnDeclare | None = None,
    ) -> None:
        self._queue_type = queue_type
        self._logger = logger
        self._on_declare = on_declare
        self._kept: dict[tuple[type, str], Exchange | Queue] = {}

    def declare(self, connection: Connection, entity: Exchange | Queue) -> None:
        """Declare an exchange or a queue, and remember it if it goes with nobody else."""
        with closing(connection.channel()) as channel:
            self.declare_on(channel, entity)
        if isinstance(entity, Exchange) or not (entity.auto_delete or entity.exclusive):
            self._kept[type(entity), entity.name] = entity

    def declare_again(self, connection: Connection) -> None:
        """Declare what was remembered; a broker may have lost it, or be another one."""
        for entity in list(self._kept.values()):
            try:
                self.declare(connection, entity)
            except LOST:
                raise
            except AMQPError as error:
                what = f"{type(entity).__name__.lower()} {entity.name!r}"
                self._logger.warning("%s is not declared again: %s", what, reason(error))

    def delete(self, connection: Connection, entities: Iterable[Exchange | Queue]) -> None:
        """Delete exchanges and queues; RabbitMQ does not mind what is not there."""
        with closing(connection.channel()) as channel:
            for entity in entities:
                self._kept.pop((type(entity), entity.name), None)
                if isinstance(entity, Exchange):
                    channel.exchange_delete(entity.name)
                else:
                    channel.queue_delete(entity.name)

    def declare_on(self, channel: Channel, entity: Exchange | Queue) -> None:
        """Declare an exchange, or a queue with the exchanges that it is bound to."""
        if isinstance(entity, Exchange):
            self._declare_exchange(channel, entity)
            return
        if entity.dead_letter is not None:
            self._declare_if_missing(channel.connection, entity.dead_letter)
        self._announce(entity)
        # RabbitMQ's own exclusive queues go with their connection, whatever they say.
        stays = entity.exclusive and "x-expires" in entity.options
        channel.queue_declare(
            entity.name,
            durable=entity.durable or stays,
            exclusive=entity.exclusive and not stays,
            auto_delete=entity.auto_delete and not stays,
            arguments=self._arguments(entity),
        )
        for exchange, routing_key in entity.all_bindings():
            self._declare_exchange(channel, exchange)
            channel.queue_bind(entity.name, exchange.name, routing_key)

    def declare_delay(
        self, connection: Connection, queue: str, delay: int, *, durable: bool
    ) -> str:
        """
        Return the name of a queue whose messages go to *queue* after *delay* milliseconds.

        The queue is there for as long again, so what is published to it now is not lost.
        """
        name = f"{DELAYED}{delay}.{queue}"
        self._announce(Queue(name, durable=durable))
        with closing(connection.channel()) as channel:
            channel.queue_declare(
                name,
                durable=durable,
                auto_delete=False,
                arguments={
                    "x-message-ttl": delay,
                    "x-expires": 2 * delay + LINGER,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": queue,
                },
            )
        return name

    def _declare_exchange(self, channel: Channel, exchange: Exchange) -> None:
        self._announce(exchange)
        channel.exchange_declare(
            exchange.name,
            exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
        )

    def _announce(self, entity: Exchange | Queue) -> None:
        if self._on_declare is not None:
            self._on_declare(entity)

    def _declare_if_missing(self, connection: Connection, name: str) -> None:
        try:
            with closing(connection.channel()) as channel:
                channel.queue_declare(name, passive=True)
        except NotFound:
            self.declare(connection, Queue(name))

    def _arguments(self, queue: Queue) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._queue_type and queue.durable and not (queue.exclusive or queue.auto_delete):
            arguments["x-queue-type"] = self._queue_type
        if queue.dead_letter is not None:
            arguments["x-dead-letter-exchange"] = ""
            arguments["x-dead-letter-routing-key"] = queue.dead_letter
        if queue.max_length is not None:
            arguments["x-max-length"] = queue.max_length
            arguments["x-overflow"] = "reject-publish"
        own = {name: value for name, value in queue.options.items() if name.startswith("x-")}
        return {**arguments, **own}


def delay_in_steps(seconds: float) -> int:
    """
    Return a delay in milliseconds, at most an eighth longer.

    Each delay has a queue of its own, since RabbitMQ looks only at the first message
    of a queue; there are eight steps to each doubling, so the queues are few.
    """
    exact = max(1, round(seconds * 1000))
    step = 1 << max(0, exact.bit_length() - 4)
    return -(-exact // step) * step
