"""Whether a region is worth a call at the moment."""

import threading
import time
from collections.abc import Callable

__all__ = ("Circuit",)

FAILURES = 3
PAUSE = 30.0


class Circuit:
    """
    A circuit breaker: after three failures in a row, a region is left alone.

    It is *closed* while calls succeed, *open* for 30 seconds after the third failure,
    and then *half-open*: one call in 30 seconds may try, and its success closes it
    (M. Nygard, Release It!, 2nd edition, chapter 5).

    Threads may share it.

    Args:
        clock: what says the time, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened = 0.0
        self._error: Exception | None = None

    @property
    def error(self) -> Exception | None:
        """How the latest call failed; None if it did not."""
        return self._error

    @property
    def state(self) -> str:
        """``"closed"``, ``"open"`` or ``"half-open"``."""
        with self._lock:
            if self._failures < FAILURES:
                return "closed"
            return "open" if self._clock() - self._opened < PAUSE else "half-open"

    def allows(self) -> bool:
        """Return whether to call now; where it is half-open, that is true for one caller."""
        now = self._clock()
        with self._lock:
            if self._failures < FAILURES:
                return True
            if now - self._opened < PAUSE:
                return False
            self._opened = now
            return True

    def succeeded(self) -> None:
        """Note a call that was answered."""
        with self._lock:
            self._failures = 0
            self._error = None

    def failed(self, error: Exception) -> None:
        """Note a call that failed because of the region, not because of what was asked."""
        with self._lock:
            self._failures += 1
            self._error = error
            if self._failures >= FAILURES:
                self._opened = self._clock()
