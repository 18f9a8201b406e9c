"""How fast a region is called once it has asked to be called more slowly."""

import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ("THROTTLED", "Limiter")

THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""The codes by which services ask for fewer requests, those of botocore's standard mode."""

KEPT = 0.7
GROWTH = 0.4
SLOWEST = 1.0
ROUND = 1.0


class Limiter:
    """
    One limit for all who call a service in a region.

    There is none until the service throttles.  Then the requests go on at 0.7 of
    the rate at which answers came, and the limit grows with the time as CUBIC has it
    (RFC 9438, with its constants, in requests per second): fast at first, slowly
    around the rate at which the service throttled, faster again beyond; at twice
    that rate it is lifted.  Each further throttling after a second lowers it anew.

    botocore's own mode ``adaptive`` limits each client in the same way, but begins at
    half a request per second when the first throttling comes early.

    Threads may share it.

    Args:
        clock: what says the time, in seconds.
        sleep: what waits for so many seconds.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._answers: deque[float] = deque(maxlen=64)
        self._peak = 0.0
        self._since: float | None = None
        self._tokens = 0.0
        self._filled = 0.0

    @property
    def rate(self) -> float | None:
        """Requests per second that are let through now; None for any number."""
        with self._lock:
            return self._rate(self._clock())

    def acquire(self) -> None:
        """Wait until one more request may be sent; at once where there is no limit."""
        while delay := self._delay():
            self._sleep(delay)

    def succeeded(self) -> None:
        """Note an answer."""
        self._answers.append(self._clock())

    def slow_down(self) -> None:
        """Note that the service has throttled a request, or parts of a batch."""
        now = self._clock()
        with self._lock:
            if self._since is not None and now - self._since < ROUND:
                return  # an answer to what was sent before
            current = self._rate(now)
            seen = self._goodput(now)
            self._peak = max(SLOWEST, seen if current is None else min(seen, current))
            self._since = self._filled = now
            self._tokens = 0.0

    def _delay(self) -> float:
        """Take a token and return 0, or the seconds until there may be one."""
        if self._since is None:
            return 0.0
        with self._lock:
            now = self._clock()
            rate = self._rate(now)
            if rate is None:
                self._since = None
                return 0.0
            self._tokens = min(max(1.0, rate), self._tokens + (now - self._filled) * rate)
            self._filled = now
            if self._tokens >= 1.0 - 1e-9:  # rounding
                self._tokens -= 1.0
                return 0.0
            return (1.0 - self._tokens) / rate

    def _rate(self, now: float) -> float | None:
        if self._since is None:
            return None
        level = ((1 - KEPT) * self._peak / GROWTH) ** (1 / 3)
        rate = GROWTH * (now - self._since - level) ** 3 + self._peak
        return rate if rate < 2 * self._peak else None

    def _goodput(self, now: float) -> float:
        """Return the answers per second of late."""
        if len(self._answers) < 2:
            return 0.0
        return len(self._answers) / max(now - self._answers[0], 0.001)
