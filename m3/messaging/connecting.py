"""From a URL to the bus that it names."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

from m3._messages import closest, did_you_mean
from m3._shown import safe
from m3.errors import UnknownNameError
from m3.messaging.bus import Bus

__all__ = ("BUSES", "connect")

BUSES: Mapping[str, str] = {
    "amqp": "m3.messaging.amqp:AmqpBus",
    "amqps": "m3.messaging.amqp:AmqpBus",
    "memory": "m3.messaging.memory:MemoryBus",
    "sqlite": "m3.messaging.sqlite:SqliteBus",
}
"""Which bus the scheme of a URL means."""


def connect(url: str, **options: Any) -> Bus:
    """
    Return the bus that *url* names; it is connected by its ``setup``, or a ``with`` block.

    =====================  ====================================================
    ``memory://name``      within the process; the same name is the same bus
    ``sqlite:///path``     for the processes of one machine, in a file
    ``amqp://host/vhost``  RabbitMQ; several URLs, with ``;`` between them, are
                           tried in turn
    =====================  ====================================================

    Args:
        url: as in the table.
        options: arguments of the bus's class.

    Raises:
        ConfigError: the URL, or an option, is not one of these.
        MissingExtraError: the bus needs a library that is not installed.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in BUSES:
        near = closest(scheme, BUSES)
        raise UnknownNameError(
            f"{safe(url)!r} names no bus{did_you_mean(near)}; it begins with one of "
            + ", ".join(f"{known}://" for known in BUSES),
            name=scheme,
            near=tuple(near),
        )
    module, _, name = BUSES[scheme].partition(":")
    bus_cls = getattr(import_module(module), name)
    check_options(f"{scheme}://", bus_cls, options)
    bus: Bus = bus_cls.from_url(url, **options)
    return bus


def check_options(bus: str, bus_cls: type, options: Iterable[str]) -> None:
    """Raise :exc:`~m3.errors.ConfigError` if one of *options* is none of the bus's class."""
    parameters = signature(bus_cls).parameters.values()
    known = [each.name for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            near = closest(option, known)
            raise UnknownNameError(
                f"{bus} has no option {option!r}{did_you_mean(near)}; "
                f"it has {', '.join(known) or 'none'}",
                name=option,
                near=tuple(near),
            )
