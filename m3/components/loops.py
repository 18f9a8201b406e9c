"""Event loops for code that has none."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from m3._parking import Switch
from m3.components.tasks import Shielded
from m3.errors import ComponentStateError, M3Error

__all__ = ("CallersLoop", "Home", "LoopThread", "result_of", "run_here", "running_loop")

T = TypeVar("T")

GRACE = 1.0
"""Seconds in which what is left in a loop ends; then it is left to itself."""

POLL = 0.05
"""Seconds after which is looked again whether somebody else's loop still runs."""


class LoopThread:
    """An event loop that runs in a thread of its own until it is closed."""

    def __init__(self) -> None:
        self.loop, self._executor = _new_loop()
        self._lock = threading.Lock()
        self._submitted: set[concurrent.futures.Future[Any]] = set()
        self._is_closed = False
        is_running = threading.Event()
        self.loop.call_soon(is_running.set)
        self._thread = threading.Thread(target=self._run, name="m3-conductor", daemon=True)
        self._thread.start()
        try:
            is_running.wait()
        except BaseException:  # Ctrl-C: nobody will have it, to close it
            self.close()
            raise

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """
        Run *coroutine* there, and return its future.

        Raises:
            ComponentStateError: it was closed.
        """
        with self._lock:
            if self._is_closed:
                coroutine.close()
                raise ComponentStateError("the conductor was shut down meanwhile")
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
            self._submitted.add(future)
        future.add_done_callback(self._forget)
        return future

    def close(self) -> None:
        """Have the loop end when all that was submitted has ended; may be called again."""
        with self._lock:
            self._is_closed = True
        self._stop_if_unused()

    def join(self) -> None:
        """Wait for its end, after it was closed; in its own thread, do nothing."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _forget(self, future: "concurrent.futures.Future[Any]") -> None:
        with self._lock:
            self._submitted.discard(future)
        self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        if self._is_closed and not self._submitted:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._is_closed or self._submitted:  # whoever else stops it
                self._run_on()
        finally:
            _close(self.loop, self._executor)

    def _run_on(self) -> None:
        try:
            self.loop.run_forever()
        except BaseException as error:
            what = "a task or a callback would end the program, in a thread that cannot"
            self.loop.call_exception_handler({"message": what, "exception": error})


class CallersLoop:
    """An event loop that belongs to somebody else, and may end before it is expected to."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        self._driving = threading.Lock()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """
        Run *coroutine* there, and return its future; if that loop is closed, run it now.

        A loop that stands still is run for it.
        """
        if self.loop.is_closed():
            return _done(asyncio.run, coroutine)
        if threading.current_thread() is self._thread:
            with self._driving:
                if not self.loop.is_running():
                    return _done(self.loop.run_until_complete, coroutine)
        return Errand(coroutine, self.loop, self._driving).done

    def close(self) -> None:
        """Leave it to whom it belongs."""

    def join(self) -> None:
        """Do not wait for its end."""


class Errand(Generic[T]):
    """
    A coroutine for the loop of another thread, which may end at any moment.

    If it ends before the coroutine has begun, that runs in a loop of its own.

    Args:
        coroutine: what is to run.
        loop: where.
        driving: held by whoever runs the loop while it stands still.

    Attributes:
        done: its future.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        loop: asyncio.AbstractEventLoop,
        driving: threading.Lock,
    ) -> None:
        self.done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._coroutine = coroutine
        self._loop = loop
        self._driving = driving
        self._has_begun = False
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run,), name="m3-errand", daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._result()
        except BaseException as error:
            if self.done.set_running_or_notify_cancel():
                self.done.set_exception(error)
        else:
            if self.done.set_running_or_notify_cancel():
                self.done.set_result(result)
        finally:
            self._coroutine.close()

    def _result(self) -> T:
        while not self._loop.is_closed():
            visit = self._visit()
            try:
                there = asyncio.run_coroutine_threadsafe(visit, self._loop)
            except RuntimeError:  # it is closed
                visit.close()
                break
            self.done.add_done_callback(partial(_cancel_with_it, there))
            self._wait(there)
            if there.done() and (self._has_begun or self.done.cancelled()):
                return there.result()
            visit.close()
            if self._has_begun:
                raise ComponentStateError("the event loop of setup() has ended in the middle of it")
            self._await_end_of_loop()
        return asyncio.run(self._coroutine)

    async def _visit(self) -> T:
        self._has_begun = True
        return await self._coroutine

    def _wait(self, there: "concurrent.futures.Future[T]") -> None:
        """Wait until *there* is done or never will be."""
        is_still = False
        while not there.done() and not self._loop.is_closed():
            was_still, is_still = is_still, not self._loop.is_running()
            if was_still and is_still:
                self._drive(there)
            concurrent.futures.wait([there], POLL)

    def _drive(self, there: "concurrent.futures.Future[T]") -> None:
        with self._driving, contextlib.suppress(Exception, asyncio.CancelledError):
            if not self._loop.is_running():
                self._loop.run_until_complete(asyncio.wrap_future(there, loop=self._loop))

    def _await_end_of_loop(self) -> None:
        """Wait for the end of a loop that has cancelled its tasks, if it comes soon."""
        end = time.monotonic() + GRACE
        while not self._loop.is_closed() and time.monotonic() < end:
            time.sleep(POLL)


def _cancel_with_it(
    there: "concurrent.futures.Future[T]", done: "concurrent.futures.Future[T]"
) -> None:
    if done.cancelled():
        there.cancel()


def _done(
    run: Callable[[Coroutine[Any, Any, T]], T], coroutine: Coroutine[Any, Any, T]
) -> "concurrent.futures.Future[T]":
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
        done.set_result(run(coroutine))
    except Exception as error:
        done.set_exception(error)
    return done


Home = LoopThread | CallersLoop
"""Where components are started and stopped."""


def run_here(coroutine: Coroutine[Any, Any, T], on_stop: Callable[[], object]) -> T:
    """
    Return what *coroutine* returns in an event loop in this thread.

    When something in it stops the loop, *on_stop* is called, and it runs on.
    """
    loop, executor = _new_loop()
    asyncio.set_event_loop(loop)
    try:
        return _run(loop, coroutine, on_stop)
    except M3Error as error:
        if _is_of_ctrl_c(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        _close(loop, executor)


def _run(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    on_stop: Callable[[], object] = lambda: None,
) -> T:
    """Run a loop until *coroutine* has ended, even if somebody stops it before."""
    task = loop.create_task(coroutine)
    task.add_done_callback(lambda _: loop.stop())
    try:
        loop.run_forever()
        while not task.done():
            on_stop()
            loop.run_forever()
        return task.result()
    finally:
        if task.done() and not task.cancelled():
            task.exception()  # which counts as seen now, however the loop has ended


def _is_of_ctrl_c(error: BaseException) -> bool:
    """Return whether Ctrl-C came while this thread was in the code of a component."""
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    return any(isinstance(each.__cause__, KeyboardInterrupt) for each in errors)


def result_of(future: "concurrent.futures.Future[T]") -> T:
    """Wait for *future* and return its result; in the main thread, Ctrl-C always gets through."""
    is_done = Switch()
    future.add_done_callback(lambda _: is_done.turn_on())
    is_done.wait()
    return future.result()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _new_loop() -> tuple[asyncio.AbstractEventLoop, concurrent.futures.ThreadPoolExecutor]:
    loop = asyncio.new_event_loop()
    executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="m3-conductor")
    loop.set_default_executor(executor)
    return loop, executor


def _close(
    loop: asyncio.AbstractEventLoop, executor: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Cancel what is left in a loop that does not run, and close it, in bounded time."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            if isinstance(task, Shielded):
                task.is_given_up = True
            task.cancel()
        if tasks:
            _run(loop, asyncio.wait(tasks, timeout=GRACE))
        _run(loop, asyncio.wait_for(loop.shutdown_asyncgens(), GRACE))
        ending = threading.Thread(target=executor.shutdown, daemon=True)
        ending.start()
        ending.join(GRACE)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
