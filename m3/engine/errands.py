"""Calls that other threads want made in a worker's own thread, between two of its items."""

from collections.abc import Callable
from typing import Any

from m3._queue import BoundedQueue
from m3._steps import Aborted
from m3.engine.runtime import Runtime
from m3.errors import AbandonedError, Empty, ShutDown

__all__ = ("Errand", "Errands")


class Errand:
    """
    One call, and what came of it.

    Attributes:
        result: what the function returned.
        error: what it raised.
    """

    def __init__(self, function: Callable[[], Any], runtime: Runtime) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._done = runtime.switch()

    def make(self) -> None:
        """Make the call, unless it was given up; what it raises is kept."""
        if self.is_over():
            return
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error
        finally:
            self._done.turn_on()

    def give_up(self) -> None:
        """Let nobody wait any longer for a call that is not going to be made."""
        if not self._done.is_on():
            self.error = AbandonedError("the run ended before a worker could do it")
            self._done.turn_on()

    def is_over(self) -> bool:
        """Return whether the call was made, or given up."""
        return self._done.is_on()

    def wait(self) -> Any:
        """Block until the call was made; return or raise what it did."""
        self._done.wait()
        if self.error is not None:
            raise self.error
        return self.result


class Errands:
    """
    The errands of one worker.

    Attributes:
        wake: has the worker call :meth:`do` soon, while it works; None before it does.
        is_idle: the worker does nothing but wait for errands.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.wake: Callable[[], None] | None = None
        self.is_idle = False
        self._runtime = runtime
        self._open: BoundedQueue[Errand] = BoundedQueue()
        self._posted: list[Errand] = []

    def post(self, function: Callable[[], Any]) -> Errand:
        """Have *function* called in the worker's thread; returns at once.  For one thread."""
        errand = Errand(function, self._runtime)
        self._posted = [errand, *(each for each in self._posted if not each.is_over())]
        try:
            self._open.put(errand)
        except ShutDown:
            errand.give_up()
        if self.wake is not None:
            self.wake()
        return errand

    def do(self) -> None:
        """
        Do what there is; called by the worker, between two items.

        Raises:
            Aborted: the worker is to end, for one of them has gone over the time of its stage, or
                the run is over.
        """
        while True:
            try:
                errand = self._open.get_nowait()
            except (Empty, ShutDown):
                return
            errand.make()
            if isinstance(errand.error, Aborted):
                raise errand.error

    def serve(self) -> None:
        """Do what there is and what comes, until :meth:`release`; called by the worker."""
        while True:
            self.is_idle = True
            try:
                errand = self._open.get()
            except ShutDown:
                return
            finally:
                self.is_idle = False
            errand.make()

    def release(self) -> None:
        """Take no more; the worker does what there is and goes on."""
        self._open.shutdown()

    def give_up(self) -> None:
        """Let nobody wait for what was posted and not done so far."""
        for errand in self._posted:
            errand.give_up()

    def close(self) -> None:
        """Take no more, and do no more."""
        self.release()
        self.give_up()
