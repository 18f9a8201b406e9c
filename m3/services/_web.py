"""What receives requests over HTTP, by werkzeug and cheroot."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cheroot.wsgi import Gateway_10, Server
from werkzeug.exceptions import BadRequest, HTTPException, ServiceUnavailable
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import LimitedStream

from m3._parking import Switch
from m3.errors import AbandonedError, ConfigError
from m3.services._responses import failed, sendable, unavailable
from m3.services._sockets import TimedConnection
from m3.services.context import ServiceContext, WorkerContext, count_in, seconds_in
from m3.services.direct import HandedIn
from m3.services.errors import ServiceStateError
from m3.stages import Item

if TYPE_CHECKING:
    from m3.services.http import Http

__all__ = ("HttpServer",)

logger = logging.getLogger("m3.services.http")

ADDRESS = "127.0.0.1:8000"
LAST_PORT = 65535
LONGEST_BODY = 16 * 1024 * 1024
LONGEST_HEAD = 64 * 1024
REQUEST_TIMEOUT = 30.0
SPARE_THREADS = 2
"""Threads that answer when all others wait for calls."""

PATIENCE = 5.0
"""Seconds that a stop waits for clients to take their answers."""

ADMITTED = "m3.admitted"
"""The key of what says whether there is room for a request."""

Environ = Mapping[str, Any]


class Waiting:
    """
    A request that waits for its answer.

    Attributes:
        entrypoint: whose method is called.
    """

    def __init__(self, entrypoint: "Http") -> None:
        self.entrypoint = entrypoint
        self._response: Response | None = None
        self._answered = Switch()

    def answer(self, response: Response) -> None:
        """Let :meth:`wait` return *response*."""
        self._response = response
        self._answered.turn_on()

    def is_answered(self) -> bool:
        """Return whether there is an answer."""
        return self._answered.is_on()

    def wait(self) -> Response:
        """Block until there is an answer, which there is when the service has stopped."""
        self._answered.wait()
        assert self._response is not None
        return self._response

    def __repr__(self) -> str:
        return f"<request for {self.entrypoint.url}>"


class InHand:
    """
    The requests that are being answered, until their clients have the answers or are gone.

    Args:
        most: so many are admitted.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._changed = threading.Condition()

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        """Have one more for a while; yields whether it is admitted."""
        with self._changed:
            self._count += 1
            is_admitted = self._count <= self._most
        try:
            yield is_admitted
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def await_none(self, timeout: float) -> None:
        """Block until there is none, for *timeout* seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count, timeout)


class CountedRequest(Gateway_10):
    """What answers one request, which is in hand until that has ended in whatever way."""

    def respond(self) -> None:
        """Have the application answer."""
        with self.req.server.in_hand.one_more() as is_admitted:
            self.env[ADMITTED] = is_admitted
            super().respond()


class TidyServer(Server):
    """
    Cheroot's server, which logs, has bounds, and closes the socket that it could not bind.

    Attributes:
        in_hand: the requests that it answers now.
        request_timeout: seconds that a client may take to send a request.
    """

    in_hand: InHand

    ConnectionClass = TimedConnection
    max_request_header_size = LONGEST_HEAD
    request_timeout = REQUEST_TIMEOUT

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Log what it has to say."""
        logger.log(level, "%s", msg, exc_info=traceback)

    @staticmethod
    def bind_socket(socket_: Any, bind_addr: Any) -> Any:
        """Bind a socket."""
        try:
            return Server.bind_socket(socket_, bind_addr)  # type: ignore[no-untyped-call]
        except OSError:
            socket_.close()
            raise


class BoundedBody(LimitedStream):
    """
    A body whose length is not known before; to read more than is allowed is an error.

    Werkzeug's stream with a bound ends there, as if that were all.
    """

    def __init__(self, body: Any, longest: int) -> None:
        super().__init__(body, longest + 1, is_max=True)

    def readall(self) -> bytes:
        """Read all of it."""
        data = super().readall()
        if self.is_exhausted:
            self.on_exhausted()
        return data


class HttpServer(HandedIn):
    """Receives the requests for a service, and answers those that are for none of its methods."""

    def __init__(self, srv_ctx: ServiceContext, entrypoints: "Sequence[Http]") -> None:
        super().__init__()
        self._srv_ctx = srv_ctx
        self._entrypoints = entrypoints
        self._most = 2 * srv_ctx.max_workers
        self._in_hand = InHand(self._most)

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port where it listens."""
        host, port = self._server.bind_addr[:2]
        return host, port

    def setup(self) -> None:
        """Bind the address."""
        self._rules = Map(
            [
                Rule(each.url, endpoint=number, methods=each.methods)
                for number, each in enumerate(self._entrypoints)
            ]
        )
        config = self._srv_ctx.config
        self._longest_body = count_in(config, "http_max_body", LONGEST_BODY, least=0)
        address = _address_of(config.get("WEB_SERVER_ADDRESS", ADDRESS))
        self._server = TidyServer(address, self._application, numthreads=self._most + SPARE_THREADS)
        self._server.gateway = CountedRequest
        self._server.in_hand = self._in_hand
        self._server.request_timeout = seconds_in(config, "http_timeout", REQUEST_TIMEOUT)
        self._prepare()
        self._thread = threading.Thread(target=self._server.serve, name="m3-http", daemon=True)

    def _prepare(self) -> None:
        try:
            self._server.prepare()
        except OSError as error:
            raise OSError(
                f"@http cannot listen: {error}; all services of one configuration share its "
                "WEB_SERVER_ADDRESS, where only one of those with @http can listen"
            ) from error

    def produce(self) -> Iterator[Item]:
        """Begin to listen, and yield the calls that the requests make."""
        self._thread.start()
        yield from super().produce()

    def ack(self, position: Waiting) -> None:
        """Answer a request whose method has ended the service in place of returning."""
        if not position.is_answered():
            position.answer(unavailable())

    def nack(self, position: Waiting, error: Exception) -> None:
        """Answer with what the method has raised."""
        position.answer(_failed(position.entrypoint, error))

    def cleanup(self) -> None:
        """Answer what waits, and listen no more."""
        super().cleanup()
        self._in_hand.await_none(PATIENCE)
        self._server.stop()
        if self._thread.ident is not None:
            self._thread.join()

    @staticmethod
    def unavailable_for(seconds: float) -> HTTPException:
        """Return what is raised to have a client come again after *seconds*."""
        return ServiceUnavailable(retry_after=math.ceil(seconds))

    def _application(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = self._request(environ)
        response = self._respond(request) if environ[ADMITTED] else unavailable()
        return response(request.environ, start_response)

    def _request(self, environ: Environ) -> Request:
        """
        Return a request, of whose body no more is read than there may be.

        Werkzeug takes half a body for a whole one where a key is there that says that bodies
        have an end of their own; in cheroot it is always there, also to say that one has none.
        """
        request = Request(dict(environ))
        if request.environ.get("wsgi.input_terminated"):
            body = request.environ["wsgi.input"]
            request.environ["wsgi.input"] = BoundedBody(body, self._longest_body)
        else:
            request.environ.pop("wsgi.input_terminated", None)
            request.max_content_length = self._longest_body
        return request

    def _respond(self, request: Request) -> Response:
        try:
            _check_length(request.environ)
            number, values = self._rules.bind_to_environ(request.environ).match()
        except HTTPException as error:
            return error.get_response(request.environ)
        entrypoint = self._entrypoints[number]
        waiting = Waiting(entrypoint)
        call = WorkerContext(self._srv_ctx, entrypoint, (request,), values, origin=waiting)
        try:
            self.submit(call, waiting)
        except ServiceStateError:
            return unavailable()
        return waiting.wait()


def _check_length(environ: Environ) -> None:
    """Raise ``BadRequest`` if the length of the body is not written in digits."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdecimal()):
        raise BadRequest("Content-Length is a number of bytes")


def _failed(entrypoint: "Http", error: Exception) -> Response:
    """Return the answer that *entrypoint* makes of an error, or the usual one if it cannot."""
    if isinstance(error, AbandonedError):
        return unavailable()
    try:
        return sendable(entrypoint.response_from_exception(error))
    except Exception:
        logger.exception("%s cannot answer with %r", entrypoint.url, error)
        return failed()


def _address_of(text: object) -> tuple[str, int]:
    host, _, port = str(text).rpartition(":")
    if not isinstance(text, str) or not port.isdecimal() or int(port) > LAST_PORT:
        raise ConfigError(f"WEB_SERVER_ADDRESS is {text!r}; it is HOST:PORT")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104  # as ":8000" says
