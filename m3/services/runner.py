"""Running several services in one process."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from m3._parking import Switch
from m3.engine.health import Health
from m3.errors import ConfigError, PipelineError
from m3.services.clock import Clock
from m3.services.container import (
    KILL_GRACE,
    ServiceContainer,
    get_service_name,
    stop_timeout,
)
from m3.services.errors import ServiceStateError
from m3.services.proxies import Service

__all__ = ("ServiceRunner", "run_services")


class ServiceRunner:
    """
    Runs services, each in a container.

    Args:
        config: what each container gets; see :class:`ServiceContainer`.
        resources: likewise.
        clock: likewise.
        stopping: called when the stop begins, also when it is a failure that begins it; once.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        resources: Mapping[type | str, Any] | None = None,
        clock: Clock | None = None,
        stopping: Callable[[], object] = lambda: None,
    ) -> None:
        self.config = dict(config or {})
        self._resources = resources
        self._clock = clock
        self._containers: dict[str, ServiceContainer] = {}
        self._is_started = False
        self._is_stopping = False
        self._stopping = stopping
        self._errors: list[Exception] = []
        self._lock = threading.Lock()
        self._running = 0
        self._watchers: list[threading.Thread] = []
        self._ended = Switch()

    @property
    def containers(self) -> list[ServiceContainer]:
        """The containers, in the order in which their services were added."""
        return list(self._containers.values())

    @property
    def service_names(self) -> list[str]:
        """The names of the services."""
        return list(self._containers)

    def add_service(
        self, service_cls: type, container_cls: type[ServiceContainer] = ServiceContainer
    ) -> ServiceContainer:
        """
        Add a service; return its container.

        Raises:
            ConfigError: one of that name was added before, or the class is no service.
        """
        name = get_service_name(service_cls)
        if name in self._containers:
            raise ConfigError(f"there is a service {name!r} already; another process can run one")
        container = container_cls(
            service_cls, self.config, resources=self._resources, clock=self._clock
        )
        self._containers[name] = container
        return container

    def container(self, service: type | str) -> ServiceContainer:
        """Return the container of a service, by its class or its name."""
        name = service if isinstance(service, str) else get_service_name(service)
        return self._containers[name]

    def start(self) -> None:
        """
        Start all services, each after those that it calls; returns when all run.

        If one fails, those before it are stopped, and what it raised is raised.

        Raises:
            ServiceStateError: it was started before.
        """
        if self._is_started:
            raise ServiceStateError("the services were started before")
        self._is_started = True
        try:
            for level in self._levels():
                for container in level:
                    container.start()
        except BaseException as error:
            self._stop_all(None)
            self._errors += [error] if isinstance(error, Exception) else []
            self._ended.turn_on()
            raise
        self._running = len(self._containers)
        if not self._running:
            self._ended.turn_on()
        for container in self.containers:
            name = f"m3-watch-{container.service_name}"
            watch = threading.Thread(target=self._watch, args=(container,), name=name, daemon=True)
            self._watchers.append(watch)
            watch.start()

    def wait(self, timeout: float | None = None) -> None:
        """
        Block until all services have ended; when one fails, the others are stopped.

        Raises:
            TimeoutError: some still run after *timeout* seconds.
            StageError: a service has failed; :exc:`~m3.errors.PipelineError` if several have.
        """
        if not self._is_started:
            raise ServiceStateError("the services were not started")
        if not self._ended.wait(timeout):
            raise TimeoutError(f"services still run after {timeout:g} seconds")
        if len(self._errors) > 1:
            raise PipelineError(f"{len(self._errors)} services failed", self._errors)
        if self._errors:
            raise self._errors[0]

    def stop(self, timeout: float | None = None) -> None:
        """
        Stop all services, those first that call others; blocks until they have stopped.

        Args:
            timeout: seconds that all of it may take; None for ``stop_timeout`` of the
                configuration.
        """
        self._stop_all(timeout)
        self._join()

    def kill(self) -> None:
        """Stop all services without waiting for calls."""
        self._begin_stop()
        for container in self.containers:
            container.abandon()
        for container in self.containers:
            container.kill()
        self._join()

    def health(self, *, checked: bool = True) -> dict[str, Health]:
        """
        Return how each service is, by its name.

        From the beginning of a stop, or the failure of one of them on, none is ready, also those
        that stop last.

        Args:
            checked: whether to ask buses and dependencies; see :meth:`ServiceContainer.health`.
        """
        if checked:
            for container in self.containers:
                container.begin_checks()
        found = {name: each.health(checked=checked) for name, each in self._containers.items()}
        if not (self._is_stopping or any(health.state == "failed" for health in found.values())):
            return found
        return {name: self._while_stopping(health) for name, health in found.items()}

    def _while_stopping(self, health: Health) -> Health:
        """Return the *health* of a service that a stop may not have reached yet."""
        if health.state not in ("starting", "ready"):
            return health
        is_started = self._containers[health.name].is_started()
        return replace(health, state="draining" if is_started else "stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None:
            self.wait()

    def _begin_stop(self) -> None:
        with self._lock:
            is_first = not self._is_stopping
            self._is_stopping = True
        if is_first:
            self._stopping()

    def _stop_all(self, timeout: float | None) -> None:
        self._begin_stop()
        seconds = stop_timeout(self.config) if timeout is None else timeout
        until = time.monotonic() + seconds
        for level in reversed(self._levels()):
            left = max(KILL_GRACE, until - time.monotonic())
            for container in level:
                container.request_stop(left)
            for container in level:
                container.stop(left)

    def _levels(self) -> list[list[ServiceContainer]]:
        """Return the containers, each in a later list than those whose services it calls."""
        depths: dict[str, int] = {}

        def depth(name: str, path: tuple[str, ...]) -> int:
            if name not in depths:
                called = _called_by(self._containers[name]) & self._containers.keys()
                below = [depth(other, (*path, name)) for other in called - {*path, name}]
                depths[name] = 1 + max(below, default=-1)
            return depths[name]

        for name in self._containers:
            depth(name, ())
        levels: list[list[ServiceContainer]] = [
            [] for _ in range(max(depths.values(), default=-1) + 1)
        ]
        for name, container in self._containers.items():
            levels[depths[name]].append(container)
        return levels

    def _join(self) -> None:
        """Wait for the watchers, whose services have all ended."""
        for watcher in self._watchers:
            if watcher is not threading.current_thread():
                watcher.join()

    def _watch(self, container: ServiceContainer) -> None:
        """Wait for the end of a service; if it has failed, end all others."""
        try:
            container.wait()
        except Exception as error:
            with self._lock:
                self._errors.append(error)
            self._stop_all(None)
        with self._lock:
            self._running -= 1
            if not self._running:
                self._ended.turn_on()


def _called_by(container: ServiceContainer) -> set[str]:
    """Return the names of the services that the service of *container* says that it calls."""
    declared = container.dependencies.values()
    return {each.target_service for each in declared if isinstance(each, Service)}


@contextmanager
def run_services(
    config: Mapping[str, Any] | None,
    *services: type,
    kill_on_exit: bool = False,
    **options: Any,
) -> Iterator[ServiceRunner]:
    """
    Run services while a ``with`` block lasts; yields their runner.

    They are stopped however the block ends, or killed if *kill_on_exit*; what they
    have failed with is raised if the block raises nothing.

    Args:
        config: what each container gets.
        services: their classes.
        kill_on_exit: whether to wait for no calls at the end.
        options: further arguments of :class:`ServiceRunner`.
    """
    runner = ServiceRunner(config, **options)
    for service_cls in services:
        runner.add_service(service_cls)
    runner.start()
    try:
        yield runner
    finally:
        (runner.kill if kill_on_exit else runner.stop)()
    if not kill_on_exit:
        runner.wait()
