"""What users need to test their services: alone, or in a container with parts replaced."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import MagicMock

from m3._parking import Switch
from m3.services.container import ServiceContainer
from m3.services.context import WorkerContext
from m3.services.dependencies import AttributeDependency, dependencies_of
from m3.services.errors import ExtensionNotFound, RpcTimeout
from m3.services.extensions import Entrypoint
from m3.services.invoke import needs_of
from m3.services.runner import ServiceRunner

__all__ = (
    "MockDependency",
    "WaitResult",
    "dummy",
    "entrypoint_hook",
    "entrypoint_waiter",
    "get_container",
    "get_extension",
    "replace_dependencies",
    "restrict_entrypoints",
    "worker_factory",
)

E = TypeVar("E")
S = TypeVar("S")


class Dummy(Entrypoint):
    """An entrypoint that calls nothing: ``@dummy`` is for methods that only tests call."""


dummy = Dummy.decorator


class MockDependency(AttributeDependency):
    """
    Stands for a dependency, and gives the same object to each call.

    Args:
        dependency: the object; None for a mock.
    """

    def __init__(self, dependency: Any = None) -> None:
        self.dependency = MagicMock() if dependency is None else dependency

    def acquire_injection(self, _: WorkerContext) -> Any:
        """Return the object."""
        return self.dependency


def worker_factory(service_cls: type[S], **dependencies: Any) -> S:
    """
    Return an instance of a service, to call its methods without a container.

    Args:
        service_cls: the class.
        dependencies: what its attributes are, by name; those that are not named are mocks.

    Raises:
        ExtensionNotFound: it declares no dependency of such a name.
    """
    asked_for = (want.attribute for want in needs_of(service_cls))
    declared = [*dict(dependencies_of(service_cls)), *asked_for]
    for name in dependencies:
        if name not in declared:
            raise ExtensionNotFound(
                f"{service_cls.__qualname__} declares no dependency {name!r}; "
                f"it has {', '.join(declared) or 'none'}"
            )
    service = service_cls()
    for name in declared:
        setattr(service, name, dependencies[name] if name in dependencies else MagicMock())
    return service


@contextmanager
def entrypoint_hook(
    container: ServiceContainer,
    method_name: str,
    context_data: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
) -> Iterator[Callable[..., Any]]:
    """
    Yield a function that has a running service call a method, and returns what that does.

    The call takes the way of every other: a worker, dependencies, observers.

    Args:
        container: runs the service.
        method_name: of a method with an entrypoint.
        context_data: what travels with the call.
        timeout: seconds that a call may take.

    Raises:
        ExtensionNotFound: the method has none.
    """
    entrypoint = container.entrypoint(method_name)

    def hook(*args: Any, **kwargs: Any) -> Any:
        call = container.spawn_worker(entrypoint, args, kwargs, context_data=context_data)
        return call.result(timeout)

    yield hook


class WaitResult:
    """What came of the call that was waited for."""

    def __init__(self) -> None:
        self.call: WorkerContext | None = None

    def get(self) -> Any:
        """Return what the call returned, or raise what it has raised."""
        if self.call is None:
            raise LookupError("the call has not ended yet: leave the block first")
        if self.call.exception is not None:
            raise self.call.exception
        return self.call.result


@contextmanager
def entrypoint_waiter(
    container: ServiceContainer,
    method_name: str,
    timeout: float = 30.0,
    callback: Callable[[WorkerContext, Any, BaseException | None], bool] | None = None,
) -> Iterator[WaitResult]:
    """
    Wait, at the end of a ``with`` block, until a method was called; yields what comes of it.

    Args:
        container: runs the service.
        method_name: of the method.
        timeout: seconds to wait.
        callback: called with each call, its result and its exception; returns whether
            it is the one to wait for. By default, the first is. It is called with one call
            at a time; what it raises comes out at the end of the block.

    Raises:
        RpcTimeout: it was not called in time.
        ExtensionNotFound: the method has no entrypoint.
    """
    container.entrypoint(method_name)
    outcome, ended, lock = WaitResult(), Switch(), threading.Lock()
    errors: list[BaseException] = []

    def observe(call: WorkerContext) -> None:
        if call.method_name != method_name:
            return
        with lock:
            if ended.is_on():
                return
            try:
                if callback is not None and not callback(call, call.result, call.exception):
                    return
                outcome.call = call
            except BaseException as error:
                errors.append(error)
            ended.turn_on()

    container.observe(observe)
    try:
        yield outcome
        if not ended.wait(timeout):
            where = f"{container.service_name}.{method_name}"
            raise RpcTimeout(f"no call of {where} has ended within {timeout:g} s")
        if errors:
            raise errors[0]
    finally:
        container.forget(observe)


def get_container(runner: ServiceRunner, service_cls: type) -> ServiceContainer:
    """
    Return what runs a service.

    Raises:
        KeyError: the runner has no such service.
    """
    return runner.container(service_cls)


def get_extension(container: ServiceContainer, kind: type[E], **attributes: Any) -> E:
    """
    Return the first entrypoint or dependency of a class, with certain attributes.

    Args:
        container: of the service.
        kind: the class.
        attributes: what its attributes are, by name.

    Raises:
        ExtensionNotFound: there is none.
    """
    for extension in container.extensions:
        found = {name: getattr(extension, name, None) for name in attributes}
        if isinstance(extension, kind) and found == attributes:
            return extension
    wanted = ", ".join(
        [kind.__qualname__, *(f"{key}={value!r}" for key, value in attributes.items())]
    )
    raise ExtensionNotFound(f"service {container.service_name!r} declares no {wanted}")


def replace_dependencies(container: ServiceContainer, *names: str, **objects: Any) -> Any:
    """
    Have a container, before its start, use other objects in place of dependencies.

    Args:
        container: of the service.
        names: of the dependencies to replace by mocks.
        objects: what others are replaced by.

    Returns:
        The mock, or the mocks in the order of *names*.

    Raises:
        ExtensionNotFound: the service has no dependency of such a name.
        ServiceStateError: it was started.
    """
    mocks = [MockDependency() for _ in names]
    for name, mock in zip(names, mocks, strict=True):
        container.replace_dependency(name, mock)
    for name, replacement in objects.items():
        container.replace_dependency(name, MockDependency(replacement))
    found = [mock.dependency for mock in mocks]
    return found[0] if len(found) == 1 else found


def restrict_entrypoints(container: ServiceContainer, *names: str) -> None:
    """
    Have a container, before its start, leave out all entrypoints but those of some methods.

    Args:
        container: of the service.
        names: of the methods; none leaves all out.

    Raises:
        ExtensionNotFound: a method has no entrypoint.
        ServiceStateError: it was started.
    """
    container.restrict(names)
