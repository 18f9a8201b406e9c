"""
Methods that are called with requests over HTTP.

What receives and routes them is :mod:`m3.services._web`, and what answers them
:mod:`m3.services._responses`; these are imported when a service with such methods starts,
and need the extra ``http``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPMethod
from typing import TYPE_CHECKING, Any, Self

from m3._messages import closest, did_you_mean
from m3.errors import ConfigError, MissingExtraError, RetryLater
from m3.services.context import WorkerContext
from m3.services.entrypoints import DecoratorDependency
from m3.stages import Frontend

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from m3.services._web import HttpServer

__all__ = ("Http", "http")

METHODS = [*(method.value for method in HTTPMethod), "PROPPATCH", "REPORT"]
"""Those of HTTP, and those of WebDAV that look like one of them mistyped."""

TOKEN = re.compile(r"[A-Z][A-Z-]*")
ADVICE = "give it one, or several with commas between them, as 'GET,POST'"


class Http(DecoratorDependency):
    """
    A method that is called with requests over HTTP; use it as ``@http("GET", "/path/<int:x>")``.

    It gets the request of werkzeug and the parts of the path, and returns text, a
    pair of status and text, a triple of status, headers and text, or a response of
    werkzeug.  What it raises is answered with 500, or 400 if it was expected; an
    exception of :mod:`werkzeug.exceptions` is its own answer, and
    :exc:`~m3.errors.RetryLater` is 503 with the time after which to try again.  What it
    returns that no answer can be made of is an error, too, and answered with 500.  Reading the
    body of a client that has gone before it had sent all of it raises
    :exc:`werkzeug.exceptions.ClientDisconnected`.

    The server listens at ``WEB_SERVER_ADDRESS`` of the configuration, 127.0.0.1:8000 if
    there is none.  It answers 503 when twice as many requests wait as there are workers,
    and while the service stops; and 413 to a body over ``http_max_body`` bytes, 16 MiB
    if there is none, or to headers over 64 KiB.  A client has ``http_timeout`` seconds, 30 if
    there is none, to send a request.

    Args:
        method: of HTTP, or several with commas between them.
        url: the path, as a rule of werkzeug.
        options: as of :class:`DecoratorDependency`.

    Attributes:
        server: what receives the requests.

    Raises:
        ConfigError: *method* is something else, or looks like one mistyped.
    """

    server: "HttpServer"

    def __init__(self, method: str, url: str, **options: Any) -> None:
        super().__init__(**options)
        self.methods = _methods_in(method)
        self.url = url

    @classmethod
    def frontends(cls, entrypoints: Sequence[Self]) -> Iterator[tuple[str, Frontend[Any]]]:
        """
        Yield the one server for all methods of a service.

        Raises:
            MissingExtraError: the extra is not installed.
        """
        try:
            from m3.services._web import HttpServer
        except ImportError as error:
            raise MissingExtraError("@http needs werkzeug and cheroot", extra="http") from error
        server = HttpServer(entrypoints[0].srv_ctx, entrypoints)
        for entrypoint in entrypoints:
            entrypoint.server = server
        yield "http", server

    def trigger(self) -> Mapping[str, Any]:
        """Return the methods and the path of the requests."""
        return {"methods": list(self.methods), "path": self.url}

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port where its server listens, once it does."""
        return self.server.address

    def handle_result(self, worker_ctx: WorkerContext) -> None:
        """
        Send the result.

        Raises:
            ValueError: the answer that was made of it is none of HTTP.
        """
        from m3.services._responses import sendable

        worker_ctx.origin.answer(sendable(self.response_from_result(worker_ctx.result)))

    def response_from_result(self, result: Any) -> "Response":
        """
        Return the answer with what the method returned; a subclass may make another one.

        Raises:
            TypeError: it is nothing that can be sent.
        """
        from m3.services._responses import of_result

        return of_result(result)

    def response_from_exception(self, error: Exception) -> "Response":
        """Return the answer with what the method raised; a subclass may make another one."""
        from m3.services._responses import of_error

        return of_error(error, self.expected_exceptions)

    def put_off(self, _: WorkerContext, error: RetryLater) -> None:
        """Have the client come again, in place of the call."""
        raise self.server.unavailable_for(error.seconds) from error


def _methods_in(text: object) -> tuple[str, ...]:
    """
    Return the methods that *text* names.

    Raises:
        ConfigError: one of them is none, or looks like one mistyped.
    """
    if not isinstance(text, str):
        raise ConfigError(f"http({text!r}): {ADVICE}")
    methods = tuple(method.strip().upper() for method in text.split(","))
    for method in methods:
        near = [] if method in METHODS else closest(method, METHODS)
        if near or not TOKEN.fullmatch(method):
            what = f"{method!r} is no method of HTTP{did_you_mean(near)}"
            raise ConfigError(f"http({text!r}): {what}; {ADVICE}")
    return methods


http = Http.decorator
