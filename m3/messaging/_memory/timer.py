"""When something is due: a thread that is there while anything is."""

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import monotonic

from m3._parking import Bell

__all__ = ("Timer",)


class Timer:
    """
    Calls functions at their times, one after the other, in a thread of its own.

    The thread begins with the first of them, ends after the last, and sleeps in
    between.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bell = Bell()
        self._alarms: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        """Call *function* when the clock, :func:`time.monotonic`, says *when*."""
        with self._lock:
            if self._is_closed:
                return
            heappush(self._alarms, (when, next(self._numbers), function))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="m3-memory-bus-timer", daemon=True
                )
                self._thread.start()
            elif self._alarms[0][0] == when:
                self._bell.ring()

    def close(self) -> None:
        """Call nothing more, and wait for the end of the thread."""
        with self._lock:
            self._is_closed = True
            self._alarms.clear()
            thread = self._thread
        self._bell.ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._alarms:
                    self._thread = None
                    return
                wait = self._alarms[0][0] - monotonic()
                function = heappop(self._alarms)[2] if wait <= 0 else None
            if function is None:
                self._bell.wait(wait)
            else:
                function()
