"""Messages as AMQP writes them."""

import os
import threading
from collections.abc import Mapping
from itertools import count
from secrets import token_hex
from types import MappingProxyType
from typing import Any

import amqp

from m3._wire import Received
from m3.errors import BodyError
from m3.messaging._amqp.contents import Content
from m3.messaging.entities import Message

__all__ = ("ATTEMPTS", "DELAYED", "attempts_of", "opened", "sealed", "without_delays")

ATTEMPTS = "x-m3-attempts"
"""The header of a message that was put off: how often it was delivered before."""

DELAYED = "m3.delayed."
"""How the names of the queues begin in which messages wait until they are delivered again."""

TRACES = {ATTEMPTS, "x-death", "x-delivery-count", "x-first-death-queue", "x-last-death-queue"}
"""The headers of which a message has some that was put off, or has died."""

MOST_ATTEMPTS = 2**31
"""From how many attempts on they were not counted by anybody."""

OWN_ID = "m3-"
"""How the id of a message begins that has none of its own."""


class Ids(threading.local):
    """The ids of messages that have none: a random part for each thread, and a number."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin anew: in a child, there is the thread again that has forked."""
        self._prefix = OWN_ID + token_hex(8)
        self._numbers = count()

    def next(self) -> str:
        """Return one that no other message has, of this process or another one."""
        return f"{self._prefix}-{next(self._numbers)}"


ids = Ids()
os.register_at_fork(after_in_child=ids.begin)


def sealed(message: Message, more: Mapping[str, Any] = MappingProxyType({})) -> amqp.Message:
    """Return *message* as it is sent, with *more* headers."""
    properties = {
        "content_type": message.content_type,
        "application_headers": {**message.headers, **more},
        "delivery_mode": 2 if message.persistent else 1,
        "message_id": message.message_id or ids.next(),
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "priority": message.priority,
        "timestamp": None if message.timestamp is None else int(message.timestamp),
        "expiration": None if message.expiration is None else milliseconds(message.expiration),
    }
    given = {name: value for name, value in properties.items() if value is not None}
    return amqp.Message(message.body, **given)


def opened(raw: Content | Received) -> Message:
    """
    Return what was received as a message; its body is left as it came.

    Raises:
        BodyError: it is too long, or cannot be read.
    """
    if raw.fault is not None:
        raise BodyError(raw.fault)
    properties = raw.properties
    message_id = properties.get("message_id")
    expiration = properties.get("expiration")
    body = raw.body
    return Message(
        body=body.encode() if isinstance(body, str) else bytes(body),
        headers=properties.get("application_headers") or {},
        content_type=properties.get("content_type") or "application/octet-stream",
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to"),
        expiration=None if expiration is None else int(expiration) / 1000,
        message_id=None if message_id is None or message_id.startswith(OWN_ID) else message_id,
        priority=properties.get("priority"),
        timestamp=properties.get("timestamp"),
        persistent=properties.get("delivery_mode") == 2,
    )


def attempts_of(headers: Mapping[str, Any], *, redelivered: bool) -> int:
    """
    Return how often a message was delivered, this time included, as far as it says so itself.

    A quorum queue counts.  A classic queue knows only whether it was delivered before.
    """
    since_put_off = headers.get("x-delivery-count", int(redelivered))
    return _count(headers.get(ATTEMPTS)) + _count(since_put_off) + 1


def without_delays(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return *headers* without those that having waited in a queue for it has left there."""
    if TRACES.isdisjoint(headers):
        return dict(headers)
    first = "x-first-death-" if _is_delay(headers.get("x-first-death-queue")) else None
    last = "x-last-death-" if _is_delay(headers.get("x-last-death-queue")) else None
    marks = tuple(mark for mark in (first, last, ATTEMPTS, "x-delivery-count") if mark)
    kept = {name: value for name, value in headers.items() if not name.startswith(marks)}
    deaths = kept.pop("x-death", None)
    if not isinstance(deaths, list):
        return kept
    others = [death for death in deaths if not _is_delay_of(death)]
    return {**kept, "x-death": others} if others else kept


def milliseconds(seconds: float) -> str:
    """Return a time as AMQP writes it."""
    return str(max(0, round(seconds * 1000)))


def _is_delay(queue: object) -> bool:
    return isinstance(queue, str) and queue.startswith(DELAYED)


def _is_delay_of(death: object) -> bool:
    return isinstance(death, dict) and _is_delay(death.get("queue"))


def _count(value: object) -> int:
    """Return what a header counts; anybody can write something else there."""
    return value if isinstance(value, int) and 0 < value < MOST_ATTEMPTS else 0
