"""
The systems that talk over RabbitMQ, one module each.

A module has ``serve(tag, handled)``, which begins to answer calls and to handle
events in threads of this process; ``readline()``, which reads from stdin beside
that; and ``calling(tag)``, ``dispatching(tag)`` and
``publishing(tag)``, which connect for a ``with`` block and give a function: one
that makes a call with a value and returns the answer, one that dispatches an
event with a value, one that publishes a value to the queue ``plain-TAG``, which
nobody consumes.  Nothing on the broker has a name without *tag*; ``left(tag)``
tells which queues and exchanges outlive all this.
"""

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

__all__ = ("PEERS", "URL", "Peer", "load", "plain", "sweep")

PEERS = {
    "amqp_loop": "a loop of py-amqp",
    "nameko_service": "nameko",
    "m3_service": "m3",
}
"""Every system: the name of its module here, and what to call it in a table."""

URL = os.environ.get("M3_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
"""Where RabbitMQ is."""

Use = AbstractContextManager[Callable[[Any], Any]]


class Peer(Protocol):
    """What a module of this package has."""

    def serve(self, tag: str, handled: Callable[[], object]) -> object:
        """Begin to serve, and call *handled* for each event; what is returned is to be kept."""

    def readline(self) -> str:
        """Return the next line of stdin, while the service goes on."""

    def calling(self, tag: str) -> Use:
        """Give what makes a call."""

    def dispatching(self, tag: str) -> Use:
        """Give what dispatches an event."""

    def publishing(self, tag: str) -> Use:
        """Give what publishes to a queue."""

    def left(self, tag: str) -> tuple[list[str], list[str]]:
        """Return the queues, and the exchanges, that are to be deleted."""


def load(name: str) -> Peer:
    """Return the module of the system called *name*, which imports the system."""
    return cast(Peer, importlib.import_module(f"benchmarks.peers.{name}"))


def plain(tag: str) -> str:
    """Return the name of the queue that nobody consumes."""
    return f"plain-{tag}"


def sweep(peer: Peer, tag: str) -> None:
    """Delete what a system has left on the broker."""
    kombu = importlib.import_module("kombu")
    queues, exchanges = peer.left(tag)
    with kombu.Connection(URL) as connection:
        channel = connection.channel()
        for queue in (*queues, plain(tag)):
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)
