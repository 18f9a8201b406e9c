"""Extensions as nameko 2 has them: ``setup``, ``start`` and ``stop`` take no arguments."""

from collections.abc import Iterator
from typing import Any, Self

from m3._parking import Switch
from m3.services.context import ServiceContext, WorkerContext
from m3.services.dependencies import AttributeDependency
from m3.services.entrypoints import DecoratorDependency

__all__ = ("DependencyProvider", "Entrypoint")


class DependencyProvider(AttributeDependency):
    """
    An :class:`AttributeDependency` with the methods that nameko 2 has.

    All of them are plain, and need not call what they override.  ``self.container`` is
    what runs the service.
    """

    def bind(self, srv_ctx: ServiceContext, attr_name: str) -> Self:
        """Return a copy for a container, whose ``setup`` is followed by ``start``."""
        bound = super().bind(srv_ctx, attr_name)
        set_up = bound.setup

        def set_up_and_start() -> None:
            set_up()
            bound.start()

        bound.setup = set_up_and_start  # type: ignore[method-assign]
        return bound

    def setup(self) -> None:
        """Called first when the container starts."""

    def start(self) -> None:  # type: ignore[override]
        """Called after :meth:`setup`, before any call is made."""

    def stop(self) -> None:  # type: ignore[override]
        """Called when the container stops, after the last call has ended."""

    def shutdown(self) -> None:
        """Stop; see :meth:`stop`."""
        self.stop()

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """Return what the attribute is for one call."""

    def worker_setup(self, worker_ctx: WorkerContext) -> Any:
        """Called before each call."""

    def worker_result(
        self, worker_ctx: WorkerContext, result: Any = None, exc_info: Any = None
    ) -> Any:
        """Called with what came of each call."""

    def worker_teardown(self, worker_ctx: WorkerContext) -> Any:
        """Called after each call."""

    def acquire_injection(self, worker_ctx: WorkerContext) -> Any:
        """Return what :meth:`get_dependency` does."""
        dependency = self.get_dependency(worker_ctx)
        self.worker_setup(worker_ctx)
        return dependency

    def release_injection(self, worker_ctx: WorkerContext) -> None:
        """Call :meth:`worker_result` and :meth:`worker_teardown`."""
        error = worker_ctx.exception
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        try:
            self.worker_result(worker_ctx, worker_ctx.result, exc_info)
        finally:
            self.worker_teardown(worker_ctx)


class Entrypoint(DecoratorDependency):
    """
    An entrypoint that has calls made by ``container.spawn_worker``, and yields none.

    A subclass calls that in a thread of its own, which its ``start`` begins::

        class Receive(Entrypoint):
            def start(self):
                self.container.spawn_managed_thread(self.run)

            def run(self):
                for message in messages():
                    self.container.spawn_worker(self, (message,))

    ``setup`` is called before, when the container starts, and ``stop`` when it stops; none of
    them needs to call what it overrides.

    Attributes:
        stopped: on when the service stops.
    """

    stopped: Switch

    def bind(self, srv_ctx: ServiceContext, method_name: str) -> Self:
        """Return a copy for a container."""
        bound = super().bind(srv_ctx, method_name)
        bound.stopped, stop = Switch(), bound.stop

        def stop_and_end() -> None:
            try:
                stop()
            finally:
                bound.stopped.turn_on()

        bound.stop = stop_and_end  # type: ignore[method-assign]
        return bound

    def start(self) -> None:
        """Called when the whole service is set up."""

    def stop(self) -> None:
        """Called when the service stops."""

    def produce(self) -> Iterator[WorkerContext]:
        """Start, and yield nothing until the service stops."""
        self.start()
        self.stopped.wait()
        yield from ()
