"""Calls and events for programs that are no service."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from m3.components.conductor import Conductor
from m3.errors import BusError
from m3.messaging import Bus
from m3.services.calls import rpc_exchange
from m3.services.container import bus_of
from m3.services.context import seconds_in
from m3.services.errors import ServiceStateError
from m3.services.events import event_exchange, event_message
from m3.services.proxies import TIMEOUT_SECONDS, Caller, ServiceProxy
from m3.services.replies import Replies

__all__ = ("ClusterRpcProxy", "ServiceRpcProxy", "StandaloneDispatcher", "event_dispatcher")


class ClusterRpcProxy:
    """
    All services that can be reached over a bus, for a ``with`` block.

    ``proxy.stock`` and ``proxy["stock"]`` are the service of that name; its attributes
    are its methods.  Any number of threads may use it.

    Args:
        config: names the bus; see :class:`ServiceContainer`.
        context_data: what travels with each call.
        timeout: seconds that a call may take; None for ``rpc_timeout`` of *config*,
            30 if there is none.

    Raises:
        ConfigError: ``rpc_timeout`` is no number of seconds.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._config = dict(config or {})
        seconds_in(self._config, "rpc_timeout", TIMEOUT_SECONDS)
        self._context = dict(context_data or {})
        self._timeout = timeout
        self._conductor = Conductor()
        self._caller: Caller | None = None

    def start(self) -> Self:
        """Connect; a ``with`` block does the same."""
        bus = bus_of(self._config)
        self._conductor.patch(Bus, bus)
        replies = self._conductor.add(Replies)
        self._conductor.setup()
        try:
            bus.declare(rpc_exchange(self._config))  # so that an unknown service is known as such
        except BaseException:
            self._conductor.shutdown()
            raise
        self._caller = Caller(bus, replies, self._config, self._context, timeout=self._timeout)
        return self

    def stop(self) -> None:
        """Close the connection; calls that are not answered yet fail."""
        self._caller = None
        self._conductor.shutdown()

    def __getitem__(self, name: str) -> ServiceProxy:
        """
        Return the service of that name.

        Raises:
            ServiceStateError: it is not started.
        """
        if self._caller is None:
            raise ServiceStateError(
                f"{type(self).__name__} is used in a with block, or between start() and stop()"
            )
        return ServiceProxy(self._caller, name)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class ServiceRpcProxy:
    """
    One service that can be reached over a bus, for a ``with`` block, which gets its proxy.

    Args:
        service_name: its name.
        config: as of :class:`ClusterRpcProxy`.
        options: likewise.
    """

    def __init__(
        self, service_name: str, config: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self._cluster = ClusterRpcProxy(config, **options)
        self._service_name = service_name

    def start(self) -> ServiceProxy:
        """Connect, and return the proxy; a ``with`` block does the same."""
        return self._cluster.start()[self._service_name]

    def stop(self) -> None:
        """Close the connection; calls that are not answered yet fail."""
        self._cluster.stop()

    def __enter__(self) -> ServiceProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class StandaloneDispatcher:
    """
    Dispatches events in the name of any service: ``dispatch("service", "type", data)``.

    Within a ``with`` block, in which it can be once at a time, it keeps its connection; otherwise
    each event has its own.

    Args:
        config: names the bus.
        context_data: what travels with each event.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        context_data: Mapping[str, Any] | None = None,
    ) -> None:
        self._config = dict(config or {})
        self._context = dict(context_data or {})
        self._bus: Bus | None = None
        self._declared: set[str] = set()
        self._entering = threading.Lock()

    def __call__(self, service_name: str, event_type: str, event_data: Any = None) -> None:
        """
        Dispatch an event; returns when the bus has it.

        Raises:
            UnserializableValueError: the data cannot be sent.
            BusError: the bus does not take it.
        """
        if self._bus is None:
            with StandaloneDispatcher(self._config, context_data=self._context) as dispatch:
                dispatch(service_name, event_type, event_data)
            return
        exchange = event_exchange(service_name)
        message = event_message(event_type, event_data, self._context)
        if exchange.name not in self._declared:
            self._bus.declare(exchange)
            self._declared.add(exchange.name)
        try:
            self._bus.publish(message, exchange=exchange.name, routing_key=event_type)
        except BusError:
            self._declared.discard(exchange.name)  # somebody may have deleted it
            raise

    def __enter__(self) -> Self:
        with self._entering:
            if self._bus is not None:
                raise ServiceStateError(
                    "the dispatcher is in a with block already, which ends its connection; make "
                    "another one"
                )
            bus = bus_of(self._config)
            bus.setup()
            self._declared.clear()
            self._bus = bus
        return self

    def __exit__(self, *_: object) -> None:
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.shutdown()


event_dispatcher: Callable[..., StandaloneDispatcher] = StandaloneDispatcher
