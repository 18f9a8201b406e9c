"""One call of a component's method: in a thread or in the event loop, within a time limit."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from m3._stacks import Place, formatted, frames_of
from m3.components.tasks import Outcome, Shielded, has_ended

__all__ = ("Call", "Overdue", "calls_around")

GRACE = 1.0
"""Seconds in which a coroutine ends that was cancelled; then it is left to itself."""


_around: "contextvars.ContextVar[tuple[Call, ...]]" = contextvars.ContextVar("_around", default=())
"""The calls that this code is a part of, or was begun by; the outermost comes first."""


class Overdue(Exception):
    """A call took longer than its limit; *stack* is where it was."""

    def __init__(self, stack: str) -> None:
        super().__init__(stack)
        self.stack = stack


class Call:
    """
    A call of *method*, which is plain or ``async def``.

    A plain method is called in a thread of its own, so that one that hangs
    keeps nobody else from running.

    Args:
        method: takes no arguments.
        name: of the thread.
        when_late: called when the method ends although it was given up, in its thread
            or in the event loop, with what it has raised.  It may return a task, which
            then is a part of the call.

    Attributes:
        is_given_up: whether nobody waits for it any longer.
        has_ended: whether the method is no longer running, nor what follows a late end.
        has_returned: whether it has returned before it was given up.
        is_cancelled: whether :meth:`cancel` was called.
    """

    def __init__(
        self,
        method: Callable[[], Any],
        name: str,
        when_late: Callable[[BaseException | None], "asyncio.Task[None] | None"],
    ) -> None:
        self.is_given_up = False
        self.has_ended = False
        self.has_returned = False
        self.is_cancelled = False
        self._method = method
        self._name = name
        self._when_late = when_late
        self._task: Shielded[Outcome] | None = None
        self._awaitable: Awaitable[Any] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    async def within(self, seconds: float | None) -> Any:
        """
        Call it, and return what it returns.

        Raises:
            Overdue: it did not return in so many seconds.
            TypeError: it returned a generator, so its code did not run.
            BaseException: it raised that.
        """
        if inspect.iscoroutinefunction(self._method):
            outcome = await self._in_loop(self._method(), seconds)
        else:
            outcome = await self._in_thread(seconds)
            if inspect.isawaitable(outcome.value):  # of a decorated ``async def``
                self.has_ended = False
                outcome = await self._in_loop(outcome.value, seconds)
            elif isinstance(outcome.value, (Generator, AsyncGenerator)):
                outcome = Outcome(None, TypeError("it returned a generator, which nothing runs"))
        self.has_ended = True
        self.has_returned = outcome.error is None
        return outcome.get()

    def cancel(self) -> None:
        """Cancel it if it is a coroutine, or returns one; a thread cannot be stopped."""
        self.is_cancelled = True
        self._interrupt()

    def stack(self) -> str:
        """Return where the method is at the moment, as lines of a traceback."""
        is_suspended = self._awaitable is not None and not _is_running(self._awaitable)
        frames = _frames_of(self._awaitable) if is_suspended else frames_of(self._thread)
        return _of_method(frames)

    async def _in_loop(self, awaitable: Awaitable[Any], seconds: float | None) -> Outcome:
        self._awaitable, self._thread = awaitable, threading.current_thread()
        loop = asyncio.get_running_loop()
        self._task = task = Shielded(self._contained(awaitable), loop=loop)
        if self.is_cancelled:
            self._interrupt()
        if await has_ended(task, seconds, self.cancel):
            return task.result()
        stack = self.stack()
        self._interrupt()
        if await has_ended(task, GRACE):
            self.has_returned = task.result().error is None
        else:
            self.is_given_up, self.has_ended = True, False
            task.is_given_up = True
            task.add_done_callback(self._end_late)
        raise Overdue(stack)

    async def _contained(self, awaitable: Awaitable[Any]) -> Outcome:
        self._enter()
        try:
            return Outcome(await awaitable, None)
        except BaseException as error:
            return Outcome(None, error)

    def _enter(self) -> None:
        """Be one of those around what this thread or this task does from now on."""
        _around.set((*calls_around(), self))

    def _interrupt(self) -> None:
        """Cancel the coroutine when it has begun, for one that never begins is never awaited."""
        task = self._task
        if task is not None and not task.done():
            task.get_loop().call_soon(task.cancel)

    def _end_late(self, task: "asyncio.Task[Outcome]") -> None:
        late = None
        try:
            late = self._when_late(task.result().error)
        finally:
            if late is None:
                self._note_end()
            else:
                late.add_done_callback(self._note_end)

    def _note_end(self, _: object = None) -> None:
        self.has_ended = True

    async def _in_thread(self, seconds: float | None) -> Outcome:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()
        self._thread = thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run, lambda outcome: loop.call_soon_threadsafe(ended.set_result, outcome)),
            name=self._name,
            daemon=True,
        )
        thread.start()
        if not await has_ended(ended, seconds):
            with self._lock:
                self.is_given_up = not self.has_ended
            if self.is_given_up:
                raise Overdue(self.stack())
            await has_ended(ended)
        thread.join()  # which has nothing left to do
        return ended.result()

    def _run(self, tell: Callable[[Outcome], object]) -> None:
        """Call the method in this thread, and tell its outcome to whoever waits for it."""
        self._enter()
        try:
            outcome = Outcome(self._method(), None)
        except BaseException as error:
            outcome = Outcome(None, error)
        if self._is_told(tell, outcome):
            return
        try:
            self._when_late(outcome.error)
        finally:
            self.has_ended = True

    def _is_told(self, tell: Callable[[Outcome], object], outcome: Outcome) -> bool:
        """Tell it, unless it was given up, or its event loop was closed in the middle of it."""
        with self._lock:
            if not self.is_given_up:
                try:
                    tell(outcome)
                except RuntimeError:
                    self.is_given_up = True
                else:
                    self.has_ended = True
            return self.has_ended


def calls_around() -> tuple[Call, ...]:
    """Return the calls that this code is a part of, or was begun by, and that have not ended."""
    return tuple(call for call in _around.get() if not call.has_ended)


def _is_running(awaitable: Any) -> bool:
    """Return whether a coroutine, or what it awaits, keeps the thread of its loop busy."""
    return bool(getattr(awaitable, "cr_running", False))


def _frames_of(awaitable: Any) -> list[Place]:
    """Return where a coroutine is: its own frame, that of what it awaits, and so on."""
    places = []
    while (frame := getattr(awaitable, "cr_frame", None)) is not None:
        places.append(Place(frame.f_code, frame.f_lineno))
        awaitable = awaitable.cr_await
    return places


def _of_method(places: list[Place]) -> str:
    """Return *places* as lines of a traceback, without those that are around the method."""
    own = [at for at, place in enumerate(places) if place.code.co_filename == __file__]
    return formatted(places[own[-1] + 1 if own else 0 :])
