"""What a service is, told without running it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from m3.components.annotations import Unresolved
from m3.components.resources import is_component_class
from m3.services.container import ServiceContainer
from m3.services.dependencies import AttributeDependency, ContextDataProvider
from m3.services.entrypoints import DecoratorDependency, signature_of
from m3.services.invoke import needs_of
from m3.services.messages import Publisher
from m3.services.proxies import Service

__all__ = (
    "DependencyDescription",
    "EntrypointDescription",
    "ResourceDescription",
    "ServiceDescription",
    "describe_service",
)

WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
ELSEWHERE = ("AMQP_URI", "bus_options")
"""The keys that say where the bus is."""


@dataclass(frozen=True, slots=True)
class EntrypointDescription:
    """
    What calls a method.

    Attributes:
        kind: what its decorator is called.
        method: the name of the method.
        signature: what the method takes.
        trigger: what calls it, as :meth:`DecoratorDependency.trigger` says.
    """

    kind: str
    method: str
    signature: str
    trigger: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DependencyDescription:
    """
    What a service declares.

    Attributes:
        name: of the attribute.
        kind: its class, as ``module:Class``.
        details: what it is about: ``service``, ``exchange``, ``queue`` or ``key``.
    """

    name: str
    kind: str
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResourceDescription:
    """
    What a service names by annotation.

    Attributes:
        name: of the attribute.
        kind: the class that it names, as ``module:Class``.
        is_optional: whether it may be None.
    """

    name: str
    kind: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """
    What a service is.

    Attributes:
        name: what it is called by.
        service_cls: its class, as ``module:Class``.
        max_workers: how many of its calls run at once.
        entrypoints: what calls its methods.
        dependencies: what it declares.
        resources: what it names by annotation.
    """

    name: str
    service_cls: str
    max_workers: int
    entrypoints: tuple[EntrypointDescription, ...]
    dependencies: tuple[DependencyDescription, ...]
    resources: tuple[ResourceDescription, ...]


def describe_service(
    service_cls: type, config: Mapping[str, Any] | None = None
) -> ServiceDescription:
    """
    Describe a service; nothing is started or connected.

    Args:
        service_cls: its class.
        config: as of :class:`ServiceContainer`.

    Raises:
        ConfigError: as :class:`ServiceContainer`.
    """
    given = {key: value for key, value in (config or {}).items() if key not in ELSEWHERE}
    container = ServiceContainer(service_cls, given)
    return ServiceDescription(
        container.service_name,
        _path(service_cls),
        container.max_workers,
        tuple(_entrypoint(each) for each in container.entrypoints),
        tuple(
            DependencyDescription(name, _path(type(dependency)), _details(dependency))
            for name, dependency in container.dependencies.items()
        ),
        tuple(_resources(service_cls)),
    )


def _entrypoint(entrypoint: DecoratorDependency) -> EntrypointDescription:
    kind = WORD.sub("_", type(entrypoint).__name__).lower()
    return EntrypointDescription(
        kind, entrypoint.method_name, str(signature_of(entrypoint)), dict(entrypoint.trigger())
    )


def _details(dependency: AttributeDependency) -> dict[str, str]:
    if isinstance(dependency, Service):
        return {"service": dependency.target_service}
    if isinstance(dependency, ContextDataProvider):
        return {"key": str(dependency.context_key)}
    if isinstance(dependency, Publisher):
        places = {"exchange": dependency.exchange, "queue": dependency.queue}
        return {kind: place.name for kind, place in places.items() if place is not None}
    return {}


def _resources(service_cls: type) -> Iterator[ResourceDescription]:
    for want in needs_of(service_cls):
        for kind in want.types:
            if is_component_class(kind):
                yield ResourceDescription(want.attribute, _path(kind), want.optional)
            elif isinstance(kind, Unresolved):
                yield ResourceDescription(want.attribute, kind.text, want.optional)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
