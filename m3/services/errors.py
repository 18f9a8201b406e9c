"""
What calls of services raise, and how errors travel from one service to another.

.. code-block:: text

    M3Error
    └── ServiceError
        ├── RemoteError                        a service raised; its own class is known by name only
        ├── BadRequest (ValueError)
        │   ├── MalformedRequest               a message that is no call
        │   ├── MethodNotFound (LookupError)   the service has no such method
        │   └── IncorrectSignature (TypeError) the method does not take these arguments
        ├── UnknownService (LookupError)       nobody has ever listened
        ├── UnserializableValueError (TypeError) a value that cannot be sent
        ├── RpcTimeout (TimeoutError)          no answer by the deadline
        ├── ServiceStopped                     the method has ended its service, and did not return
        ├── ExtensionNotFound (LookupError)    a service has no such entrypoint or dependency
        └── ServiceStateError (RuntimeError)   a container or runner was asked at the wrong time

What an answer says was raised becomes one of these, or a class that was
registered with :func:`deserialize_to_instance`, by a table of names; nothing is
imported, and no class is made, because a message says so.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from m3._messages import abridged, describe
from m3.engine.tracebacks import foreign_traceback
from m3.errors import M3Error

__all__ = (
    "BadRequest",
    "ExtensionNotFound",
    "IncorrectSignature",
    "MalformedRequest",
    "MethodNotFound",
    "RemoteError",
    "RpcTimeout",
    "ServiceError",
    "ServiceStateError",
    "ServiceStopped",
    "UnknownService",
    "UnserializableValueError",
    "deserialize",
    "deserialize_to_instance",
    "outlined",
    "serialize",
)

E = TypeVar("E", bound=type[Exception])


class ServiceError(M3Error):
    """The root of what services and calls of them raise."""


class RemoteError(ServiceError):
    """
    A method of a service has raised; its traceback there is in the notes.

    Attributes:
        exc_type: the name of the class that was raised.
        value: what it said.
        stage: the stage that has raised it, where the service is a pipeline that items
            are submitted to.
    """

    def __init__(self, exc_type: str = "", value: str = "", stage: str | None = None) -> None:
        self.exc_type = exc_type
        self.value = value
        self.stage = stage
        where = "" if stage is None else f" (in stage {stage!r})"
        super().__init__(f"{exc_type} {value}".strip() + where)


class BadRequest(ServiceError, ValueError):
    """A call that no service could have answered."""


class MalformedRequest(BadRequest):
    """A message that is no call: its body is not ``{"args": [...], "kwargs": {...}}`` in JSON."""


class MethodNotFound(BadRequest, LookupError):
    """A service has no method of that name for others to call."""


class IncorrectSignature(BadRequest, TypeError):
    """A method does not take these arguments; it was not called."""


class UnknownService(ServiceError, LookupError):
    """
    Nobody has ever listened for calls of a service of that name.

    The queue of the calls stays when the last instance ends: from then on calls wait in it until
    one is there again, or until their deadline, which is an :exc:`RpcTimeout`.
    """


class UnserializableValueError(ServiceError, TypeError):
    """A value cannot be sent: arguments, a result, a payload or context data that JSON has not."""


class RpcTimeout(ServiceError, TimeoutError):
    """A call was not answered by its deadline; a late answer is discarded."""


class ServiceStopped(ServiceError):
    """A method has ended its service with :exc:`~m3.errors.StopPipeline`; it has no result."""


class ExtensionNotFound(ServiceError, LookupError):
    """A service has no entrypoint, or no dependency, of that name."""


class ServiceStateError(ServiceError, RuntimeError):
    """A container or a runner was asked for something that its state does not allow."""


_table: dict[str, type[Exception]] = {
    f"{cls.__module__}.{cls.__qualname__}": cls
    for cls in (
        BadRequest,
        IncorrectSignature,
        MalformedRequest,
        MethodNotFound,
        RpcTimeout,
        ServiceStopped,
        UnknownService,
        UnserializableValueError,
    )
}


def deserialize_to_instance(cls: E) -> E:
    """
    Let a class of exceptions come back from other services as itself, not as a :exc:`RemoteError`.

    A decorator.  The caller's process needs the class, too: there it is known by its
    module and name, and made from the arguments that it was made from.
    """
    _table[_path(cls)] = cls
    return cls


def serialize(error: BaseException) -> dict[str, Any]:
    """Return what is sent of *error*: its class, its text, its arguments and its traceback."""
    return {
        "exc_type": type(error).__qualname__.rpartition(".")[2],
        "exc_path": _path(type(error)),
        "exc_args": [_plain(argument) for argument in error.args],
        "value": describe(error).partition(": ")[2],
        "traceback": foreign_traceback(error),
    }


def outlined(error: BaseException) -> dict[str, Any]:
    """Return what can be sent of any error: its class, and the beginning of its text in ASCII."""
    text = abridged(describe(error).partition(": ")[2]).encode("ascii", "backslashreplace").decode()
    return {"exc_type": type(error).__name__, "exc_path": _path(type(error)), "value": text}


def deserialize(data: Mapping[str, Any]) -> Exception:
    """Return the exception that an answer tells of, with the remote traceback as its note."""
    name, value = str(data.get("exc_type", "")), str(data.get("value", ""))
    path, arguments = str(data.get("exc_path", "")), data.get("exc_args")
    known = _table.get(path)
    stage = data.get("stage")
    error: Exception = RemoteError(name, value, stage if isinstance(stage, str) else None)
    if known is not None and isinstance(arguments, list):
        error = _made(known, arguments) or error
    if stage and not isinstance(error, RemoteError):
        error.add_note(f"it was raised in stage {str(stage)!r}")
    if trace := data.get("traceback"):
        error.add_note(f"where it was raised, in the service:\n{trace}")
    return error


def _made(cls: type[Exception], arguments: list[Any]) -> Exception | None:
    try:
        return cls(*arguments)
    except Exception:  # of a class that is not made from its ``args``
        return None


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _plain(value: object) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
