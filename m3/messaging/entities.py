"""What buses carry and have: messages, and the exchanges and queues that these pass through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from m3.errors import ConfigError, UnknownNameError, abridged

__all__ = (
    "DEATH_QUEUE",
    "DEATH_REASON",
    "Binding",
    "Delivery",
    "Exchange",
    "ExchangeType",
    "Message",
    "Publication",
    "Queue",
)

ExchangeType = Literal["direct", "topic", "fanout"]
"""How an exchange compares routing keys with those of its bindings."""

EXCHANGE_TYPES = get_args(ExchangeType)

DEATH_REASON = "x-first-death-reason"
"""The header of a dead letter that says why: ``"rejected"`` or ``"expired"``."""

DEATH_QUEUE = "x-first-death-queue"
"""The header of a dead letter that says in which queue it was."""

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

    def __post_init__(self) -> None:
        if self.type not in EXCHANGE_TYPES:
            raise ConfigError(
                f"Exchange({self.name!r}, type={self.type!r}): there is no such type; there are "
                f"{', '.join(EXCHANGE_TYPES)}"
            )


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

    def __post_init__(self) -> None:
        if not isinstance(self.body, bytes):
            raise ConfigError(
                f"Message(body={abridged(self.body)}): a body is bytes, not "
                f"{type(self.body).__name__}; m3.messaging.Bodies makes messages of values"
            )


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
