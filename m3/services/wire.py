"""What services send each other: calls, answers and payloads."""

from typing import Any

from m3.errors import BodyError, abridged
from m3.messaging import Message
from m3.messaging.bodies import Bodies
from m3.services.errors import (
    MalformedRequest,
    UnserializableValueError,
    deserialize,
    outlined,
    serialize,
)

__all__ = (
    "METHOD",
    "TIMEOUT",
    "answer_of",
    "arguments_of",
    "error_message",
    "message_of",
    "payload_of",
    "result_message",
    "seconds_of",
)

METHOD = "m3-method"
"""The header that says which method is called."""

TIMEOUT = "m3-timeout"
"""The header that says how many seconds a call may take."""

MOST_SECONDS = 1e9
"""From how many seconds on a call has no deadline at all."""

_bodies = Bodies()


def message_of(value: Any, what: str, **properties: Any) -> Message:
    """
    Return a message with *value* as its body, which is JSON.

    Raises:
        UnserializableValueError: JSON has no such thing; *what* says where it came from.
    """
    try:
        return _bodies.dumps(value, **properties)
    except BodyError as error:
        raise UnserializableValueError(f"{what} cannot be sent: {error}") from error


def payload_of(message: Message) -> Any:
    """
    Return what the body of *message* says.

    Raises:
        MalformedRequest: it is not JSON, says it is something else, or is too long.
    """
    try:
        return _bodies.loads(message)
    except BodyError as error:
        raise MalformedRequest(str(error)) from None


def arguments_of(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """
    Return the arguments of a call.

    Raises:
        MalformedRequest: it is none.
    """
    payload = payload_of(message)
    match payload:
        case {"args": list(args), "kwargs": dict(kwargs)}:
            return args, kwargs
    found = f"{type(payload).__name__} of {len(message.body):,} bytes"  # it may hold secrets
    raise MalformedRequest(f'a call has a body {{"args": [...], "kwargs": {{...}}}}, not {found}')


def result_message(request: Message, result: Any, what: str) -> Message:
    """
    Return the answer to *request* with a result.

    Raises:
        UnserializableValueError: as :func:`message_of`.
    """
    return _answer(request, {"result": result, "error": None}, what)


def error_message(request: Message, error: BaseException, *, stage: str | None = None) -> Message:
    """
    Return the answer to *request* with an error, less of it if not all can be sent.

    Args:
        request: the call.
        error: what it has failed with.
        stage: the stage of a pipeline that it has failed in.
    """
    where = {} if stage is None else {"stage": stage}
    try:
        return _answer(request, {"result": None, "error": serialize(error) | where}, "an error")
    except UnserializableValueError:
        return _answer(request, {"result": None, "error": outlined(error) | where}, "an error")


def _answer(request: Message, value: Any, what: str) -> Message:
    return message_of(value, what, correlation_id=request.correlation_id, persistent=False)


def answer_of(message: Message) -> Any:
    """Return the result that an answer has, or raise its error."""
    match payload_of(message):
        case {"error": None, "result": result}:
            return result
        case {"error": dict(error)}:
            raise deserialize(error)
    raise MalformedRequest(f"an answer that is none: {abridged(message.body)}")


def seconds_of(message: Message) -> float | None:
    """Return how many seconds the call may take that *message* makes; None if it does not say."""
    value = message.headers.get(TIMEOUT)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if value < MOST_SECONDS else None
