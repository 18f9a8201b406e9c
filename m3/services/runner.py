"""Running several services in one process."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
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

logger = logging.getLogger("m3.services")


class ServiceRunner:
    """
    Runs services, each in a container.

    Args:
        config: what each container gets; see :class:`ServiceContainer`.
        resources: likewise.
        clock: likewise.
        stopping: called when the stop begins, also when it is a failure that begins it; once.
            What it raises is logged, and the stop goes on.
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
        self._starter: threading.Thread | None = None
        self._start_is_over = Switch()
        self._is_stopping = False
        self._timeout: float | None = None
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
        If they are stopped before all run, it starts no more of them, and returns when
        none runs.

        Raises:
            ServiceStateError: it was started before.
        """
        self._claim()
        try:
            self._start_all()
        except BaseException as error:
            self._errors += [error] if isinstance(error, Exception) else []
            try:
                self._stop_all(None)
            finally:
                self._ended.turn_on()
            raise
        else:
            self._watch_all()
            if self._is_stopping:
                self._stop_all(self._timeout)
        finally:
            self._start_is_over.turn_on()

    def wait(self, timeout: float | None = None) -> None:
        """
        Block until all services have ended; when one fails, the others are stopped.

        Raises:
            TimeoutError: some still run after *timeout* seconds.
            StageError: a service has failed; :exc:`~m3.errors.PipelineError` if several have.
        """
        if self._starter is None:
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

        Called in a worker or a managed thread of one of them, it does not wait for that.

        Args:
            timeout: seconds that all of it may take; None for ``stop_timeout`` of the
                configuration.
        """
        self._begin_stop(timeout)
        self._end(partial(self._stop_all, timeout), timeout)

    def kill(self) -> None:
        """Stop all services without waiting for calls."""
        self._begin_stop(KILL_GRACE)
        for container in self.containers:
            container.abandon()
        self._end(self._kill_all, KILL_GRACE)

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

    def _claim(self) -> None:
        with self._lock:
            if self._starter is not None:
                raise ServiceStateError("the services were started before")
            self._starter = threading.current_thread()

    def _start_all(self) -> None:
        """Start the services, until a stop begins."""
        for level in self._levels():
            for container in level:
                if self._is_stopping:
                    return
                container.start()

    def _watch_all(self) -> None:
        """Begin to wait for the end of each service that was started."""
        started = [container for container in self.containers if container.is_started()]
        self._running = len(started)
        if not started:
            self._ended.turn_on()
        for container in started:
            name = f"m3-watch-{container.service_name}"
            watch = threading.Thread(target=self._watch, args=(container,), name=name, daemon=True)
            watch.start()
            self._watchers.append(watch)

    def _begin_stop(self, timeout: float | None) -> None:
        with self._lock:
            is_first = not self._is_stopping
            if is_first:
                self._timeout = timeout
            self._is_stopping = True
        if is_first:
            try:
                self._stopping()
            except Exception:
                logger.exception("what is called when the services stop has failed")

    def _end(self, stop: Callable[[], None], timeout: float | None) -> None:
        """Call *stop* and wait for the end; the services' own code, which that ends, does not."""
        if any(container.is_called_from_within() for container in self.containers):
            threading.Thread(target=stop, name="m3-stop", daemon=True).start()
            return
        stop()
        self._join(timeout)

    def _kill_all(self) -> None:
        for container in self.containers:
            container.kill()

    def _stop_all(self, timeout: float | None) -> None:
        self._begin_stop(timeout)
        seconds = self._seconds(timeout)
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

    def _seconds(self, timeout: float | None) -> float:
        return stop_timeout(self.config) if timeout is None else timeout

    def _join(self, timeout: float | None) -> None:
        """Wait for a start that is not over yet, and the watchers, whose services have ended."""
        if self._starter not in (None, threading.current_thread()):
            self._start_is_over.wait(self._seconds(timeout))
        for watcher in list(self._watchers):
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
        finally:
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
