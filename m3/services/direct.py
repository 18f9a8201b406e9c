"""Calls that code in the same process makes: tests, and programs that embed a service."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from m3._parking import Switch
from m3._queue import BoundedQueue
from m3.errors import AbandonedError, Empty, ShutDown, StopPipeline
from m3.services.context import WorkerContext
from m3.services.entrypoints import DecoratorDependency
from m3.services.errors import RpcTimeout, ServiceStateError, ServiceStopped
from m3.services.managed import ManagedThreads
from m3.stages import Frontend, Item

__all__ = ("DirectCall", "DirectCalls", "DirectEntrypoint", "HandedIn", "Handler")

WhenDone = Callable[["DirectCall"], object]
Handler = Callable[[WorkerContext, Any, Any], tuple[Any, Any]]


class DirectEntrypoint(DecoratorDependency):
    """
    What a direct call comes from: it stands for an entrypoint, whose results go elsewhere.

    Attributes:
        handler: called, once, with the call, its result and its exception in three parts;
            what it returns takes the place of the last two.
    """

    handler: Handler | None = None

    def handle_result(self, worker_ctx: WorkerContext) -> None:
        """Have the result handled."""
        error = self._handle(worker_ctx, None)
        if error is not None:
            raise error

    def handle_error(self, worker_ctx: WorkerContext, error: BaseException) -> BaseException | None:
        """Have what the call has failed with handled; return what is left of it."""
        return self._handle(worker_ctx, error)

    def _handle(
        self, worker_ctx: WorkerContext, error: BaseException | None
    ) -> BaseException | None:
        handler, self.handler = self.handler, None
        if handler is None:
            return error
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        worker_ctx.result, exc_info = handler(worker_ctx, worker_ctx.result, exc_info)
        return None if exc_info is None else exc_info[1]


class DirectCall:
    """
    A call, and what came of it.

    Attributes:
        worker_ctx: the call.
        entrypoint: what it comes from.
        error: what it has failed with; None if it has not.
    """

    def __init__(
        self,
        worker_ctx: WorkerContext,
        entrypoint: DirectEntrypoint,
        when_done: WhenDone | None = None,
    ) -> None:
        self.worker_ctx = worker_ctx
        self.entrypoint = entrypoint
        self.error: BaseException | None = None
        self._when_done = when_done
        self._done = Switch()

    def result(self, timeout: float | None = None) -> Any:
        """
        Return what the method returned, or raise what the call has failed with; blocks until then.

        Raises:
            RpcTimeout: that was not within *timeout* seconds.
        """
        if not self._done.wait(timeout):
            raise RpcTimeout(f"{self.worker_ctx!r} did not end within {timeout:g} s")
        if self.error is not None:
            raise self.error
        return self.worker_ctx.result

    def end(self, error: BaseException | None) -> None:
        """Take note that it has ended."""
        self.error = error
        self._done.turn_on()
        if self._when_done is not None:
            self._when_done(self)


class HandedIn(Frontend[WorkerContext]):
    """
    A frontend whose calls other threads hand in.

    Those that still wait when the service has stopped are answered with :meth:`nack`.
    """

    acks_anywhere = True

    def __init__(self) -> None:
        self._waiting: BoundedQueue[Item] = BoundedQueue()

    def submit(self, call: WorkerContext, position: Any) -> None:
        """
        Have a call made.

        Raises:
            ServiceStateError: the service is stopping.
        """
        item = Item(call, position)
        if self.offer is not None and self.offer(item):
            return
        try:
            self._waiting.put(item)
        except ShutDown:
            raise ServiceStateError("the service is stopping and takes no more calls") from None

    def produce(self) -> Iterator[Item]:
        """Yield the calls."""
        while True:
            try:
                item = self._waiting.get()
            except ShutDown:
                return
            yield item

    def stop(self) -> None:
        """Take no more."""
        self._waiting.shutdown()

    def cleanup(self) -> None:
        """Answer those that were not made, each of them, and raise what that raises."""
        self._waiting.shutdown()
        errors: list[Exception] = []
        while True:
            try:
                item = self._waiting.get_nowait()
            except (Empty, ShutDown):
                break
            try:
                self.nack(
                    item.position, AbandonedError("the service has stopped before it was made")
                )
            except Exception as error:
                errors.append(error)
        raise_all(errors, "calls could not be answered")


class DirectCalls(HandedIn):
    """
    The frontend for direct calls, and for the threads that make them.

    Attributes:
        threads: those threads; one that raises ends the service.
    """

    def __init__(self) -> None:
        super().__init__()
        self.threads = ManagedThreads(self._fail)
        self._lock = threading.Lock()
        self._errors: list[Exception] = []

    def produce(self) -> Iterator[Item]:
        """Yield the calls, and raise what threads have raised."""
        yield from super().produce()
        self._raise()

    def cleanup(self) -> None:
        """Answer what was not made, and wait for the threads."""
        try:
            super().cleanup()
        finally:
            self.threads.join()
            self._raise()

    def give_up(self) -> None:
        """Take no more, answer what was not made, and wait: the start was not completed."""
        try:
            super().cleanup()
        finally:
            self.threads.join()

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._errors.append(error)
        self.stop()

    def _raise(self) -> None:
        with self._lock:
            errors, self._errors = self._errors, []
        raise_all(errors, "threads have failed")

    def ack(self, position: DirectCall) -> None:
        """Tell that the call has returned, or has ended the service."""
        call = position.worker_ctx
        is_last = isinstance(call.exception, StopPipeline)
        position.end(ServiceStopped(f"{call!r} has ended the service") if is_last else None)

    def nack(self, position: DirectCall, error: Exception) -> None:
        """Tell that the call has failed."""
        left: BaseException | None
        try:
            left = position.entrypoint.handle_error(position.worker_ctx, error)
        except BaseException as raised:
            left = raised
            left.__context__ = left.__context__ or error
        position.end(left)


def raise_all(errors: list[Exception], what: str) -> None:
    """Raise *errors*, if there are any; several as a group, which says how many did *what*."""
    if len(errors) > 1:
        raise ExceptionGroup(f"{len(errors)} {what}", errors)
    if errors:
        raise errors[0]
