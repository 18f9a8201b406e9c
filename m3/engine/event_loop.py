"""
An event loop that ends also when an exception was raised in its own code.

asyncio only logs what a callback raises, as it would what another thread has
raised in one of its own, and who waits for that callback waits for ever.  If
it is struck between two callbacks it ends, but what it was about to call is
lost: a task that waits for that never ends, and who waits for all tasks, as
:func:`asyncio.run` does, never ends either.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self, TypeVar

__all__ = ("EventLoop",)

Result = TypeVar("Result")

LAST_WORDS = 1.0
"""So many seconds have the tasks of a loop that was struck to end when they are cancelled."""


class EventLoop:
    """
    An event loop for the calling thread; ``with`` closes it.

    Attributes:
        strike: what was raised in its code, or in a callback; None while all is well.
    """

    def __init__(self) -> None:
        self.strike: BaseException | None = None
        self._runner = asyncio.Runner()

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run *main* to its end, and return or raise what it does; or raise the strike."""
        loop = self._runner.get_loop()
        loop.set_exception_handler(self._handle)
        task = loop.create_task(main)
        try:
            result = loop.run_until_complete(task)
        except BaseException as error:
            if not task.done():
                self.strike = self.strike or error
            if self.strike is None:
                raise
        if self.strike is not None:
            raise self.strike
        return result

    def break_off(self, error: BaseException) -> None:
        """Take *error* for a strike, and end :meth:`run` at once; for a callback of the loop."""
        self.strike = self.strike or error
        self._runner.get_loop().stop()

    def close(self) -> None:
        """Cancel the tasks that are left, wait for their end, and close the loop, if it is not."""
        if self.strike is None:
            self._runner.close()
            return
        loop = self._runner.get_loop()
        if loop.is_closed():
            return
        with suppress(RuntimeError):  # it takes itself to be running, or stops again
            self._end_tasks(loop)
        loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or "handle" not in context or self.strike is not None:
            loop.default_exception_handler(context)
        else:
            self.break_off(error)

    def _end_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_WORDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
