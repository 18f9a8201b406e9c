"""Tasks of an event loop that go on although they are cancelled, and waits for their ends."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

__all__ = (
    "Outcome",
    "Shielded",
    "has_ended",
    "steady",
    "to_its_end",
    "undisturbed",
)

T = TypeVar("T")


class Outcome(NamedTuple):
    """What code has returned, or raised; kept, for an event loop ends on some errors."""

    value: Any
    error: BaseException | None

    def get(self) -> Any:
        """Return it, or raise it."""
        if self.error is not None:
            raise self.error
        return self.value


class Steady(asyncio.Task[T]):
    """A task with no code of others in it, which comes to its end although all are cancelled."""

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002  # as of any task
        """Leave it alone."""
        return False


class Shielded(asyncio.Task[T]):
    """
    A task that an event loop does not cancel when it ends, as that of ``asyncio.run()``.

    While the loop runs, it is cancelled as any other: its own ``asyncio.timeout()`` may do so.
    It begins in any case, so that no coroutine is never awaited.

    Attributes:
        is_given_up: whether it is cancelled all the same.
    """

    is_given_up = False

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, unless it is only that the loop ends."""
        loop = self.get_loop()
        if not (self.is_given_up or loop.is_running()):
            return False
        state = inspect.getcoroutinestate(self.get_coro())  # type: ignore[arg-type]
        if state == inspect.CORO_CREATED:
            loop.call_soon(super().cancel, msg)
            return True
        return super().cancel(msg)


def steady(awaitable: Awaitable[object]) -> "asyncio.Task[Outcome]":
    """Return a task that waits for *awaitable*, and returns what came of it; nobody cancels it."""
    return Steady(_contained(awaitable), loop=asyncio.get_running_loop())


async def _contained(awaitable: Awaitable[object]) -> Outcome:
    """Return what came of *awaitable*."""
    try:
        return Outcome(await awaitable, None)
    except BaseException as error:
        return Outcome(None, error)


async def has_ended(
    future: "asyncio.Future[Any]",
    seconds: float | None = None,
    on_cancel: Callable[[], object] = lambda: None,
) -> bool:
    """
    Wait until *future* is done, for so many seconds; return whether it is.

    Who waits goes on waiting when it is cancelled, and calls *on_cancel*.
    """
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    while not future.done():
        left = None if end is None else end - loop.time()
        if left is not None and left <= 0:
            return False
        try:
            await asyncio.wait({future}, timeout=left)
        except asyncio.CancelledError:
            on_cancel()
    return True


async def undisturbed(
    future: "asyncio.Future[T]", on_cancel: Callable[[], object] = lambda: None
) -> T:
    """
    Return what *future* returns, or raise what it raises.

    Who waits and is cancelled calls *on_cancel*, waits to the end all the same,
    and raises the cancellation then.
    """
    is_cancelled = False

    def note() -> None:
        nonlocal is_cancelled
        is_cancelled = True
        on_cancel()

    await has_ended(future, on_cancel=note)
    if not is_cancelled:
        return future.result()
    if not future.cancelled():
        future.exception()  # which counts as seen now
    raise asyncio.CancelledError


async def to_its_end(awaitable: Awaitable[object]) -> None:
    """
    Wait for *awaitable* however often who waits is cancelled, and raise what it raises.

    If that is nothing, the cancellation is raised, then.
    """
    cancels: list[None] = []
    task = steady(awaitable)
    await has_ended(task, on_cancel=lambda: cancels.append(None))
    task.result().get()
    if cancels:
        raise asyncio.CancelledError
