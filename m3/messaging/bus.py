"""
The words of all buses, and what each bus promises.

A message is published to an *exchange*, which passes it to the *queues* that are
bound to it; the exchange ``""`` passes it to the queue that the routing key
names.  A *consumer* receives messages from queues, and acknowledges each when it
has been dealt with.  These are the words of AMQP 0-9-1, and the arguments of
exchanges and queues are those of kombu.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, Self

from m3.components.component import Component
from m3.errors import BusError, BusTimeoutError, ConfigError, UnknownNameError
from m3.messaging.awaited import Awaited
from m3.messaging.listening import ListeningThread

__all__ = (
    "DEATH_QUEUE",
    "DEATH_REASON",
    "PATIENCE",
    "Binding",
    "Bus",
    "Consumer",
    "Delivery",
    "Exchange",
    "ExchangeType",
    "Listener",
    "Message",
    "Publication",
    "Queue",
)

ExchangeType = Literal["direct", "topic", "fanout"]
"""How an exchange compares routing keys with those of its bindings."""

DEATH_REASON = "x-first-death-reason"
"""The header of a dead letter that says why: ``"rejected"`` or ``"expired"``."""

DEATH_QUEUE = "x-first-death-queue"
"""The header of a dead letter that says in which queue it was."""

PATIENCE = 30.0
"""The default for how many seconds :meth:`Bus.publish` takes at most."""

HEARD_AT_ONCE = 1000
"""How many messages a listener has received at most and not heard, where it has a thread."""

NATURE = ("name", "durable", "auto_delete", "exclusive", "dead_letter", "options")
"""What a queue cannot be declared with again if it is different."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """
    What messages are published to.

    Attributes:
        name: what it is known by.
        type: ``"direct"`` passes a message to the queues whose binding has its routing
            key, ``"fanout"`` to all that are bound, ``"topic"`` to those whose binding
            matches it: words between dots, ``*`` for one word, ``#`` for any number.
        durable: whether it is there again when its broker has been restarted.
        auto_delete: whether it goes with the last of the queues that were bound to it.
    """

    name: str
    type: ExchangeType = "direct"
    durable: bool = True
    auto_delete: bool = False


class Binding(NamedTuple):
    """
    That a queue gets messages of an exchange.

    Attributes:
        exchange: which exchange.
        routing_key: which of its messages; see :class:`Exchange`.
    """

    exchange: Exchange
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """
    Where messages wait until a consumer receives them.

    Attributes:
        name: what it is known by, and its routing key on the exchange ``""``.
        exchange: whose messages it gets; None for those of the exchange ``""`` only.
        routing_key: which messages of *exchange*; see :class:`Exchange`.
        durable: whether it is there again when its broker has been restarted.
        auto_delete: whether it goes with the last of its consumers.
        exclusive: whether it has one consumer at most, and goes with it.  With an option
            ``x-expires`` it outlives a lost connection to RabbitMQ, or RabbitMQ's restart, for
            as many milliseconds.
        bindings: further bindings; a list will do, and plain pairs will.
        dead_letter: the queue that gets what was rejected and what has expired; it
            is declared as a durable one if it is not there.  None to discard these.
        options: ``max_length``, how many messages may wait in it: publishers wait for
            room.  A key that begins with ``x-`` is an argument of RabbitMQ's, which
            no other bus looks at.
    """

    name: str
    exchange: Exchange | None = None
    routing_key: str = ""
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    bindings: tuple[Binding, ...] = ()
    dead_letter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bindings", tuple(Binding(*each) for each in self.bindings))
        for name, value in self.options.items():
            if name != "max_length" and not name.startswith("x-"):
                raise UnknownNameError(
                    f"Queue({self.name!r}, options={{{name!r}: ...}}): there is no such option; "
                    "there are max_length, and RabbitMQ's own, which begin with x-",
                    name=name,
                )
            if name == "max_length" and (type(value) is not int or value < 1):
                raise ConfigError(f"Queue({self.name!r}): max_length={value!r} is no number > 0")

    @property
    def max_length(self) -> int | None:
        """How many messages may wait in it; None for any number."""
        return self.options.get("max_length")

    def is_like(self, other: "Queue") -> bool:
        """Return whether both are declared alike, but for their bindings."""
        return all(getattr(self, name) == getattr(other, name) for name in NATURE)

    def all_bindings(self) -> tuple[Binding, ...]:
        """Return every binding, with the one of *exchange* first."""
        if self.exchange is None:
            return self.bindings
        return (Binding(self.exchange, self.routing_key), *self.bindings)


# Not frozen: making a frozen one takes three times as long, and there is one for each call.
@dataclass(slots=True, kw_only=True)
class Message:
    """
    What is published; not to be changed after that.

    Attributes:
        body: the bytes; :mod:`m3.messaging.bodies` makes them from values.
        headers: plain values by name.
        content_type: what the body is.
        correlation_id: which request it answers.
        reply_to: the queue that an answer is to go to.
        expiration: after how many seconds in a queue it is of no use any more.
        message_id: what the application knows it by.
        priority: carried along; RabbitMQ heeds it in queues with ``x-max-priority``.
        timestamp: when it was made, in seconds since 1970.
        persistent: whether it is to outlive its broker, in queues that do.
    """

    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    content_type: str = "application/json"
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: float | None = None
    message_id: str | None = None
    priority: int | None = None
    timestamp: float | None = None
    persistent: bool = True


class Publication(NamedTuple):
    """
    A message and where to; one of several that are published together.

    Attributes:
        message: what to publish.
        exchange: as of :meth:`Bus.publish`, and so are the next two.
        routing_key: see there.
        mandatory: see there.
    """

    message: Message
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """
    A message that a consumer has received, until it is settled.

    Attributes:
        message: what was published.
        queue: the name of the queue that it was in.
        tag: what the bus knows the delivery by; opaque.
        redelivered: whether it was delivered before.
        attempts: how often it was delivered, this time included.
    """

    message: Message
    queue: str
    tag: Any
    redelivered: bool = False
    attempts: int = 1


class Bus(Component):
    """
    A connection to what carries messages; made by :func:`connect`.

    It is a component: ``setup`` connects and ``shutdown`` closes, and so does a
    ``with`` block.  What is promised, on every bus:

    - A message that was published is delivered at least once, until it is settled.
    - A queue is first in, first out, as one consumer sees it.
    - Several consumers of a queue share its messages.
    - What a consumer has not settled when it is closed, or dies, is delivered again.

    All methods may be called in any thread.
    """

    def declare(self, *entities: Exchange | Queue) -> None:
        """
        Let exchanges and queues be there, with the exchanges they are bound to.

        Raises:
            BusError: one is there already and is different, or the bus does not work.
        """
        raise NotImplementedError

    def delete(self, *entities: Exchange | Queue) -> None:
        """
        Let exchanges, and queues with their messages, be there no longer.

        What is not there is no error.  Consumers of a queue receive nothing more from it.

        Raises:
            BusError: the bus does not work.
        """
        raise NotImplementedError

    def publish(
        self,
        message: Message,
        *,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        timeout: float | None = PATIENCE,
    ) -> None:
        """
        Publish a message; blocks until the bus has it, and as long as a queue is full.

        Args:
            message: what to publish.
            exchange: the name of an exchange; ``""`` passes it to the queue *routing_key*.
            routing_key: what the exchange chooses by.
            mandatory: whether it is an error that no queue gets the message, which
                is discarded otherwise.
            timeout: seconds that it may take; None for any time.

        Raises:
            UndeliverableError: it is mandatory, and no queue gets it.
            BusTimeoutError: it has taken too long; the message may have been published.
            BusError: there is no such exchange, or the bus does not work.
        """
        raise NotImplementedError

    def publish_many(
        self, publications: Iterable[Publication], *, timeout: float | None = PATIENCE
    ) -> list[BusError | None]:
        """
        Publish several messages; blocks until the bus has answered for each.

        They share what a single one has to wait for, so this is faster than to
        :meth:`publish` one after the other.  They come into a queue in their order, unless
        it was full meanwhile.  That one cannot be published is no reason not to publish
        the others.

        Args:
            publications: the messages, and where to.
            timeout: seconds that each may take after the one before it; None for any time.
                Behind one that has taken longer, none is waited for.

        Returns:
            For each, what :meth:`publish` would have raised, or None.
        """
        return outcomes_of((partial(self._publish, each) for each in publications), timeout)

    def _publish(self, publication: Publication, timeout: float | None) -> None:
        message, exchange, routing_key, mandatory = publication
        self.publish(
            message,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            timeout=timeout,
        )

    def post(
        self,
        message: Message,
        *,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        timeout: float | None = PATIENCE,
        failed: Callable[[Exception], object],  # noqa: ARG002  # here, publish() raises it
    ) -> Callable[[], Exception | None]:
        """
        Publish a message, and leave it to the bus to find out whether that works.

        For who waits for something that comes of the message.  Where there is nothing to be
        gained by it, it blocks and raises as :meth:`publish` does.

        Args:
            message: as of :meth:`publish`, and so are the next four.
            exchange: see there.
            routing_key: see there.
            mandatory: see there.
            timeout: see there.
            failed: called with what :meth:`publish` would have raised, in a thread of the
                bus; it must not block, nor use the bus.

        Returns:
            A function that gives the message up: it is not sent any more if the bus does not
            have it by then, and the error says why; None if the bus has it.
        """
        self.publish(
            message,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            timeout=timeout,
        )
        return lambda: None

    def consumer(self, queues: Queue | Iterable[Queue], *, prefetch: int = 1) -> "Consumer":
        """
        Return a consumer of *queues*, which are declared.

        Args:
            queues: where it receives from; of several, each in turn.
            prefetch: how many of its messages may be unsettled at once.

        Raises:
            BusError: a queue cannot be declared, or is exclusive to another consumer.
        """
        raise NotImplementedError

    def listen(
        self,
        queue: Queue,
        hear: Callable[[Message], object],
        ended: Callable[[Exception | None], object],
    ) -> "Listener":
        """
        Have *hear* called with each message of an exclusive *queue*, which is declared.

        A message that was heard may come again where the connection to a broker is lost.
        *hear* is called in a thread of the bus, or in the one that publishes, so it must not
        use the bus, nor block.

        Args:
            queue: where the messages are.
            hear: takes a message; raises nothing.
            ended: called once, when it hears nothing more, with the error that it is because
                of, or None if the listener, or its bus, was closed.

        Raises:
            BusError: the queue cannot be declared, or is exclusive to another consumer.
        """
        return ListeningThread(self.consumer(queue, prefetch=HEARD_AT_ONCE), hear, ended)

    def wait(self, awaited: Awaited, timeout: float | None = None) -> bool:
        """
        Wait until something is on that what a listener hears turns on; return whether it is.

        A bus may have the thread that waits receive meanwhile.
        """
        return awaited.wait(timeout)

    def __enter__(self) -> Self:
        self.setup()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class Listener(Protocol):
    """Hears the messages of a queue; made by :meth:`Bus.listen`."""

    def close(self) -> None:
        """Hear nothing more."""


class Consumer:
    """
    Receives messages from queues; made by :meth:`Bus.consumer`.

    One thread receives; the other methods may be called in any thread.  To settle
    a delivery is to ``ack``, ``requeue`` or ``reject`` it.  Where that comes too
    late, because the consumer was closed, its connection lost or its lease over,
    nothing happens: the message is delivered again to somebody.

    Attributes:
        late: how many deliveries were settled too late.
    """

    late: int = 0
    _is_stopped: bool = False

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is received: it, or its bus, was stopped or closed."""
        return self._is_stopped

    def receive(self, timeout: float | None = None) -> Delivery | None:
        """
        Return the next message; blocks while there is none, or *prefetch* are unsettled.

        Args:
            timeout: seconds to wait at most; None for any time.

        Returns:
            None if there was none in time, or when it is stopped.

        Raises:
            BusError: the bus does not work, and nothing more can be received.
        """
        raise NotImplementedError

    def offer_to(self, take: Callable[[Delivery], bool]) -> None:
        """
        Offer messages to *take* while :meth:`receive` waits, if the bus can, and not wake it.

        Args:
            take: returns whether it has taken the message; if not, that is received.  It is called
                in any thread, so it must not block, nor use the bus; nor raise.
        """

    def ack(self, delivery: Delivery) -> None:
        """Settle it: it was dealt with."""
        raise NotImplementedError

    def requeue(self, delivery: Delivery, delay: float = 0.0) -> None:
        """Settle it: it goes back to where it was in its queue, after *delay* seconds."""
        raise NotImplementedError

    def reject(self, delivery: Delivery) -> None:
        """Settle it: it goes to the queue's ``dead_letter``, or is discarded."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let :meth:`receive` return None, now and from now on; deliveries can be settled still."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop; what is not settled goes back to its queue, in order."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def outcomes_of(
    acts: Iterable[Callable[[float | None], object]], timeout: float | None
) -> list[BusError | None]:
    """
    Return the error of each act, which is called with the seconds that it may take, or None.

    Args:
        acts: what is to be done, one after the other.
        timeout: as of :meth:`Bus.publish_many`.
    """
    errors: list[BusError | None] = []
    for act in acts:
        error: BusError | None = None
        try:
            act(timeout)
        except BusError as raised:
            error = raised
        if isinstance(error, BusTimeoutError):
            timeout = 0.0
        errors.append(error)
    return errors
