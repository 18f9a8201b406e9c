"""
Plain values written as JSON and read back as the same values.

What JSON has not is an object with one key that begins with ``$``: bytes,
tuples, dates and times, decimals, UUIDs, infinities, and dictionaries whose
keys are no strings.  Everything else is refused, for nothing that is read back
may run code (as pickles do), and nothing may come back as something else.
"""

import base64
import json
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from m3.errors import NotPlainError, abridged

__all__ = ("dumps", "loads")

_ENCODE = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """
    Return *value* as one line of ASCII.

    A named tuple comes back as a tuple; for all else the same is read back.

    Raises:
        NotPlainError: there is something in it that is not plain.
    """
    try:
        return _ENCODE(_lowered(value))
    except RecursionError as error:
        raise NotPlainError("a value that is nested too deep cannot be kept") from error


def loads(text: str) -> Any:
    """
    Return what :func:`dumps` has written.

    Raises:
        ValueError: *text* is nothing that it writes.
    """
    try:
        return _raised(json.loads(text))
    except (TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"no kept value: {abridged(text)}") from error


def _lowered(value: Any) -> Any:
    """Return *value* in what JSON has."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [_lowered(inner) for inner in value]
    if kind is dict:
        return _lowered_mapping(value)
    if isinstance(value, tuple):
        return {"$tuple": [_lowered(inner) for inner in value]}
    if kind in _WRITERS:
        tag, write = _WRITERS[kind]
        return {tag: write(value)}
    raise NotPlainError(f"a {kind.__qualname__} cannot be kept as plain data: {abridged(value)}")


def _lowered_mapping(mapping: dict[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str for key in mapping) and not (
        len(mapping) == 1 and next(iter(mapping)).startswith("$")
    ):
        return {key: _lowered(inner) for key, inner in mapping.items()}
    return {"$dict": [[_lowered(key), _lowered(inner)] for key, inner in mapping.items()]}


def _raised(value: Any) -> Any:
    """Return what :func:`_lowered` was given."""
    if type(value) is list:
        return [_raised(inner) for inner in value]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag in _READERS:
            return _READERS[tag](inner)
        if tag.startswith("$"):
            raise ValueError(f"{tag} stands for no kind of value")
    return {key: _raised(inner) for key, inner in value.items()}


_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytearray", lambda value: base64.b64encode(value).decode()),
    datetime: ("$datetime", datetime.isoformat),
    date: ("$date", date.isoformat),
    time: ("$time", time.isoformat),
    timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("$decimal", str),
    UUID: ("$uuid", str),
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$tuple": lambda inner: tuple(_raised(each) for each in inner),
    "$dict": lambda inner: {_raised(key): _raised(each) for key, each in inner},
    "$bytes": lambda inner: base64.b64decode(inner, validate=True),
    "$bytearray": lambda inner: bytearray(base64.b64decode(inner, validate=True)),
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda inner: timedelta(*inner),
    "$decimal": Decimal,
    "$uuid": UUID,
}
