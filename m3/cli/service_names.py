"""From what names services on the command line to their classes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from m3._messages import closest, did_you_mean
from m3.errors import ConfigError, UnknownNameError, abridged
from m3.registry import import_module, load
from m3.services.entrypoints import entrypoints_of

__all__ = ("services_named",)


def services_named(names: Iterable[str], settings: Mapping[str, Any]) -> Iterator[type]:
    """
    Yield the classes of services.

    Args:
        names: ``module:Class``, or ``module`` for all its services; none for the list
            ``services`` of the settings.
        settings: the configuration.

    Raises:
        ConfigError: none is named, there is no such class or module, or it has no entrypoint.
    """
    listed = settings.get("services", ())
    listed = [listed] if isinstance(listed, str) else listed
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise ConfigError(f"services is {abridged(listed)}; it is a list of MODULE:CLASS")
    chosen = [*names] or [*listed]
    if not chosen:
        raise ConfigError(
            "no service is named; name MODULE:CLASS, or have a list of them, services, in --config"
        )
    for name in chosen:
        yield from _services_of(name)


def _services_of(name: str) -> Iterator[type]:
    if ":" in name:
        found = load(name)
        if not isinstance(found, type):
            raise ConfigError(f"{name!r} is no class, so it is no service")
        if not any(entrypoints_of(found)):
            raise ConfigError(
                f"{name} has no entrypoint: decorate a method, for example with @rpc, for "
                "nothing would ever call it"
            )
        yield found
        return
    module = import_module(name)
    services = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == name and any(entrypoints_of(value))
    ]
    if not services:
        near = closest(name.rpartition(".")[2], vars(module))
        raise UnknownNameError(
            f"the module {name!r} has no class with entrypoints{did_you_mean(near)}",
            name=name,
            near=tuple(near),
        )
    yield from services
