"""
Workers of stages that are written with ``async def``.

The worker's thread runs an event loop.  A feeder thread beside it takes items
from the queue, one whenever fewer than ``concurrency`` are in flight, so none
is taken before the loop can begin with it.  Results go downstream from the
loop while there is room, and from a sender thread when that would block it;
never from both at once.  (No executor, whose threads the interpreter joins at
exit before it stops the engines, and would wait for ever for one that waits
for room.)
"""

import asyncio
import contextlib
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from m3._flights import Flight, Flights
from m3._queue import BoundedQueue
from m3._steps import Aborted, Step
from m3._threads import make_calls
from m3._tokens import ABANDONED, DELIVERED, DROPPED
from m3._types import DROP
from m3.engine.beside import Beside
from m3.engine.errands import Errands
from m3.engine.event_loop import EventLoop
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
        flights: counts the stage's items and settles those that end in it.
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
        flights: Flights,
        judge: Judge,
        following: Step | None,
        errands: Errands,
        name: str,
    ) -> None:
        self._pool = pool
        self._function = function
        self._runtime = runtime
        self._flights = flights
        self._judge = judge
        self._errands = errands
        self._following = following
        self._name = name
        self._handle = self._expand if shape_of(pool.head) is Shape.ASYNC_EXPAND else self._call
        self._slots: BoundedQueue[None] = BoundedQueue(pool.head.concurrency)
        self._calls: BoundedQueue[Any] = BoundedQueue()
        self._unsent = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[Flight, asyncio.TimerHandle] = {}
        self._due: deque[Flight] = deque()
        self._has_input = True
        self._aborted = False
        self._error: BaseException | None = None
        self._event_loop = EventLoop()
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._beside = Beside(runtime)

    def run(self, on_abort: Callable[[Callable[[], object]], None]) -> None:
        """
        Work until the end of the input; raises Aborted when the run is over.

        Args:
            on_abort: takes a function to be called when the run is over.
        """
        self._coroutine = self._main(on_abort)
        self._event_loop.run(self._coroutine)
        if self._error is not None:
            raise self._error
        if self._aborted:
            raise Aborted

    def close(self) -> None:
        """Wait until no task or thread has to do with its items any more; in its own thread."""
        self._event_loop.close()
        if self._coroutine is not None:
            self._coroutine.close()  # it may have been struck before it began
        self._slots.shutdown()
        self._calls.shutdown()
        self._beside.join()

    async def _main(self, on_abort: Callable[[Callable[[], object]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = self._loop.create_future()
        on_abort(self._abort)
        self._errands.wake = self._look_for_errands
        self._do_errands()
        self._start_threads()
        while self._has_work():
            self._changed = self._loop.create_future()
            await self._changed

    def _start_threads(self) -> None:
        inbox, sequencer = self._pool.inbox, self._pool.sequencer
        assert inbox is not None
        arrived = partial(self._soon, self._begin)
        feed = partial(self._flights.feed, inbox, self._slots, sequencer, arrived)
        send = partial(make_calls, self._calls, self._sent)
        self._beside.start(send, f"{self._name}-sender", self._note)
        self._beside.start(feed, f"{self._name}-feeder", self._fed)

    def _has_work(self) -> bool:
        return self._has_input or bool(self._tasks or self._waiting or self._due)

    # -- in any thread

    def _soon(self, function: Callable[..., object], *args: Any) -> None:
        """Have *function* called in the loop's thread, unless the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _note(self, error: BaseException | None) -> None:
        """Break off because of what another thread has raised in m3's own code, if anything."""
        if error is not None:
            self._soon(self._event_loop.break_off, error)

    def _fed(self, error: BaseException | None) -> None:
        """Take note that no more items come; the last act of the thread that feeds the loop."""
        if not isinstance(error, ShutDown):
            self._note(error)
        self._soon(self._end_input)

    def _sent(self, future: "asyncio.Future[None]", error: BaseException | None) -> None:
        self._soon(self._told, future, error)

    def _abort(self) -> None:
        self._slots.shutdown()
        self._soon(self._cancel)

    def _look_for_errands(self) -> None:
        self._soon(self._do_errands)

    def _do_errands(self) -> None:
        with contextlib.suppress(Aborted):  # the loop is told of that by itself
            self._errands.do()

    # -- in the event loop

    def _wake(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)

    def _end_input(self) -> None:
        self._has_input = False
        self._wake()

    def _cancel(self) -> None:
        if self._aborted:
            return
        self._aborted = True
        for task in self._tasks:
            task.cancel()
        for flight, timer in self._waiting.items():
            timer.cancel()
            self._flights.end(ABANDONED, flight)
        for flight in self._due:
            self._flights.end(ABANDONED, flight)
        self._waiting.clear()
        self._due.clear()
        self._wake()

    def _begin(self, flight: Flight) -> None:
        if self._aborted:
            self._flights.end(ABANDONED, flight)
            return
        self._flights.begin()
        self._start(flight)

    def _start(self, flight: Flight) -> None:
        """Begin to work on an item, as soon as fewer than ``concurrency`` are in flight."""
        if len(self._tasks) >= self._pool.head.concurrency:
            self._due.append(flight)
            return
        task = self._loop.create_task(self._work(flight))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, flight, flight.failures == 0))

    def _done(self, flight: Flight, is_first: bool, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before it began: what begins ends well or raises Aborted
            self._flights.end(ABANDONED, flight)
        elif isinstance(error := task.exception(), Aborted):
            self._error = error
        elif error is not None:
            raise error  # what another thread has raised in m3's own code
        if is_first:
            self._slots.get_nowait()
        if self._due:
            self._start(self._due.popleft())
        self._wake()

    # -- another attempt

    def _put_off(self, flight: Flight, error: BaseException) -> bool:
        """Have the item wait for another attempt, out of flight, if there is to be one."""
        since = flight.since or self._runtime.monotonic()
        delay = self._judge.delay(error, flight.failures + 1, since)
        if delay is None or self._aborted or not flight.is_open:
            return False
        flight.put_off(since)
        self._waiting[flight] = self._loop.call_later(delay, self._try_again, flight)
        return True

    def _try_again(self, flight: Flight) -> None:
        self._waiting.pop(flight, None)
        self._flights.retried()
        self._start(flight)

    async def _work(self, flight: Flight) -> None:
        try:
            await self._handle(flight)
        except Aborted:
            raise
        except BaseException as error:
            if self._aborted and isinstance(error, asyncio.CancelledError):
                self._flights.end(ABANDONED, flight)
                return
            if self._put_off(flight, error):
                return
            self._flights.reject(error, flight)
        if self._pool.sequencer is not None:
            await self._in_sender(
                self._flights.hand_in, flight, self._pool.sequencer, self._following
            )

    async def _call(self, flight: Flight) -> None:
        result = await self._within_time(self._function(flight.item))
        if self._following is None:
            self._flights.produced()
            self._flights.end(DELIVERED, flight)
        elif result is DROP:
            self._flights.end(DROPPED, flight)
        else:
            await self._pass_on(flight, result, True)

    async def _expand(self, flight: Flight) -> None:
        produced = self._function(flight.item)
        if self._judge.is_all_or_nothing:
            produced = _again(await self._within_time(_all_of(produced)))
        async for result in produced:
            if result is not DROP:
                await self._pass_on(flight, result, False)
        self._flights.end(DROPPED, flight, is_expanded=True)

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

    async def _pass_on(self, flight: Flight, result: Any, is_last: bool) -> None:
        """Let a result of an item go on, and the item with it if it is the last."""
        self._flights.produced()
        if self._pool.sequencer is not None:
            self._flights.keep(flight, result, is_last)
            return
        assert self._following is not None
        if self._unsent == 0 and self._following.has_room():
            self._flights.pass_on(flight, result, is_last, self._following)
        else:
            await self._in_sender(self._flights.pass_on, flight, result, is_last, self._following)

    async def _in_sender(self, function: Callable[..., None], *args: Any) -> None:
        """Run *function* to its end in the sender's thread, also when cancelled."""
        future = self._loop.create_future()
        self._unsent += 1
        self._calls.put((function, args, future))
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                if self._event_loop.strike is not None:
                    raise
        future.result()

    def _told(self, future: "asyncio.Future[None]", error: BaseException | None) -> None:
        """Take note that a call of the sender was made."""
        self._unsent -= 1
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


async def _all_of(results: AsyncIterator[Any]) -> list[Any]:
    """Return everything that is yielded."""
    return [result async for result in results]


async def _again(results: list[Any]) -> AsyncIterator[Any]:
    """Yield what was yielded before."""
    for result in results:
        yield result


def in_step(items: AsyncIterator[Any]) -> Iterator[Any]:
    """Iterate over *items* in an event loop that runs while the next one is awaited."""

    async def following() -> Any:
        return await anext(items)

    with EventLoop() as loop:
        while True:
            try:
                item = loop.run(following())
            except StopAsyncIteration:
                return
            yield item
