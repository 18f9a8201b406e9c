"""
The one place that starts threads, reads clocks and makes queues.

An engine takes its runtime as an argument, so that a test can put another one
in its place: one that counts threads, or whose clock it moves by hand.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._threads import Thread
from m3.engine.plan import QUEUE_SIZE, STRETCHED_QUEUE_SIZE

__all__ = ("Runtime",)

NAP = 0.001
"""Seconds by which an item may come later to the only worker of a stage, where many come fast."""


class Runtime:
    """Threads of the operating system, its monotonic clock, and m3's queues."""

    def spawn(
        self,
        target: Callable[[], object],
        name: str,
        last: Callable[[BaseException | None], object],
    ) -> threading.Thread:
        """
        Start a thread that runs *target*, and then *last*, whatever happens.

        It is a daemon, for the interpreter must be able to end while user code
        hangs; the engine waits for its threads itself, also at exit.

        Args:
            target: the body of the thread.
            name: of the thread.
            last: called with what *target* has raised, or None; again, if
                another thread has an exception raised in it.
        """
        thread = Thread(name, target, last)
        thread.start()
        return thread

    def monotonic(self) -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.monotonic()

    def thread_time(self) -> float:
        """Return the CPU seconds that the calling thread has used."""
        return time.thread_time()

    def process_time(self) -> float:
        """Return the CPU seconds that the process has used."""
        return time.process_time()

    def queue(self, maxsize: int | None, *, naps: bool = False) -> BoundedQueue[Any]:
        """
        Return a queue between two stages.

        Args:
            maxsize: for so many items; None lets it stretch.
            naps: its only consumer need not be woken for every single item.
        """
        nap = NAP if naps else 0
        if maxsize is not None:
            return BoundedQueue(maxsize, patient=True, naps=nap)
        stretch = STRETCHED_QUEUE_SIZE
        return BoundedQueue(QUEUE_SIZE, patient=True, stretch=stretch, naps=nap)

    def switch(self) -> Switch:
        """Return an event that may be set in a signal handler."""
        return Switch()
