"""
The context of a call: what travels with all that it calls and dispatches, checked and copied.

It is plain on every bus, so that a service that was tested in memory runs on RabbitMQ, and a
callee cannot change what its caller has.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from m3.errors import abridged
from m3.messaging import Message
from m3.services.errors import UnserializableValueError

__all__ = ("CALL_IDS", "PREFIX", "context_of", "headers_of")

PREFIX = "m3."
"""What the headers of m3 begin with; all others are left alone."""

CALL_IDS = "call_id_stack"
"""The key, in the context of a call, of the ids of the calls that it came from."""

USUAL = {key: PREFIX + key for key in ("auth_token", "language", "user_agent", "user_id")}
"""The headers of what a context usually has, by its keys."""

SHORT = 1000
"""How many characters such a value has at most to be sent without a look at it."""

CALL_IDS_HEADER = PREFIX + CALL_IDS
TEXTS = {str}
LARGEST_CONTEXT = 64 * 1024
"""How many bytes of context travel with a call."""

LARGEST_INTEGER = 2**63
LONGEST_KEY = 250
DEEPEST = 50
"""How many values of a context are inside one another."""

OVERHEAD = 10
"""How many bytes AMQP needs for a value, beside its text."""


def context_of(message: Message) -> dict[str, Any]:
    """
    Return the context of the call that *message* makes, from its headers, copied.

    What could not be sent on, which others may have sent, is left out.
    """
    context: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for header, value in message.headers.items():
        if header.startswith(PREFIX):
            key = header[len(PREFIX) :]
            if _is_usual(key, value):
                context[key] = value
            elif key != CALL_IDS:
                others[key] = value
            elif _are_ids(value):
                context[key] = value[:]
    if others:
        copier = _Copier()
        for key, value in others.items():
            with suppress(_UnplainError):
                context[key] = copier.copy(value)
    return context


def headers_of(context: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the headers that carry *context*, copied; what is None is left out.

    Raises:
        UnserializableValueError: there is something in it that not every bus can carry.
    """
    headers: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in context.items():
        if _is_usual(key, value):
            headers[USUAL[key]] = value
        elif key == CALL_IDS and _are_ids(value):  # m3's own, which take no room
            headers[CALL_IDS_HEADER] = value[:]
        elif value is not None:
            others[key] = value
    if others:
        copier = _Copier()
        for key, value in others.items():
            try:
                headers[PREFIX + copier.key(key)] = copier.copy(value)
            except _UnplainError as error:
                raise UnserializableValueError(
                    f"the context data {abridged(key)} cannot be sent: there is {error} in it; it "
                    "may have None, bools, numbers, text, lists, and dictionaries with text as keys"
                ) from None
    return headers


def _is_usual(key: Any, value: Any) -> bool:
    """Return whether a value is one of those that need no look: they are texts, and short."""
    return type(value) is str and key in USUAL and len(value) < SHORT and value.isascii()


def _are_ids(value: Any) -> bool:
    return type(value) is list and {*map(type, value)} <= TEXTS


class _UnplainError(Exception):
    """What there is in a context that cannot be sent."""


class _Copier:
    """
    Copies plain values; what is none is an :exc:`_UnplainError`.

    A bus may take a frame of 128 KiB for all headers of a message, so this counts how much room
    they take in AMQP at most.
    """

    __slots__ = ("_room",)

    def __init__(self) -> None:
        self._room = LARGEST_CONTEXT

    def key(self, value: Any) -> str:
        """Return the key of a value."""
        if not isinstance(value, str):
            raise _UnplainError(f"a key that is {type(value).__name__}")
        if len(key := self._text(value)) > LONGEST_KEY // 4 and len(key.encode()) > LONGEST_KEY:
            raise _UnplainError(f"a key of {len(key.encode())} bytes")
        return key

    def _text(self, value: str) -> str:
        try:
            self._take(len(value) if value.isascii() else len(value.encode()))
        except UnicodeEncodeError:
            raise _UnplainError("text that is no Unicode") from None
        return str.__str__(value)

    def copy(self, value: Any, deeper: int = DEEPEST) -> Any:
        """Return a copy of a value."""
        if isinstance(value, str):
            return self._text(value)
        self._take(0)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return _number(value)
        if not isinstance(value, (list, tuple, dict)):
            raise _UnplainError(f"an object of the type {type(value).__name__}")
        if not deeper:
            raise _UnplainError(f"more than {DEEPEST} values inside one another")
        if isinstance(value, dict):
            return {self.key(k): self.copy(each, deeper - 1) for k, each in value.items()}
        return [self.copy(each, deeper - 1) for each in value]

    def _take(self, size: int) -> None:
        self._room -= size + OVERHEAD
        if self._room < 0:
            raise _UnplainError(f"more than the {LARGEST_CONTEXT:,} bytes that travel with a call")


def _number(value: float) -> float:
    """Return a number as one of Python's own."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _UnplainError(f"{value}, which is no number")
        return float(value)
    if not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
        raise _UnplainError("an integer of more than 64 bits")
    return int(value)
