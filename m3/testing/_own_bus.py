"""A bus for one test, whatever kind it is: none of another test's messages are on it."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from m3._shown import safe
from m3.errors import ConfigError
from m3.messaging import Exchange, Queue, connect

__all__ = ("own_bus", "own_url")

STOP_TIMEOUT = 10.0
"""Seconds that a service may take to stop at the end of a test."""

MANY_WORKERS = "PYTEST_XDIST_WORKER_COUNT"
WORKER = "PYTEST_XDIST_WORKER"


def own_url(chosen: str, folder: Callable[[], Path]) -> str:
    """
    Return the URL of a bus for one test.

    Args:
        chosen: of which kind: ``memory://``, ``sqlite://``, or a URL of RabbitMQ, in which
            ``{worker}`` stands for the worker of pytest-xdist.
        folder: makes an empty folder, for a file.

    Raises:
        ConfigError: *chosen* is none of these, or several workers would share it.
    """
    if chosen == "memory://":
        return f"memory://test-{uuid.uuid4().hex}"
    if chosen == "sqlite://":
        return f"sqlite:///{folder() / 'bus.db'}"
    if not chosen.startswith(("amqp://", "amqps://")):
        raise ConfigError(
            f"m3_bus={safe(chosen)!r}: it is memory://, sqlite:// (each test has a file of its "
            "own), or amqp://host/vhost"
        )
    if "{worker}" not in chosen and int(os.environ.get(MANY_WORKERS, "1")) > 1:
        raise ConfigError(
            f"m3_bus={safe(chosen)!r}: the workers of pytest-xdist would take each other's "
            "messages; write {worker} in the name of the vhost, which is gw0, gw1 and so on"
        )
    return chosen.replace("{worker}", os.environ.get(WORKER, "gw0"))


@contextmanager
def own_bus(url: str) -> Iterator[dict[str, Any]]:
    """
    Yield a configuration of services for one test; nothing of theirs is on the bus after it.

    A bus in memory is gone with its last user, one in a file with the file. From RabbitMQ
    is deleted what was declared with this configuration.

    Raises:
        ConfigError: the virtual host is the one that everybody uses.
    """
    config: dict[str, Any] = {"AMQP_URI": url, "stop_timeout": STOP_TIMEOUT}
    if not url.startswith(("amqp://", "amqps://")):
        yield config
        return
    if any(_is_everybodys(broker) for broker in url.split(";")):
        raise ConfigError(
            f"{safe(url)!r}: tests delete what they have declared, also what was there before, "
            "so they need a vhost of their own: rabbitmqctl add_vhost tests"
        )
    declared: dict[tuple[type, str], Exchange | Queue] = {}

    def note(entity: Exchange | Queue) -> None:
        declared[type(entity), entity.name] = entity

    try:
        yield {**config, "bus_options": {"on_declare": note}}
    finally:
        with connect(url) as bus:
            bus.delete(*(entity for entity in declared.values() if _is_left(entity)))


def _is_everybodys(url: str) -> bool:
    return unquote(urlsplit(url.strip()).path) in ("", "/", "//")


def _is_left(entity: Exchange | Queue) -> bool:
    """Return whether *entity* may outlive its connection, and can be deleted."""
    is_exclusive = isinstance(entity, Queue) and entity.exclusive
    return not (is_exclusive or entity.name.startswith("amq."))
