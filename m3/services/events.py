"""Events: what a service tells everybody who wants to know."""

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from m3.errors import ConfigError
from m3.messaging import Bus, Exchange, Message, Queue
from m3.policies import Retry
from m3.services.context import WorkerContext
from m3.services.context_data import headers_of
from m3.services.dependencies import AttributeDependency
from m3.services.queues import QueueEntrypoint
from m3.services.wire import message_of

__all__ = (
    "BROADCAST",
    "SERVICE_POOL",
    "SINGLETON",
    "Event",
    "EventDispatcher",
    "EventHandler",
    "event_exchange",
    "event_handler",
    "event_message",
    "event_queue_name",
)

HandlerType = Literal["service_pool", "singleton", "broadcast"]

SERVICE_POOL: HandlerType = "service_pool"
"""Of the instances of each service that handles an event, one gets it."""

SINGLETON: HandlerType = "singleton"
"""Of all instances of all services that handle an event, one gets it."""

BROADCAST: HandlerType = "broadcast"
"""Every instance of every service that handles an event gets it."""


class Event:
    """
    An event; subclasses have a ``type``.

    Args:
        data: what is sent.
    """

    type: str = ""

    def __init__(self, data: Any = None) -> None:
        if not self.type:
            raise ConfigError(f"{type(self).__qualname__} has no type; give the class one")
        self.data = data


def event_exchange(service: str) -> Exchange:
    """Return the exchange of the events of a service."""
    return Exchange(f"{service}.events", type="topic")


def event_queue_name(source_service: str, event_type: str, handler: str = "") -> str:
    """Return the name of the queue of events, of all handlers that are called *handler*."""
    source = f"evt-{source_service}-{event_type}"
    return f"{source}--{handler}" if handler else source


def event_message(event_type: str, data: Any, context: Any) -> Message:
    """
    Return the message that is an event.

    Raises:
        UnserializableValueError: the data cannot be sent.
    """
    return message_of(data, f"the data of the event {event_type!r}", headers=headers_of(context))


class EventDispatcher(AttributeDependency):
    """
    Dispatches events of its service: ``self.dispatch(SomeEvent(data))``.

    ``self.dispatch("type", data)`` does the same without a class for the event.
    """

    bus: Bus

    def start(self, srv_ctx: Any) -> None:
        """Declare the exchange."""
        self.bus.declare(event_exchange(srv_ctx.name))

    def acquire_injection(self, worker_ctx: WorkerContext) -> Any:
        """Return a function that dispatches an event, and returns when the bus has it."""
        exchange = event_exchange(worker_ctx.service_name).name
        context = worker_ctx.context_to_send

        def dispatch(event: Event | str, data: Any = None) -> None:
            kind, content = (event.type, event.data) if isinstance(event, Event) else (event, data)
            message = event_message(kind, content, context)
            self.bus.publish(message, exchange=exchange, routing_key=kind)

        return dispatch


class EventHandler(QueueEntrypoint):
    """
    A method that is called with the data of events; use it as ``@event_handler(...)``.

    Args:
        source_service: whose events.
        event_type: which of them.
        handler_type: which instances get each: :data:`SERVICE_POOL`, :data:`SINGLETON`
            or :data:`BROADCAST`.
        reliable_delivery: whether events are kept while no instance runs: by default,
            except for broadcasts.
        requeue_on_error: whether an event is handled again if the method raises; a
            :class:`~m3.policies.Retry` says how often, and after how long.
        broadcast_identifier: what an instance is known by from run to run, for reliable
            broadcasts.
        options: as of :class:`DecoratorDependency`.

    What has failed for good, and what could not be read, is in the queue
    ``dead-{service}``, of a singleton in ``dead-{source_service}``, unless
    ``dead_letters`` of the configuration is another name, or false.

    Raises:
        ConfigError: a reliable broadcast without an identifier, or something that is no name.
    """

    def __init__(
        self,
        source_service: str,
        event_type: str,
        *,
        handler_type: HandlerType = SERVICE_POOL,
        reliable_delivery: bool | None = None,
        requeue_on_error: bool | Retry = False,
        broadcast_identifier: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(requeue_on_error=requeue_on_error, **options)
        _check_name("source_service", source_service, "a service")
        _check_name("event_type", event_type, "a type of events")
        if handler_type not in (SERVICE_POOL, SINGLETON, BROADCAST):
            raise ConfigError(
                f"event_handler(handler_type={handler_type!r}): it is SERVICE_POOL, SINGLETON "
                "or BROADCAST"
            )
        if handler_type == BROADCAST and reliable_delivery and broadcast_identifier is None:
            raise ConfigError(
                "event_handler: a broadcast that waits for an instance that does not run needs "
                "to know which it is; give broadcast_identifier, or leave reliable_delivery out"
            )
        self.source_service = source_service
        self.event_type = event_type
        self.handler_type = handler_type
        self.reliable_delivery = (
            handler_type != BROADCAST or broadcast_identifier is not None
            if reliable_delivery is None
            else reliable_delivery
        )
        self.broadcast_identifier = broadcast_identifier

    def trigger(self) -> Mapping[str, Any]:
        """Return the event, who gets it, and where it waits."""
        return {
            "event": f"{self.source_service}.{self.event_type}",
            "handler_type": self.handler_type,
            "queue": self._queue_name("*"),
            "dead_letters": self._dead_letter(),
        }

    def queue(self) -> Queue:
        """Return the queue of the events."""
        return Queue(
            self._queue_name(uuid.uuid4().hex),
            event_exchange(self.source_service),
            self.event_type,
            durable=self.reliable_delivery,
            auto_delete=not self.reliable_delivery,
            exclusive=self.handler_type == BROADCAST and not self.reliable_delivery,
            dead_letter=self._dead_letter(),
        )

    def _dead_letter(self) -> str | None:
        is_shared = self.handler_type == SINGLETON
        whose = self.source_service if is_shared else self.srv_ctx.name
        return self.srv_ctx.config.get("dead_letters", f"dead-{whose}") or None

    def _queue_name(self, instance: str) -> str:
        is_shared = self.handler_type == SINGLETON
        handler = "" if is_shared else f"{self.srv_ctx.name}.{self.method_name}"
        name = event_queue_name(self.source_service, self.event_type, handler)
        if self.handler_type != BROADCAST:
            return name
        return f"{name}-{self.broadcast_identifier or instance}"


def _check_name(argument: str, given: object, what: str) -> None:
    """Raise ``ConfigError`` if what is *given* cannot be the name of *what*."""
    if not (isinstance(given, str) and given):
        raise ConfigError(
            f"event_handler({argument}={given!r}): it is the name of {what}, a string that is "
            "not empty"
        )


event_handler = EventHandler.decorator
