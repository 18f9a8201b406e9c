"""Calling methods of services."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from m3.errors import BusError, BusTimeoutError, UndeliverableError
from m3.messaging import Bus
from m3.services.calls import rpc_exchange
from m3.services.context import ServiceContext, WorkerContext, seconds_in
from m3.services.context_data import headers_of
from m3.services.dependencies import AttributeDependency
from m3.services.errors import RpcTimeout, UnknownService
from m3.services.replies import Replies, RpcReply
from m3.services.wire import METHOD, TIMEOUT, message_of

__all__ = ("Caller", "MethodProxy", "RpcProxy", "Sender", "Service", "ServiceProxy")

TIMEOUT_SECONDS = 30.0
"""How long a call may take, if nobody says anything else."""


class Sender(Protocol):
    """What sends calls."""

    def send(self, service: str, method: str, args: Any, kwargs: Any) -> RpcReply:
        """Send a call; return its answer, which is perhaps not there yet."""

    def call(self, service: str, method: str, args: Any, kwargs: Any) -> Any:
        """Send a call, and return its result."""


class Caller:
    """
    Sends calls, all with the same context.

    Args:
        bus: where they are sent.
        replies: where the answers come in.
        config: names the exchange, and how long a call may take.
        context: what travels with each; copied when the first one is sent.
        timeout: seconds that a call may take; None for ``rpc_timeout`` of *config*.
        deadline: when the call ends in which these are made, on the monotonic clock.

    Raises:
        ConfigError: ``rpc_timeout`` is no number of seconds.
    """

    __slots__ = ("_bus", "_context", "_deadline", "_exchange", "_headers", "_replies", "_timeout")

    def __init__(
        self,
        bus: Bus,
        replies: Replies,
        config: Mapping[str, Any],
        context: Mapping[str, Any],
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self._bus = bus
        self._replies = replies
        self._exchange = rpc_exchange(config).name
        self._context = context
        self._headers: dict[str, Any] | None = None
        configured = seconds_in(config, "rpc_timeout", TIMEOUT_SECONDS)
        self._timeout = configured if timeout is None else timeout
        self._deadline = deadline

    def send(self, service: str, method: str, args: Any, kwargs: Any) -> RpcReply:
        """
        Send a call; return its answer, which is perhaps not there yet.

        Raises:
            UnknownService: nobody has ever listened for calls of that service.
            UnserializableValueError: the arguments, or the context data, cannot be sent.
            RpcTimeout: there is no time left for it.
            BusError: the bus does not take it.
        """
        reply = self._expect(service, method)
        self._publish(self._bus.publish, reply, method, args, kwargs)
        return reply

    def call(self, service: str, method: str, args: Any, kwargs: Any) -> Any:
        """
        Send a call, and return its result; it is the answer that is waited for, not the bus.

        Raises:
            Exception: as :meth:`send` and :meth:`RpcReply.result`.
        """
        reply = self._expect(service, method)
        post = partial(self._bus.post, failed=partial(self._fail, reply))
        give_up = self._publish(post, reply, method, args, kwargs)
        try:
            return reply.result()
        except RpcTimeout as late:
            if reply.is_there():
                raise
            raise late from give_up()
        finally:  # also when it is Ctrl-C that ends the wait
            self._replies.forget(reply)

    def _expect(self, service: str, method: str) -> RpcReply:
        what = f"{service}.{method}"
        return self._replies.expect(what, self._seconds(what))

    def _publish(
        self, publish: Callable[..., Any], reply: RpcReply, method: str, args: Any, kwargs: Any
    ) -> Any:
        try:
            if self._headers is None:
                self._headers = headers_of(self._context)
            message = message_of(
                {"args": args, "kwargs": kwargs},
                f"the arguments of {reply.what}",
                headers={**self._headers, METHOD: method, TIMEOUT: reply.seconds},
                correlation_id=reply.correlation_id,
                reply_to=self._replies.address,
                expiration=reply.seconds,
            )
            return publish(
                message,
                exchange=self._exchange,
                routing_key=reply.what,
                mandatory=True,
                timeout=reply.seconds,
            )
        except BusError as error:
            raise self._explained(reply, error) from error
        except BaseException:
            self._replies.forget(reply)
            raise

    def _fail(self, reply: RpcReply, error: Exception) -> None:
        """Have who waits for an answer told that none will come."""
        told = self._explained(reply, error)
        if told is not error:
            told.__cause__ = error
        reply.fail(told)

    def _explained(self, reply: RpcReply, error: Exception) -> Exception:
        """Return what an error of the bus means for a call, which is over."""
        self._replies.forget(reply)
        if isinstance(error, BusTimeoutError):
            return RpcTimeout(f"{reply.what} could not be sent within {reply.seconds:g} s")
        if isinstance(error, UndeliverableError):
            service = reply.what.rpartition(".")[0]
            return UnknownService(
                f"nobody listens for calls of a service {service!r}; is it running, with this "
                "name and on this bus?"
            )
        return error

    def _seconds(self, what: str) -> float:
        """Return how long a call may take: no longer than the call in which it is made."""
        if self._deadline is None:
            return self._timeout
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise RpcTimeout(f"no time is left to call {what}: the calling call is over its own")
        return min(self._timeout, left)


class MethodProxy:
    """A method of a service; call it to call that."""

    __slots__ = ("_caller", "_method", "_service")

    def __init__(self, caller: Sender, service: str, method: str) -> None:
        self._caller = caller
        self._service = service
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """
        Call the method and return its result; blocks until it is there.

        Raises:
            Exception: as :meth:`Caller.call`.
        """
        return self._caller.call(self._service, self._method, args, kwargs)

    def call_async(self, *args: Any, **kwargs: Any) -> RpcReply:
        """
        Call the method; return its answer, which is perhaps not there yet.

        Raises:
            Exception: as :meth:`Caller.send`.
        """
        return self._caller.send(self._service, self._method, args, kwargs)

    def __repr__(self) -> str:
        return f"<method {self._service}.{self._method}>"


class ServiceProxy:
    """A service; its attributes are its methods."""

    __slots__ = ("_caller", "_service")

    def __init__(self, caller: Sender, service: str) -> None:
        self._caller = caller
        self._service = service

    def __getattr__(self, method: str) -> MethodProxy:
        if method.startswith("__"):
            raise AttributeError(method)
        return MethodProxy(self._caller, self._service, method)

    def __getitem__(self, method: str) -> MethodProxy:
        return MethodProxy(self._caller, self._service, method)

    def __repr__(self) -> str:
        return f"<service {self._service}>"


class Service(AttributeDependency):
    """
    Another service, whose methods can be called.

    Args:
        target_service: its name.
        timeout: seconds that a call may take; None for ``rpc_timeout`` of the
            configuration, 30 if there is none.  A call ends no later than the call in
            which it is made.
    """

    bus: Bus
    replies: Replies

    def __init__(self, target_service: str, *, timeout: float | None = None) -> None:
        self.target_service = target_service
        self.timeout = timeout

    def start(self, srv_ctx: ServiceContext) -> None:
        """Declare the exchange of calls, so that an unknown service is known as such."""
        self.bus.declare(rpc_exchange(srv_ctx.config))

    def acquire_injection(self, worker_ctx: WorkerContext) -> ServiceProxy:
        """Return the service."""
        caller = Caller(
            self.bus,
            self.replies,
            worker_ctx.config,
            worker_ctx.context_to_send,
            timeout=self.timeout,
            deadline=worker_ctx.deadline,
        )
        return ServiceProxy(caller, self.target_service)


RpcProxy = Service
