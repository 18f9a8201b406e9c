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
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NoReturn, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from m3.errors import NotPlainError, abridged

__all__ = ("dumps", "loads")

DEPTH = 100
"""The most values inside one another, so that what is written can be read with any stack."""

LARGE = 1024
"""From so many bits on integers are written in base 16: Python limits their decimal digits."""

FOREIGN = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError)
"""What the types raise, beside ValueError, for what they were not written as."""

Moment = TypeVar("Moment", datetime, time)

_ENCODE = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_WITHIN_PAIR = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def dumps(value: Any) -> str:
    """
    Return *value* as one line of ASCII.

    A named tuple comes back as a tuple, and a fixed offset from UTC without its
    name; for all else the same is read back.

    Raises:
        NotPlainError: there is something in it that is not plain, or more than
            100 values inside one another.
    """
    try:
        return _ENCODE(_lowered(value, DEPTH))
    except RecursionError as error:
        raise _too_deep() from error


def loads(text: str) -> Any:
    """
    Return what :func:`dumps` has written.

    Raises:
        ValueError: *text* is nothing that it writes.
    """
    try:
        return _raised(json.loads(text, parse_constant=_refuse))
    except FOREIGN as error:
        raise ValueError(f"no kept value: {abridged(text)}") from error


def _lowered(value: Any, room: int) -> Any:
    """Return *value* in what JSON has; *room* is how much deeper it may go."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value if _is_simple(value) else {"$str": _WITHIN_PAIR.split(value)}
    if kind is int:
        return value if value.bit_length() < LARGE else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in _WRITERS:
        tag, write = _WRITERS[kind]
        return {tag: write(value)}
    if room == 0:
        raise _too_deep()
    if kind is list:
        return [_lowered(inner, room - 1) for inner in value]
    if kind is dict:
        return _lowered_mapping(value, room - 1)
    if isinstance(value, tuple):
        return {"$tuple": [_lowered(inner, room - 1) for inner in value]}
    raise NotPlainError(f"a {kind.__qualname__} cannot be kept as plain data: {abridged(value)}")


def _lowered_mapping(mapping: dict[Any, Any], room: int) -> dict[str, Any]:
    if all(type(key) is str and _is_simple(key) for key in mapping) and not (
        len(mapping) == 1 and next(iter(mapping)).startswith("$")
    ):
        return {key: _lowered(inner, room) for key, inner in mapping.items()}
    pairs = [[_lowered(key, room), _lowered(inner, room)] for key, inner in mapping.items()]
    return {"$dict": pairs}


def _is_simple(text: str) -> bool:
    """Tell whether JSON gives *text* back: not if two halves of a character stand side by side."""
    return text.isascii() or not _WITHIN_PAIR.search(text)


def _lowered_moment(moment: datetime | time) -> Any:
    """Return a time as text, and what text cannot say: which of two equal times, and its zone."""
    zone = _lowered_zone(moment.tzinfo)
    if zone is not None:
        moment = moment.replace(tzinfo=None)
    text = moment.isoformat()
    return text if zone is None and not moment.fold else [text, moment.fold, zone]


def _lowered_zone(zone: tzinfo | None) -> str | int | None:
    """Return the name of a zone, or an offset in microseconds; None if ISO 8601 has it."""
    if type(zone) is ZoneInfo and zone.key:
        return zone.key
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        return offset // timedelta(microseconds=1) if offset % timedelta(minutes=1) else None
    if zone is not None:
        raise NotPlainError(
            f"a time in the zone {abridged(zone)} cannot be kept; use UTC, or one of zoneinfo"
        )
    return None


def _raised_moment(kind: type[Moment], inner: Any) -> Moment:
    if type(inner) is not list:
        return kind.fromisoformat(inner)
    text, fold, zone = inner
    moment = kind.fromisoformat(text).replace(fold=fold)
    if zone is None:
        return moment
    known = ZoneInfo(zone) if type(zone) is str else timezone(timedelta(microseconds=zone))
    return moment.replace(tzinfo=known)


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


def _too_deep() -> NotPlainError:
    return NotPlainError(
        f"more than {DEPTH} values inside one another, or a value inside itself, cannot be kept"
    )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not written like that")


_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytearray", lambda value: base64.b64encode(value).decode()),
    datetime: ("$datetime", _lowered_moment),
    date: ("$date", date.isoformat),
    time: ("$time", _lowered_moment),
    timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("$decimal", str),
    UUID: ("$uuid", str),
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "$str": "".join,
    "$int": lambda inner: int(inner, 16),
    "$float": float,
    "$tuple": lambda inner: tuple(_raised(each) for each in inner),
    "$dict": lambda inner: {_raised(key): _raised(each) for key, each in inner},
    "$bytes": lambda inner: base64.b64decode(inner, validate=True),
    "$bytearray": lambda inner: bytearray(base64.b64decode(inner, validate=True)),
    "$datetime": lambda inner: _raised_moment(datetime, inner),
    "$date": date.fromisoformat,
    "$time": lambda inner: _raised_moment(time, inner),
    "$timedelta": lambda inner: timedelta(*inner),
    "$decimal": Decimal,
    "$uuid": UUID,
}
