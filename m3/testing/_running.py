"""Services that run until a test ends, and fail it if they have failed."""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any, Self

from m3.errors import M3Error, PipelineError
from m3.services.clock import Clock
from m3.services.container import ServiceContainer
from m3.services.runner import ServiceRunner

__all__ = ("Running",)


class Watched:
    """
    What a test starts, stops and waits for.

    Attributes:
        was_started: whether it was.
        was_told: whether the test has got what has failed.
    """

    was_started = False
    was_told = False

    def start(self) -> None:
        """See :class:`ServiceContainer`."""
        self.was_started = True
        try:
            super().start()  # type: ignore[misc]
        except Exception:
            self.was_told = True
            raise

    def wait(self, timeout: float | None = None) -> Any:
        """See :class:`ServiceContainer`."""
        try:
            return super().wait(timeout)  # type: ignore[misc]
        except M3Error:
            self.was_told = True
            raise


class WatchedContainer(Watched, ServiceContainer):
    """A container of a test."""


class WatchedRunner(Watched, ServiceRunner):
    """A runner of a test."""


class Running:
    """
    Makes containers and runners, and ends them with a ``with`` block.

    Args:
        config: what each gets.
        clock: what their timers go by; None for the real time.
    """

    def __init__(self, config: Mapping[str, Any], clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock
        self._made: list[WatchedContainer | WatchedRunner] = []

    def container(
        self, service_cls: type, config: Mapping[str, Any] | None = None, **options: Any
    ) -> ServiceContainer:
        """
        Return a container, which is not started yet.

        Args:
            service_cls: the class of the service.
            config: what differs from the configuration of the test, or is added to it.
            options: further arguments of :class:`ServiceContainer`.

        Raises:
            ConfigError: see :class:`ServiceContainer`.
        """
        options = {"clock": self._clock, **options}
        container = WatchedContainer(service_cls, {**self._config, **(config or {})}, **options)
        self._made.append(container)
        return container

    def runner(
        self,
        *services: type | Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ServiceRunner:
        """
        Return a runner of services, which is not started yet; see :meth:`container`.

        Args:
            services: their classes; *config* may come before these, as in nameko.
            config: as of :meth:`container`.
            options: further arguments of :class:`ServiceRunner`.

        Raises:
            ConfigError: see :meth:`ServiceRunner.add_service`.
        """
        options = {"clock": self._clock, **options}
        given = [config or {}, *(each for each in services if isinstance(each, Mapping))]
        runner = WatchedRunner(dict(ChainMap(*map(dict, given), dict(self._config))), **options)
        for service_cls in services:
            if isinstance(service_cls, type):
                runner.add_service(service_cls)
        self._made.append(runner)
        return runner

    def end(self) -> None:
        """
        Stop all that runs, what was made last first; calls that do not end are left behind.

        Raises:
            StageError: a service has failed, and nobody was told.
            HungWorkerError: a call has not ended within ``stop_timeout``.
            PipelineError: there are several of these.
        """
        errors: list[Exception] = []
        while self._made:
            errors += _ended(self._made.pop())
        if len(errors) > 1:
            raise PipelineError(f"{len(errors)} services failed", errors)
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _ended(one: WatchedContainer | WatchedRunner) -> list[Exception]:
    """Stop it; return what it has failed with, if the test does not know."""
    if not one.was_started:
        return []
    knew_it = one.was_told
    try:
        one.stop()
        one.wait()
    except Exception as error:
        return [] if knew_it else [error]
    return []
