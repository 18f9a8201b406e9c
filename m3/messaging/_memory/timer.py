"""When something is due: a thread that is there while anything is."""

import logging
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import monotonic

from m3._parking import Bell

__all__ = ("Timer",)

log = logging.getLogger("m3.messaging.memory")


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
        """
        Call *function* when the clock, :func:`time.monotonic`, says *when*.

        Raises:
            RuntimeError: there can be no thread, and it is not called.
        """
        with self._lock:
            if self._is_closed:
                return
            if self._thread is None:
                self._thread = self._started()
            heappush(self._alarms, (when, next(self._numbers), function))
            if self._alarms[0][0] == when:
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

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="m3-memory-bus-timer", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return  # who started it was interrupted then
                if not self._alarms:
                    self._thread = None
                    return
                wait = self._alarms[0][0] - monotonic()
                function = heappop(self._alarms)[2] if wait <= 0 else None
            if function is None:
                self._bell.wait(wait)
            else:
                self._call(function)

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:  # the others are due all the same
            log.exception("what was due has failed")
