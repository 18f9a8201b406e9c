"""What methods with ``@http`` are answered with, in werkzeug."""

import re
from collections.abc import Sequence
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from m3._messages import describe
from m3.services.errors import BadRequest

__all__ = ("failed", "of_error", "of_result", "sendable", "unavailable")

is_status = re.compile(r"[2-9][0-9]{2}( [\t\x20-\x7e\x80-\xff]*)?").fullmatch
is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
is_value = re.compile(r"[^\0\r\n\u0100-\U0010ffff]*").fullmatch


def of_result(result: Any) -> Response:
    """
    Return the answer with what a method has returned.

    Raises:
        TypeError: it is nothing that can be sent.
    """
    if isinstance(result, Response):
        return result
    status, headers = 200, None
    if isinstance(result, tuple):
        status, *rest = result
        headers, result = rest if len(rest) == 2 else (None, *rest)
    if not isinstance(result, (str, bytes)):
        raise TypeError(
            "a method with @http returns text, (status, text), (status, headers, text) or a "
            f"Response, and not {type(result).__qualname__}"
        )
    return Response(result, status=status, headers=headers)


def sendable(response: Response) -> Response:
    """
    Return *response*.

    Raises:
        ValueError: its status or one of its headers is none of HTTP.
    """
    if not is_status(response.status):
        raise ValueError(f"{response.status!r} is no status of an answer, as 404 is")
    for name, value in response.headers:
        if not is_name(name) or not is_value(value):
            raise ValueError(f"{name!r}: {value!r} is no header of HTTP")
    return response


def of_error(error: Exception, expected: Sequence[type[BaseException]]) -> Response:
    """Return the answer with what a method has raised; the rest of the world is told no more."""
    if isinstance(error, HTTPException):
        return error.get_response()
    if isinstance(error, (BadRequest, *expected)):
        return Response(f"Error: {describe(error)}\n", status=400)
    return failed()


def failed() -> Response:
    """Return the answer of a service that cannot give one."""
    return Response("Error: the service has failed\n", status=500)


def unavailable() -> Response:
    """Return the answer of a service that has no room, or no time left."""
    text = "Error: the service is full, or stopping\n"
    return Response(text, status=503, headers={"Retry-After": "1"})
