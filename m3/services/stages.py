"""
``events`` and ``rpc``: pipelines that meet services, on the bus that these are on.

The frontend ``events`` handles events of a service as ``@event_handler`` does, one of
all pipelines and instances with the same handler gets each; the backend dispatches
items as events.  They are the stages of :mod:`m3.connectors.amqp`, with the names and
the bodies that services use.  The transport ``rpc`` calls a method with each item.

Delivery: ``events`` at least once, both.  ``rpc`` may make a call twice, as any
transport whose item comes again.
"""

from collections.abc import Mapping
from typing import Any

from m3.connectors._naming import Name
from m3.connectors.amqp import AmqpBackend, AmqpFrontend
from m3.messaging import Queue
from m3.services.events import event_exchange, event_queue_name
from m3.services.standalone import ClusterRpcProxy
from m3.stages import Transport

__all__ = ("EventsBackend", "EventsFrontend", "RpcTransport")


class EventsFrontend(AmqpFrontend):
    """
    Handle events of a service.

    Args:
        url: of the bus: amqp://host/vhost, sqlite:///path or memory://name.
        service: whose events.
        event: the type of the events.
        handler: who handles them, as service.method; of those that are called the same,
            one gets each event.
        prefetch: how many events may be on their way through the pipeline.
        attempts: how often an event is delivered at most.
        retry_after: after how many seconds at most an event that failed comes again;
            twice as long after each further failure, at most a minute.
        dead_letter: the queue that gets what failed for good, dead-SERVICE of the handler
            by default; the empty text discards it.
        idle_timeout: end when no event came for so many seconds, though there was room
            for one; by default the frontend waits until it is stopped.
        bus_options: further arguments of the bus's class.
    """

    def __init__(
        self,
        *,
        url: str,
        service: str,
        event: str,
        handler: str,
        prefetch: int = 100,
        attempts: int = 10,
        retry_after: float = 0.5,
        dead_letter: str | None = None,
        idle_timeout: float | None = None,
        bus_options: Mapping[str, Any] | None = None,
    ) -> None:
        dead = f"dead-{handler.partition('.')[0]}" if dead_letter is None else dead_letter
        name = event_queue_name(service, event, handler)
        super().__init__(
            url=url,
            queue=Queue(name, event_exchange(service), event, dead_letter=dead or None),
            prefetch=prefetch,
            attempts=attempts,
            retry_after=retry_after,
            idle_timeout=idle_timeout,
            bus_options=bus_options,
        )


class EventsBackend(AmqpBackend):
    """
    Dispatch items as events of a service; nobody needs to handle them.

    Args:
        url: of the bus: amqp://host/vhost, sqlite:///path or memory://name.
        service: whose events they are.
        event: the type of the events: a text, with fields of the item in braces, or
            a function of the item.
        bus_options: further arguments of the bus's class.
    """

    def __init__(
        self,
        *,
        url: str,
        service: str,
        event: Name,
        bus_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            url=url,
            exchange=event_exchange(service).name,
            routing_key=event,
            form="json",
            mandatory=False,
            bus_options=bus_options,
        )


class RpcTransport(Transport[Any, Any]):
    """
    Call a method of a service with each item; what it returns goes on.

    Each worker waits for its own call: with more workers, more calls are made at once.
    What the call raises is an error of its item.

    Args:
        url: of the bus: amqp://host/vhost, sqlite:///path or memory://name.
        service: the name of the service.
        method: the name of the method, which is called with one argument, the item.
        call_timeout: how many seconds a call may take.
        rpc_exchange: the exchange of calls, as in the configuration of the service.
        bus_options: further arguments of the bus's class.
    """

    def __init__(
        self,
        *,
        url: str,
        service: str,
        method: str,
        call_timeout: float = 30.0,
        rpc_exchange: str = "m3-rpc",
        bus_options: Mapping[str, Any] | None = None,
    ) -> None:
        config = {
            "AMQP_URI": url,
            "rpc_exchange": rpc_exchange,
            "bus_options": bus_options or {},
        }
        self._cluster = ClusterRpcProxy(config, timeout=call_timeout)
        self.max_workers = 1  # type: ignore[misc]  # of this instance: it has one connection
        self._service = service
        self._method = method

    def setup(self) -> None:
        """Connect."""
        self._call = self._cluster.start()[self._service][self._method]

    def transport(self, data: Any) -> Any:
        """
        Call the method; blocks until the answer is there.

        Raises:
            RemoteError: the method has raised.
            RpcTimeout: there was no answer in time.
            ServiceError: the call cannot be made; its kind says why.
            BusError: the bus does not work.
        """
        return self._call(data)

    def cleanup(self) -> None:
        """Disconnect."""
        self._cluster.stop()
