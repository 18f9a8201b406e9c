"""Until when a stop may take, and when it has to give up what is queued to keep that."""

from typing import NamedTuple

from m3.engine.plan import grace_of
from m3.engine.runtime import Runtime

__all__ = ("Deadline",)


class Moments(NamedTuple):
    """When the time of a stop is over, how many *seconds* that was, and when to give up before."""

    end: float
    abort_at: float
    seconds: float


class Deadline:
    """
    The deadline of a stop, on the monotonic clock of *runtime*; none before it is set.

    It may be set several times, by any thread and by a signal handler: the
    earliest counts, so that everybody who has set one can keep it.

    Args:
        runtime: has the clock.
        default: seconds of a stop of which nobody says how long it may take.
    """

    def __init__(self, runtime: Runtime, default: float) -> None:
        self._runtime = runtime
        self._default = default
        self._given: list[Moments] = []
        self._by_default: list[Moments] = []

    def set(self, seconds: float | None) -> None:
        """Let the stop take so many seconds from now; None leaves the deadline that there is."""
        if seconds is not None:
            self._given.append(self._moments(seconds))
        elif self._current() is None:
            self._by_default.append(self._moments(self._default))

    @property
    def seconds(self) -> float:
        """How long the stop may take."""
        current = self._current()
        return 0.0 if current is None else current.seconds

    def left(self) -> float | None:
        """Return the seconds until the deadline, 0 after it, None if there is none."""
        current = self._current()
        return None if current is None else max(0.0, current.end - self._runtime.monotonic())

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return self.left() == 0

    def is_time_to_abort(self) -> bool:
        """Return whether draining has taken too long."""
        current = self._current()
        return current is not None and self._runtime.monotonic() >= current.abort_at

    def patience(self, until: float | None, is_aborting: bool) -> float | None:
        """Return how long to wait before there is something to do, *until* then at most."""
        moments = [] if until is None else [until]
        if (current := self._current()) is not None:
            moments.append(current.end if is_aborting else current.abort_at)
        return max(0.0, min(moments) - self._runtime.monotonic()) if moments else None

    def _current(self) -> Moments | None:
        return min(self._given or self._by_default, default=None)

    def _moments(self, seconds: float) -> Moments:
        now = self._runtime.monotonic()
        return Moments(now + seconds, now + seconds - grace_of(seconds), seconds)
