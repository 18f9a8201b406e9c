"""``amqp://``: RabbitMQ."""

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, Self, TypeVar

from m3.errors import BusError, ConfigError, MissingExtraError
from m3.messaging.awaited import Awaited
from m3.messaging.bus import PATIENCE, Bus, asked_for, outcomes_of
from m3.messaging.entities import Exchange, Message, Publication, Queue
from m3.messaging.every import call_all
from m3.policies import Backoff

try:
    from m3.messaging._amqp.brokers import Brokers, reason
    from m3.messaging._amqp.consumer import AmqpConsumer, Consuming
    from m3.messaging._amqp.envelopes import sealed
    from m3.messaging._amqp.link import Duty, Link
    from m3.messaging._amqp.listener import AmqpListener
    from m3.messaging._amqp.publishing import Parcel, Publishing
    from m3.messaging._amqp.topology import OnDeclare, Topology
except ModuleNotFoundError as error:
    if error.name not in ("kombu", "amqp"):
        raise
    raise MissingExtraError("amqp:// needs kombu", extra="amqp") from error

__all__ = ("AmqpBus",)

C = TypeVar("C", bound=AmqpConsumer)

QueueType = Literal["classic", "quorum"]

RECONNECT = Backoff(initial=0.2, maximum=10.0)
"""How long a bus waits before it connects again, if it is not told otherwise."""


MAX_BODY = 128 * 2**20
"""The default for how many bytes a message may have; RabbitMQ takes no longer ones by default."""


class AmqpBus(Bus):
    """
    A bus on RabbitMQ, or another broker of AMQP 0-9-1 that confirms what it is given.

    It has two connections: one to publish on, and one to receive on, made with the first
    consumer.  Each has a thread, which ticks its heartbeats whatever
    your code does.  A lost connection is made again, to whichever of the brokers answers
    first: exchanges, queues and consumers are declared again, and what was published and
    not confirmed is published again, so it may be there twice.  It cannot be used in the child
    of a fork: connect there.

    Args:
        url: ``amqp://user:password@host:port/vhost``, or ``amqps://``; or several, with
            ``;`` between them, which are tried in turn.
        heartbeat: seconds; within twice that it is noticed that a connection is dead, whichever
            direction has died.  So half of it is agreed on with the broker, for which
            RabbitMQ's documentation finds 5 to 20 best.
        connect_timeout: seconds for each step of connecting to one broker.
        reconnect: how long to wait before each attempt to connect again.
        tls: options of TLS for ``amqps://``: ``ca_certs``, ``certfile``, ``keyfile``,
            ``server_hostname``, ``ciphers``.  The broker's certificate is always checked.
        max_body: how many bytes a message may have that is received.  A longer one is not kept
            in memory: it is rejected, and is among the dead letters of its queue if that has any.
        queue_type: what durable queues are: ``"quorum"`` ones are replicated, and count
            how often a message was delivered.  None leaves it to the broker.
        on_declare: called with each exchange and queue just before it is declared, also with
            those that the bus needs itself. It is called in a thread of the bus, and must
            neither block nor raise.

    Raises:
        ConfigError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str = "amqp://",
        *,
        heartbeat: int = 10,
        connect_timeout: float = 5.0,
        reconnect: Backoff = RECONNECT,
        tls: Mapping[str, Any] | None = None,
        max_body: int = MAX_BODY,
        queue_type: QueueType | None = None,
        on_declare: OnDeclare | None = None,
    ) -> None:
        if heartbeat not in range(2, 65536):
            raise ConfigError(f"heartbeat={heartbeat!r}: it is a whole number of seconds from 2 on")
        if max_body < 1:
            raise ConfigError(f"max_body={max_body!r}: it is a number of bytes")
        self._brokers = Brokers(
            url,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            tls=tls or {},
            max_body=max_body,
        )
        self._reconnect = reconnect
        self._queue_type = queue_type
        self._on_declare = on_declare
        self._lock = threading.Lock()
        self._publishing: Publishing | None = None
        self._consuming: Consuming | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the bus of a URL."""
        return cls(url, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._brokers}>"

    # -- the component

    def setup(self) -> None:
        """
        Connect.

        Raises:
            BusError: no broker can be connected to; it names each, and says why.
        """
        with self._lock:
            if self._publishing is None:
                publishing = Publishing(self._topology())
                publishing.link = self._linked(publishing, "publishing")
                publishing.link.open()
                self._publishing = publishing

    def shutdown(self) -> None:
        """Close the consumers and both connections; what waits to be published is given up."""
        publishing = self._publishing
        if publishing is not None and publishing.link.is_inherited():
            self._publishing = self._consuming = None
            return
        with self._lock:
            publishing, self._publishing = self._publishing, None
            consuming, self._consuming = self._consuming, None
        consumers = [] if consuming is None else list(consuming.consumers)
        links = [duty.link for duty in (publishing, consuming) if duty is not None]
        call_all([each.close for each in consumers] + [link.close for link in links])

    def health(self) -> None:
        """Raise if it is not set up, a connection is lost, or a consumer is refused."""
        consuming = self._consuming
        for duty in (self._up(), consuming):
            if duty is not None and duty.link.trouble is not None:
                problem = f"no connection to RabbitMQ at {self._brokers}"
                raise BusError(f"{problem}: {reason(duty.link.trouble)}")
        for consumer in list(consuming.consumers) if consuming is not None else ():
            if consumer.refusal is not None:
                raise consumer.refusal

    # -- the bus

    def declare(self, *entities: Exchange | Queue) -> None:
        """See :meth:`Bus.declare`."""
        publishing = self._up()
        for entity in entities:
            duty = self._duty_of(entity, publishing)
            duty.link.call(partial(duty.topology.declare, entity=entity), PATIENCE)

    def delete(self, *entities: Exchange | Queue) -> None:
        """See :meth:`Bus.delete`."""
        publishing = self._up()
        for entity in entities:
            duty, consuming = self._duty_of(entity, publishing), self._consuming
            if isinstance(entity, Queue) and consuming is not None:
                for consumer in list(consuming.consumers):
                    consumer.dismiss(entity.name)
            duty.link.call(partial(duty.topology.delete, entities=[entity]), PATIENCE)

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
        See :meth:`Bus.publish`; the broker has it when it has confirmed it.

        That is on disk where queue and message are durable.
        """
        publishing = self._up()
        parcel = Parcel(sealed(message), exchange, routing_key, mandatory=mandatory)
        publishing.send(parcel)
        publishing.await_answer(parcel, timeout)

    def publish_many(
        self, publications: Iterable[Publication], *, timeout: float | None = PATIENCE
    ) -> list[BusError | None]:
        """See :meth:`Bus.publish_many`; many are on their way to the broker at once."""
        publishing = self._up()
        parcels = [
            Parcel(sealed(message), exchange, routing_key, mandatory=mandatory)
            for message, exchange, routing_key, mandatory in publications
        ]
        publishing.send(*parcels)
        waits = (partial(publishing.await_answer, parcel) for parcel in parcels)
        return outcomes_of(waits, timeout)

    def post(
        self,
        message: Message,
        *,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        timeout: float | None = PATIENCE,
        failed: Callable[[Exception], object],
    ) -> Callable[[], Exception | None]:
        """See :meth:`Bus.post`; it never blocks."""
        publishing = self._up()

        def answered(error: Exception | None) -> None:
            if error is not None:
                failed(error)

        parcel = Parcel(sealed(message), exchange, routing_key, mandatory=mandatory, then=answered)
        publishing.send(parcel)
        return lambda: None if parcel.give_up() else publishing.overdue(timeout or 0.0)

    def consumer(self, queues: Queue | Iterable[Queue], *, prefetch: int = 1) -> AmqpConsumer:
        """
        See :meth:`Bus.consumer`.

        The broker sends it *prefetch* messages of each queue in advance.
        """
        queues = asked_for(queues, prefetch)
        publishing, consuming = self._up(), self._receiving()
        return begun(AmqpConsumer(queues, prefetch, consuming, publishing), consuming)

    def listen(
        self,
        queue: Queue,
        hear: Callable[[Message], object],
        ended: Callable[[Exception | None], object],
    ) -> AmqpListener:
        """See :meth:`Bus.listen`."""
        publishing, consuming = self._up(), self._receiving()
        return begun(AmqpListener(queue, hear, ended, consuming, publishing), consuming)

    def wait(self, awaited: Awaited, timeout: float | None = None) -> bool:
        """See :meth:`Bus.wait`."""
        consuming = self._consuming
        if consuming is None:
            return awaited.wait(timeout)
        return consuming.link.wait(awaited, timeout)

    def _up(self) -> Publishing:
        publishing = self._publishing
        if publishing is None:
            raise BusError(f"the bus at {self._brokers} is not connected: set it up, or use with")
        publishing.link.check_process()
        return publishing

    def _duty_of(self, entity: Exchange | Queue, publishing: Publishing) -> Publishing | Consuming:
        """Return whose connection to use: an exclusive queue belongs to the one that has it."""
        is_exclusive = isinstance(entity, Queue) and entity.exclusive
        return self._receiving() if is_exclusive else publishing

    def _receiving(self) -> Consuming:
        with self._lock:
            self._up()  # it may have been shut down meanwhile
            if self._consuming is None:
                consuming = Consuming(self._topology(), self._reconnect, self.logger)
                consuming.link = self._linked(consuming, "receiving")
                consuming.link.open()
                self._consuming = consuming
            return self._consuming

    def _topology(self) -> Topology:
        return Topology(self._queue_type, self.logger, self._on_declare)

    def _linked(self, duty: Duty, purpose: str) -> Link:
        return Link(self._brokers, duty, purpose, self._reconnect, self.logger)


def begun(consumer: C, consuming: Consuming) -> C:
    """Let a consumer receive, and return it; close it if the broker refuses that."""
    try:
        consuming.link.call(consumer.begin, PATIENCE)
    except BaseException:
        consumer.close()
        raise
    return consumer
