"""The pipeline behind the entrypoints of a service: a method is called, and its result settled."""

import time
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, NamedTuple, Union
from weakref import WeakKeyDictionary

from m3._types import DROP
from m3.components.annotations import Unresolved, Want, wants
from m3.errors import ConfigError, RetryLater, StopPipeline
from m3.services.context import ServiceContext, WorkerContext
from m3.services.dependencies import AttributeDependency
from m3.stages import Backend, Transport

__all__ = ("AtHand", "Invoke", "Settle", "Stage", "needs_of", "stage_for")

_classes: "WeakKeyDictionary[type, tuple[Mapping[str, Any], type[Invoke], dict[str, type]]]" = (
    WeakKeyDictionary()
)
"""What was made for a service: free-threaded Python 3.13 keeps parts of each class for ever."""

RESERVED = frozenset({"cleanup", "setup", "transport"})


class AtHand:
    """
    What a worker does just now.

    Attributes:
        call: the call that it makes, and when that has begun, on the monotonic clock; or None.
    """

    def __init__(self) -> None:
        self.call: tuple[WorkerContext, float] | None = None


class Invoke(Transport[WorkerContext, WorkerContext]):
    """
    Calls the method, on a new instance of the service, with what the service declares.

    Made from a subclass for each service, whose annotations are what the service
    asks for: see :func:`stage_for`.

    Args:
        srv_ctx: the service.
        dependencies: what it declares, by attribute.
        resources: the attributes that it names by annotation.
    """

    def __init__(
        self,
        srv_ctx: ServiceContext,
        dependencies: Mapping[str, AttributeDependency],
        resources: tuple[str, ...],
    ) -> None:
        self._container = srv_ctx.container
        self._at_hand = AtHand()
        self._service_cls = srv_ctx.service_cls
        self._dependencies = tuple(dependencies.items())
        self._names = resources
        self._resources: dict[str, Any] = {}

    def setup(self) -> None:
        """Take what the engine has injected."""
        self._resources = {name: vars(self)[name] for name in self._names if name in vars(self)}
        self._container.worker_began(self._at_hand)

    def cleanup(self) -> None:
        """Make no more calls."""
        self._container.worker_ended(self._at_hand)

    def transport(self, data: WorkerContext) -> Any:
        """Return the call, with its result; dropped if its caller has given it up."""
        call, now = data, time.monotonic()
        if call.deadline is not None and now > call.deadline:
            return DROP
        self._at_hand.call = call, now
        call.exception = None  # of an attempt before
        try:
            self._make(call)
        except RetryLater as error:
            call.entrypoint.put_off(call, error)
            raise
        except StopPipeline:
            call.entrypoint.handle_stop(call)
            raise
        finally:
            self._at_hand.call = None
        return call

    def _make(self, call: WorkerContext) -> None:
        service = self._service_cls()
        for name, resource in self._resources.items():
            setattr(service, name, resource)
        acquired: list[AttributeDependency] = []
        try:
            for name, dependency in self._dependencies:
                setattr(service, name, dependency.acquire_injection(call))
                acquired.append(dependency)
            call.result = getattr(service, call.method_name)(*call.args, **call.kwargs)
        except BaseException as error:
            call.exception = error
            raise
        finally:
            if acquired:
                _release(acquired, call)


def _release(acquired: list[AttributeDependency], call: WorkerContext) -> None:
    """Release all, the last first, whatever some of them raise."""
    dependency = acquired.pop()
    try:
        dependency.release_injection(call)
    except BaseException as error:
        call.exception = call.exception or error
        raise
    finally:
        if acquired:
            _release(acquired, call)


class Settle(Backend[WorkerContext]):
    """Has the entrypoint of each call do what is to be done with the result."""

    def process(self, data: WorkerContext) -> None:
        """Hand the result over; then the call is delivered, and its entrypoint told so."""
        try:
            data.entrypoint.handle_result(data)
        except BaseException as error:
            data.exception = error
            raise
        data.srv_ctx.container.call_ended(data)


class Stage(NamedTuple):
    """
    What a plan needs to have the methods of a service called.

    Attributes:
        target: the class of the stage.
        options: what it is made with.
        resources: its dependencies, as resources of the plan.
    """

    target: type[Invoke]
    options: dict[str, Any]
    resources: dict[type | str, Any]


def stage_for(srv_ctx: ServiceContext, dependencies: Mapping[str, AttributeDependency]) -> Stage:
    """
    Return the stage that calls the methods of a service.

    The engine looks at the annotations of a stage to know what to set up for it, so the
    stage has those of the service.  For each dependency there is a class that stands for
    that one alone: its name would be heard by all that ask for something of that name.

    Raises:
        ConfigError: an attribute has the name of one of the stage's own methods.
    """
    service_cls = srv_ctx.service_cls
    needs = {want.attribute: _annotation(want) for want in needs_of(service_cls)}
    taken = RESERVED & {*needs, *dependencies}
    if taken:
        raise ConfigError(
            f"{service_cls.__qualname__}.{min(taken)}: what a service needs cannot be called "
            "'setup', 'cleanup' or 'transport'; give it another name"
        )
    stage, stand_ins = _classes_for(service_cls, needs, dependencies)
    return Stage(
        stage,
        {"srv_ctx": srv_ctx, "dependencies": dependencies, "resources": tuple(needs)},
        {stand_ins[name]: dependency for name, dependency in dependencies.items()},
    )


def _classes_for(
    service_cls: type, needs: Mapping[str, Any], names: Iterable[str]
) -> tuple[type[Invoke], dict[str, type]]:
    """Return the stage's class, and those that stand for dependencies: the same as last time."""
    known = _classes.get(service_cls)
    if known is None or known[0] != needs or [*known[2]] != [*names]:
        stand_ins = {name: type(name, (), {}) for name in names}
        body = {"__annotations__": {**needs, **stand_ins}, "__module__": service_cls.__module__}
        stage = type(service_cls.__qualname__, (Invoke,), body)
        known = _classes[service_cls] = needs, stage, stand_ins
    return known[1], known[2]


def needs_of(service_cls: type) -> Iterator[Want]:
    """Iterate over what a service names by annotation and does not have itself."""
    for want in wants(service_cls).values():
        if not hasattr(service_cls, want.attribute):
            yield want


def _annotation(want: Want) -> Any:
    """Return an annotation that says what *want* does."""
    unresolved = [kind for kind in want.types if isinstance(kind, Unresolved)]
    if unresolved:
        return unresolved[0]
    kinds = (*want.types, NoneType) if want.optional else want.types
    return Union[kinds]  # noqa: UP007  # of a tuple
