"""
What each bus promises, to who publishes and to who receives.

A message is published to an *exchange*, which passes it to the *queues* that are
bound to it; the exchange ``""`` passes it to the queue that the routing key
names.  A *consumer* receives messages from queues, and acknowledges each when it
has been dealt with.  These are the words of AMQP 0-9-1, and the arguments of
exchanges and queues are those of kombu.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from m3.components.component import Component
from m3.errors import BusError, BusTimeoutError, ConfigError
from m3.messaging.awaited import Awaited
from m3.messaging.entities import Delivery, Exchange, Message, Publication, Queue
from m3.messaging.listening import ListeningThread

__all__ = ("PATIENCE", "Bus", "Consumer", "Listener", "begun")

PATIENCE = 30.0
"""The default for how many seconds :meth:`Bus.publish` takes at most."""

HEARD_AT_ONCE = 1000
"""How many messages a listener has received at most and not heard, where it has a thread."""


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


def asked_for(queues: Queue | Iterable[Queue], prefetch: int) -> tuple[Queue, ...]:
    """
    Return the queues that a consumer is to receive from.

    Raises:
        ConfigError: they are no queues, or it could never receive anything.
    """
    found = (queues,) if isinstance(queues, Queue) else tuple(queues)
    for each in found:
        if not isinstance(each, Queue):
            raise ConfigError(f"consumer({queues!r}): give a Queue, as Queue('orders'), or several")
    if prefetch < 1:
        raise ConfigError(f"consumer(prefetch={prefetch!r}): it would receive nothing; 1 is least")
    return found


class Listener(Protocol):
    """Hears the messages of a queue; made by :meth:`Bus.listen`."""

    def close(self) -> None:
        """Hear nothing more."""


class Beginning(Protocol):
    """What a bus makes for somebody to receive with, before it has begun."""

    def begin(self) -> None:
        """Begin to receive."""

    def close(self) -> None:
        """Receive nothing more; it need not have begun."""


B = TypeVar("B", bound=Beginning)


def begun(consumer: B, consumers: "set[Any]", is_connected: Callable[[], bool]) -> B:
    """
    Let *consumer* begin as one of *consumers*, and return it; close it if that fails.

    It is closed as well if the bus was shut down meanwhile, and *is_connected* says so.
    """
    try:
        consumers.add(consumer)
        consumer.begin()
        if not is_connected():
            consumer.close()
    except BaseException:
        consumer.close()
        raise
    return consumer


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
