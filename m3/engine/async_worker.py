"""
Workers of stages that are written with ``async def``.

The worker's thread runs an event loop.  A feeder thread beside it takes items
from the queue, one whenever fewer than ``concurrency`` are in flight, so none
is taken before the loop can begin with it.  Results go downstream from the
loop while there is room, and from a sender thread when that would block it;
never from both at once.
"""

import asyncio
import contextlib
import threading
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

from m3._loops import take
from m3._steps import Aborted, Manual, Step
from m3._tokens import ABANDONED, DELIVERED, DROPPED, Token
from m3._types import DROP
from m3._waiting import Attempt
from m3.engine.errands import Errands
from m3.engine.failures import Judge
from m3.engine.pools import Pool
from m3.engine.runtime import Runtime
from m3.engine.shape import Shape, shape_of
from m3.errors import ItemTimeoutError, ShutDown

__all__ = ("AsyncWork", "in_step")


class AsyncWork:
    """
    What one worker of an async stage does.

    Args:
        pool: the pool of the stage.
        function: the coroutine function, or async generator function.
        runtime: starts its threads.
        step: counts the stage's items and settles those that end in it.
        judge: decides which items are tried again.
        following: gets the results; None for a backend.
        errands: calls that others want made in the loop's thread.
        name: of the worker.
    """

    def __init__(
        self,
        pool: Pool,
        function: Callable[[Any], Any],
        runtime: Runtime,
        *,
        step: Manual,
        judge: Judge,
        following: Step | None,
        errands: Errands,
        name: str,
    ) -> None:
        self._pool = pool
        self._function = function
        self._runtime = runtime
        self._step = step
        self._judge = judge
        self._errands = errands
        self._following = following
        self._name = name
        self._handle = self._expand if shape_of(pool.head) is Shape.ASYNC_EXPAND else self._call
        self._slots = threading.Semaphore(pool.head.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[Attempt, asyncio.TimerHandle] = {}
        self._due: deque[Attempt] = deque()
        self._over = False
        self._aborted = False
        self._error: BaseException | None = None

    def run(self, on_abort: Callable[[Callable[[], object]], None]) -> None:
        """
        Work until the end of the input; raises Aborted when the run is over.

        Args:
            on_abort: takes a function to be called, once, when the run is over.
        """
        asyncio.run(self._main(on_abort))
        if self._error is not None:
            raise self._error
        if self._aborted:
            raise Aborted

    async def _main(self, on_abort: Callable[[Callable[[], object]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Lock()
        self._input_ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._sender = Sender(self._loop, self._runtime, name=f"{self._name}-sender")
        on_abort(self._abort)
        self._errands.wake = self._look_for_errands
        self._errands.do()
        try:
            feeder = self._runtime.spawn(self._feed, f"{self._name}-feeder")
            await self._input_ended.wait()
            while self._tasks or self._waiting or self._due:
                self._changed.clear()
                await self._changed.wait()
            feeder.join()
        finally:
            self._sender.close()

    # -- in the feeder's thread

    def _feed(self) -> None:
        inbox, sequencer = self._pool.inbox, self._pool.sequencer
        assert inbox is not None
        try:
            while self._slots.acquire() and not self._over:
                item, token, position = take(inbox)
                is_admitted = sequencer is None or sequencer.admit(position)
                begin = self._begin if is_admitted else self._abandon
                self._loop.call_soon_threadsafe(begin, item, token, position)
                del item, token
        except ShutDown:
            pass
        except BaseException as error:  # what another thread has raised in this one
            self._error = error
        finally:
            self._loop.call_soon_threadsafe(self._input_ended.set)

    # -- in any thread

    def _abort(self) -> None:
        self._over = True
        self._slots.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._cancel)

    def _look_for_errands(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: the worker looks itself
            self._loop.call_soon_threadsafe(self._errands.do)

    # -- in the event loop

    def _cancel(self) -> None:
        self._aborted = True
        for task in self._tasks:
            task.cancel()
        for attempt, timer in self._waiting.items():
            timer.cancel()
            self._step.end(ABANDONED, attempt.token)
        for attempt in self._due:
            self._step.end(ABANDONED, attempt.token)
        self._waiting.clear()
        self._due.clear()
        self._changed.set()

    def _begin(self, item: Any, token: Token | None, position: int) -> None:
        if self._aborted:
            self._abandon(item, token, position)
            return
        self._step.begin()
        self._start(Attempt(item, token, 0, 0.0, position))

    def _start(self, attempt: Attempt) -> None:
        """Begin to work on an item, as soon as fewer than ``concurrency`` are in flight."""
        if len(self._tasks) >= self._pool.head.concurrency:
            self._due.append(attempt)
            return
        task = self._loop.create_task(self._work(attempt))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, attempt))

    def _abandon(self, _item: Any, token: Token | None, _position: int) -> None:
        self._step.end(ABANDONED, token)

    def _done(self, attempt: Attempt, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before it began: what begins ends well or raises Aborted
            self._step.end(ABANDONED, attempt.token)
        elif (error := task.exception()) is not None:
            self._error = error
        if attempt.failures == 0:
            self._slots.release()
        if self._due:
            self._start(self._due.popleft())
        self._changed.set()

    # -- another attempt

    def _put_off(self, attempt: Attempt, error: BaseException) -> bool:
        """Have the item wait for another attempt, out of flight, if there is to be one."""
        failures = attempt.failures + 1
        since = attempt.since or self._runtime.monotonic()
        delay = self._judge.delay(error, failures, since)
        if delay is None or self._aborted:
            return False
        later = Attempt(attempt.item, attempt.token, failures, since, attempt.place)
        self._waiting[later] = self._loop.call_later(delay, self._try_again, later)
        return True

    def _try_again(self, attempt: Attempt) -> None:
        del self._waiting[attempt]
        self._step.retried()
        self._start(attempt)

    async def _work(self, attempt: Attempt) -> None:
        item, token = attempt.item, attempt.token
        results: list[Any] = []
        try:
            await self._handle(item, token, results)
        except Aborted:
            self._abandon_kept(results)
            raise
        except asyncio.CancelledError as error:
            self._abandon_kept(results)
            if self._aborted:
                self._step.end(ABANDONED, token)
                return
            results = []
            self._step.reject(error, item, token, attempt.failures + 1)
        except BaseException as error:
            if self._put_off(attempt, error):
                return
            self._step.reject(error, item, token, attempt.failures + 1)
        sequencer = self._pool.sequencer
        if sequencer is not None:
            await self._in_sender(sequencer.hand_in, attempt.place, results, self._following)

    async def _call(self, item: Any, token: Token | None, results: list[Any]) -> None:
        result = await self._within_time(self._function(item))
        if self._following is None:
            self._step.produced()
            self._step.end(DELIVERED, token)
        elif result is DROP:
            self._step.end(DROPPED, token)
        else:
            self._step.produced()
            await self._pass_on(result, token, results)

    async def _expand(self, item: Any, token: Token | None, results: list[Any]) -> None:
        produced = self._function(item)
        if self._judge.is_all_or_nothing:
            produced = _again(await self._within_time(_all_of(produced)))
        async for result in produced:
            if result is DROP:
                continue
            self._step.produced(token, is_extra=True)
            try:
                await self._pass_on(result, token, results)
            except (Aborted, asyncio.CancelledError):
                self._step.end(ABANDONED, token)
                raise
        self._step.end_expanded(token)

    async def _within_time(self, call: Awaitable[Any]) -> Any:
        """Await *call*, but not for longer than the stage's timeout."""
        seconds = self._pool.head.timeout
        if seconds is None:
            return await call
        try:
            async with asyncio.timeout(seconds) as limit:
                return await call
        except TimeoutError as error:
            if not limit.expired():
                raise
            cause = error.__cause__ or error
            stack = "".join(traceback.format_tb(cause.__traceback__))
            raise ItemTimeoutError(seconds=seconds, stack=stack) from error

    async def _pass_on(self, result: Any, token: Token | None, results: list[Any]) -> None:
        if self._pool.sequencer is not None:
            results += (result, token)
            return
        assert self._following is not None
        async with self._gate:
            if self._following.has_room():
                self._following.accept(result, token)
            else:
                await self._in_sender(self._following.accept, result, token)

    def _abandon_kept(self, results: list[Any]) -> None:
        for token in results[1::2]:
            self._step.end(ABANDONED, token)

    async def _in_sender(self, function: Callable[..., None], *args: Any) -> None:
        """Run *function* to its end in the sender's thread, also when cancelled."""
        future = self._sender.call(function, *args)
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(future)
        future.result()


async def _all_of(results: AsyncIterator[Any]) -> list[Any]:
    """Return everything that is yielded."""
    return [result async for result in results]


async def _again(results: list[Any]) -> AsyncIterator[Any]:
    """Yield what was yielded before."""
    for result in results:
        yield result


class Sender:
    """
    A thread that makes the calls that may block, one after the other.

    No executor, whose threads the interpreter joins at exit before it stops
    the engines, and would wait for ever for one that waits for room.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: Runtime, *, name: str) -> None:
        self._loop = loop
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = runtime.spawn(self._run, name)

    def call(self, function: Callable[..., None], *args: Any) -> "asyncio.Future[None]":
        """Have *function* called; the future has what it raises."""
        future = self._loop.create_future()

        def make() -> None:
            try:
                function(*args)
            except BaseException as error:
                self._loop.call_soon_threadsafe(future.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(future.set_result, None)

        self._calls.put(make)
        return future

    def close(self) -> None:
        """Let the thread end, and wait for it."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (make := self._calls.get()) is not None:
            make()


def in_step(items: AsyncIterator[Any]) -> Iterator[Any]:
    """Iterate over *items* in an event loop that runs while the next one is awaited."""

    async def following() -> Any:
        return await anext(items)

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        while True:
            try:
                item = loop.run_until_complete(following())
            except StopAsyncIteration:
                return
            yield item
