"""What the shell calls ``m3``: the services, the events and the configuration of a bus."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from m3._shown import safe
from m3.cli.settings_shown import without_passwords
from m3.components.loops import result_of
from m3.errors import BusError, ComponentError, M3Error
from m3.services.proxies import ServiceProxy
from m3.services.replies import RpcReply
from m3.services.standalone import ClusterRpcProxy, StandaloneDispatcher

__all__ = ("Client", "Connection", "Services")

T = TypeVar("T")


class Client:
    """
    Calls services and dispatches events over one bus; it connects when it has to.

    Any number of threads may use it.

    Args:
        config: names the bus; see :class:`~m3.services.ServiceContainer`.
        context: what travels with each call and event.

    Attributes:
        config: the same; it is looked at when a connection is made.
        rpc: the services.
    """

    def __init__(self, config: Mapping[str, Any], context: Mapping[str, Any]) -> None:
        self.config = Config(config)
        self._connection = Connection(self.config, context)
        self.rpc = Services(self._connection)

    @property
    def bus(self) -> str:
        """The URL of the bus, without its password."""
        return str(self._connection)

    def dispatch_event(self, service_name: str, event_type: str, event_data: Any = None) -> None:
        """
        Dispatch an event in the name of a service; returns when the bus has it.

        Raises:
            UnserializableValueError: the data cannot be sent.
            BusError: the bus does not take it.
        """
        self._connection.dispatch(service_name, event_type, event_data)

    def connect(self) -> None:
        """
        Connect; a call does the same.

        Raises:
            BusError: the bus cannot be connected to.
        """
        self._connection.cluster()

    def disconnect(self) -> None:
        """Disconnect; calls that are not answered yet fail, and the next one connects again."""
        self._connection.close()

    def __repr__(self) -> str:
        state = "connected" if self._connection.is_open else "not connected"
        return f"<m3 on {self._connection}, {state}: rpc, dispatch_event, config, disconnect>"


class Services:
    """
    All services of a bus: ``services.stock.take("tea")``, or ``services["stock"]``.

    Args:
        connection: what sends the calls.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):  # which is what terminals look for to show an object
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> ServiceProxy:
        return ServiceProxy(self._connection, name)

    def __repr__(self) -> str:
        return f"<services on {self._connection}: m3.rpc.SERVICE.METHOD(...) calls one>"


class Config(dict[str, Any]):
    """A configuration that is shown without passwords."""

    def __repr__(self) -> str:
        return repr(without_passwords(self))


class Connection:
    """
    Connections to one bus, made when they are needed.

    One that fails is closed, so that the next call makes another.

    Args:
        config: names the bus.
        context: what travels with each call and event.
    """

    def __init__(self, config: Mapping[str, Any], context: Mapping[str, Any]) -> None:
        self._config = config
        self._context = context
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._cluster: ClusterRpcProxy | None = None
        self._dispatcher: StandaloneDispatcher | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._cluster is not None or self._dispatcher is not None

    def cluster(self) -> ClusterRpcProxy:
        """
        Return all services of the bus, connected.

        Raises:
            BusError: the bus cannot be connected to.
        """
        with self._lock:
            if self._cluster is None:
                made = ClusterRpcProxy(self._config, context_data=self._context)
                self._cluster = self._opened(made)
            return self._cluster

    def send(self, service: str, method: str, args: Any, kwargs: Any) -> RpcReply:
        """
        Send a call; return its answer, which is perhaps not there yet.

        Raises:
            Exception: as :meth:`m3.services.proxies.Caller.send`.
        """
        cluster = self.cluster()
        with self._closed_if_broken():
            return cluster[service][method].call_async(*args, **kwargs)

    def call(self, service: str, method: str, args: Any, kwargs: Any) -> Any:
        """
        Send a call, and return its result.

        Raises:
            Exception: as :meth:`m3.services.proxies.Caller.call`.
        """
        cluster = self.cluster()
        with self._closed_if_broken():
            return cluster[service][method](*args, **kwargs)

    def dispatch(self, service_name: str, event_type: str, event_data: Any) -> None:
        """
        Dispatch an event.

        Raises:
            Exception: as of :class:`m3.services.standalone.StandaloneDispatcher`.
        """
        with self._lock:
            if self._dispatcher is None:
                made = StandaloneDispatcher(self._config, context_data=self._context)
                self._dispatcher = self._opened(made)
            dispatcher = self._dispatcher
        with self._closed_if_broken():
            dispatcher(service_name, event_type, event_data)

    def close(self) -> None:
        """Close them; calls that are not answered yet fail."""
        with self._lock:
            connections = self._open.pop_all()
            self._cluster = self._dispatcher = None
        connections.close()

    def _opened(self, connection: AbstractContextManager[T]) -> T:
        opening = _begun(connection)
        try:
            opened = result_of(opening)
        except ComponentError as error:  # the bus has said itself what is wrong
            raise error.error from None
        except KeyboardInterrupt:
            opening.add_done_callback(partial(_close_opened, connection))
            raise
        self._open.push(connection)
        return opened

    @contextmanager
    def _closed_if_broken(self) -> Iterator[None]:
        try:
            yield
        except BusError:
            with suppress(M3Error):
                self.close()
            raise

    def __str__(self) -> str:
        return safe(str(without_passwords(self._config.get("AMQP_URI", "memory://"))))


def _begun(connection: AbstractContextManager[T]) -> Future[T]:
    """Begin to enter *connection*, in a thread: Ctrl-C does not wait for a broker's answer."""
    opening: Future[T] = Future()

    def enter() -> None:
        try:
            opening.set_result(connection.__enter__())
        except BaseException as error:
            opening.set_exception(error)

    threading.Thread(target=enter, name="m3-connecting", daemon=True).start()
    return opening


def _close_opened(connection: AbstractContextManager[object], opening: Future[T]) -> None:
    if opening.exception() is None:
        connection.__exit__(None, None, None)
