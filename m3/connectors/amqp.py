"""
``amqp``: messages of a bus, in and out: RabbitMQ, ``sqlite:///path`` or ``memory://``.

RabbitMQ needs the extra ``amqp``, the other buses nothing.  Each worker has a
connection of its own, so several need the class; an instance that is given has one.

The frontend receives the messages of a queue, and acknowledges each when everything
made from it is delivered, or kept as a dead letter of the run.  One that failed goes
back to its queue for a while; after the last attempt, and at once if it cannot be
read or is a :exc:`~m3.errors.Reject`, it goes to the dead letters of the queue.  What
a stop leaves undone goes back at once.

The backend publishes a message for each item, many at once where many are waiting, and
an item counts as delivered when the bus has it.  Text and bytes are sent as they are
unless all is to be JSON, anything else as JSON, and a :class:`~m3.messaging.Message` is
published as it is.

Delivery: both at least once.  A message may come twice, after a crash above all.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from m3.connectors._naming import Name, has_fields, naming
from m3.connectors._options import check_choice
from m3.errors import AbandonedError, BatchError, BodyError, ConfigError, Reject
from m3.messaging import (
    Bus,
    Consumer,
    Delivery,
    Exchange,
    Message,
    Publication,
    Queue,
    connect,
)
from m3.messaging.bodies import BYTES, JSON, TEXT, Bodies
from m3.messaging.entities import ExchangeType
from m3.messaging.poison import poison_in
from m3.policies import Backoff, Batch
from m3.stages import Backend, Failure, Frontend, Item

__all__ = ("AmqpBackend", "AmqpFrontend")

LONGEST_KEY = 255
"""Bytes of a routing key (AMQP 0-9-1, 4.2.5.3: a short string)."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at a message."""

Form = Literal["value", "message"]
WrittenForm = Literal["value", "json"]

READ = Bodies(JSON, TEXT, BYTES)
WRITE_TEXT, WRITE_BYTES, WRITE_JSON = Bodies(TEXT), Bodies(BYTES), Bodies(JSON)


class AmqpFrontend(Frontend[Any]):
    """
    Receive the messages of a queue, and acknowledge those that are done.

    Args:
        url: of the bus: amqp://host/vhost, sqlite:///path or memory://name.
        queue: its name, or all of it, as a Queue; it is declared.
        exchange: whose messages the queue gets; none by default but those that are
            sent to the queue by its name.
        exchange_type: topic, direct or fanout; that of an exchange that is there.
        routing_key: which messages of the exchange.
        form: what an item is: what the message says, by its content type (JSON, text
            or bytes), or the message.
        prefetch: how many messages may be on their way through the pipeline; a batch
            of a later stage that is larger waits for its period.
        attempts: how often a message is delivered at most; one that ends the process, 20
            times at least.
        retry_after: after how many seconds at most a message that failed comes again;
            twice as long after each further failure, at most a minute.
        dead_letter: the queue that gets what failed for good, dead-QUEUE by default;
            the empty text discards it.
        idle_timeout: end when no message came for so many seconds, though there was
            room for one; by default the frontend waits until it is stopped.
        bus_options: further arguments of the bus's class.

    Attributes:
        queue: what it receives from.
    """

    def __init__(
        self,
        *,
        url: str,
        queue: str | Queue,
        exchange: str = "",
        exchange_type: ExchangeType = "topic",
        routing_key: str = "",
        form: Form = "value",
        prefetch: int = 100,
        attempts: int = 10,
        retry_after: float = 0.5,
        dead_letter: str | None = None,
        idle_timeout: float | None = None,
        bus_options: Mapping[str, Any] | None = None,
    ) -> None:
        check_choice("form", form, Form)
        check_least("prefetch", prefetch, 1)
        check_least("attempts", attempts, 1)
        check_least("retry_after", retry_after, 0)
        check_least("idle_timeout", math.inf if idle_timeout is None else idle_timeout, 0)
        source = exchange_of(exchange, exchange_type)
        if isinstance(queue, Queue):
            if source is not None or routing_key or dead_letter is not None:
                raise ConfigError(
                    "a Queue says itself what it is bound to and where its dead letters go; "
                    "leave exchange, routing_key and dead_letter out"
                )
        else:
            dead = f"dead-{queue}" if dead_letter is None else dead_letter
            queue = Queue(queue, source, routing_key, dead_letter=dead or None)
        self._connect = connector(url, bus_options)
        self.queue = queue
        self._form = form
        self._prefetch = prefetch
        self._attempts = attempts
        self._backoff = Backoff(initial=retry_after, maximum=LONGEST_PAUSE)
        self._idle_timeout = idle_timeout
        self.max_workers = 1  # type: ignore[misc]  # of this instance: it has one connection

    def setup(self) -> None:
        """Connect, and begin to receive."""
        self._received = self._settled = 0  # each is counted by one thread
        self._bus = self._connect()
        self._bus.setup()
        try:
            self._consumer: Consumer = self._bus.consumer(self.queue, prefetch=self._prefetch)
        except BaseException:
            self._bus.shutdown()
            raise

    def produce(self) -> Iterator[Item | Failure]:
        """
        Yield the messages; blocks while there are none, until it is stopped.

        Raises:
            BusError: the bus does not work.
        """
        for delivery in self.deliveries():
            yield self._item(delivery)

    def deliveries(self) -> Iterator[Delivery]:
        """Receive the messages, until it is stopped or idle; each is to be settled."""
        while True:
            had_room = self._received - self._settled < self._prefetch
            delivery = self._consumer.receive(self._idle_timeout)
            if delivery is not None:
                self._received += 1
                yield delivery
            elif self._consumer.is_stopped or had_room:
                return

    def stop(self) -> None:
        """Receive no more; wakes a wait for messages."""
        self._consumer.stop()

    def ack(self, position: Delivery) -> None:
        """Acknowledge the message."""
        self._consumer.ack(position)
        self._settled += 1

    def nack(self, position: Delivery, error: Exception) -> None:
        """Give the message back, or reject it if that is of no use."""
        if isinstance(error, AbandonedError):
            self._consumer.requeue(position)
        elif isinstance(error, (Reject, BodyError)) or position.attempts >= self._attempts:
            self._consumer.reject(position)
        else:
            self._consumer.requeue(position, self._backoff.delay_after(position.attempts))
        self._settled += 1

    def dead_lettered(self, position: Delivery, _error: Exception) -> None:
        """Acknowledge the message, which is kept elsewhere."""
        self.ack(position)

    def cleanup(self) -> None:
        """Give back what was received and not settled, and disconnect."""
        try:
            self._consumer.close()
        finally:
            self._bus.shutdown()

    def _item(self, delivery: Delivery) -> Item | Failure:
        message = delivery.message
        try:
            value = message if self._form == "message" else READ.loads(message)
        except BodyError as error:
            return Failure(error, message.body, delivery)
        poison = poison_in(delivery, self._attempts) if self.queue.dead_letter is not None else None
        return Item(value, delivery) if poison is None else Failure(poison, value, delivery)


class AmqpBackend(Backend[Any]):
    """
    Publish items to an exchange, or to a queue; those that are waiting at once.

    Args:
        url: of the bus: amqp://host/vhost, sqlite:///path or memory://name.
        exchange: where to; it is declared. By default to the queue that the routing
            key names, which has to be there.
        exchange_type: topic, direct or fanout; that of an exchange that is there.
        routing_key: a text with fields of the item in braces, as order.{country}, or
            a function of the item.
        form: how it is sent: value for text and bytes as they are and anything else as
            JSON, or json for all as JSON, which is what services read.
        mandatory: whether a message that no queue gets is an error of its item; it is
            discarded otherwise.
        bus_options: further arguments of the bus's class.
    """

    batch: ClassVar[Batch | None] = Batch(count=100)
    """What is waiting, without waiting for more."""

    def __init__(
        self,
        *,
        url: str,
        exchange: str = "",
        exchange_type: ExchangeType = "topic",
        routing_key: Name = "",
        form: WrittenForm = "value",
        mandatory: bool = True,
        bus_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not exchange and not routing_key:
            raise ConfigError("name an exchange, or a queue by routing_key")
        check_choice("form", form, WrittenForm)
        self._message = json_message_of if form == "json" else message_of
        self._exchange = exchange_of(exchange, exchange_type)
        self._connect = connector(url, bus_options)
        self._key = key_of(routing_key)
        self._mandatory = mandatory
        self.max_workers = 1  # type: ignore[misc]  # of this instance: it has one connection

    def setup(self) -> None:
        """Connect, and declare the exchange."""
        self._bus = self._connect()
        self._bus.setup()
        try:
            if self._exchange is not None:
                self._bus.declare(self._exchange)
        except BaseException:
            self._bus.shutdown()
            raise

    def process_batch(self, items: list[Any]) -> None:
        """
        Publish items; blocks until the bus has them, and while a queue is full.

        Raises:
            BatchError: some were not published.  Of each, it has a
                :exc:`~m3.errors.BodyError` if it cannot be sent, an
                :exc:`~m3.errors.UndeliverableError` if no queue gets it, and another
                :exc:`~m3.errors.BusError` if the bus does not take it.
        """
        errors: dict[int, Exception] = {}
        publications: dict[int, Publication] = {}
        for place, item in enumerate(items):
            try:
                publications[place] = self._publication(item)
            except Exception as error:
                errors[place] = error
        answers = self._bus.publish_many(publications.values())
        found = zip(publications, answers, strict=True)
        errors |= {place: error for place, error in found if error is not None}
        if errors:
            raise BatchError(errors)

    def cleanup(self) -> None:
        """Disconnect."""
        self._bus.shutdown()

    def _publication(self, item: Any) -> Publication:
        exchange = self._exchange.name if self._exchange else ""
        return Publication(self._message(item), exchange, self._key(item), self._mandatory)


def check_least(option: str, value: float, least: float) -> None:
    """Raise :exc:`~m3.errors.ConfigError` unless *value* is *least* or more."""
    if not value >= least:
        raise ConfigError(f"{option}={value}: it is {least} or more")


def exchange_of(name: str, exchange_type: ExchangeType) -> Exchange | None:
    """Return the exchange of that name; None for the one that has none."""
    check_choice("exchange_type", exchange_type, ExchangeType)
    return Exchange(name, type=exchange_type) if name else None


def connector(url: str, options: Mapping[str, Any] | None) -> Callable[[], Bus]:
    """
    Return what makes a bus that is not connected yet.

    Raises:
        ConfigError: the URL names none, or it does not take these options.
    """
    make = partial(connect, url, **options or {})
    make()
    return make


def key_of(routing_key: Name) -> Callable[[Any], str]:
    """Return what makes the routing key of an item."""
    if callable(routing_key) or has_fields("routing_key", routing_key):
        return naming("routing_key", routing_key, longest=LONGEST_KEY)
    return lambda _: routing_key


def message_of(item: Any) -> Message:
    """
    Return the message of *item*.

    Raises:
        BodyError: it cannot be sent.
    """
    if isinstance(item, str):
        return WRITE_TEXT.dumps(item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return WRITE_BYTES.dumps(item)
    return json_message_of(item)


def json_message_of(item: Any) -> Message:
    """
    Return the message of *item*, which is JSON.

    Raises:
        BodyError: it cannot be sent.
    """
    return item if isinstance(item, Message) else WRITE_JSON.dumps(item)
