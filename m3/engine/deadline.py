"""Until when a stop may take, and when it has to give up what is queued to keep that."""

from m3.engine.plan import grace_of
from m3.engine.runtime import Runtime

__all__ = ("Deadline",)


class Deadline:
    """
    The deadline of a stop, on the monotonic clock of *runtime*; none before it is set.

    Attributes:
        seconds: how long the stop may take.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.seconds = 0.0
        self._runtime = runtime
        self._end: float | None = None
        self._abort_at: float | None = None

    def set(self, seconds: float) -> None:
        """Let the stop take so many seconds from now."""
        self.seconds, now = seconds, self._runtime.monotonic()
        self._abort_at = now + seconds - grace_of(seconds)
        self._end = now + seconds

    def is_set(self) -> bool:
        """Return whether there is one."""
        return self._end is not None

    def left(self) -> float | None:
        """Return the seconds until the deadline, 0 after it, None if there is none."""
        return None if self._end is None else max(0.0, self._end - self._runtime.monotonic())

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return self.left() == 0

    def is_time_to_abort(self) -> bool:
        """Return whether draining has taken too long."""
        return self._abort_at is not None and self._runtime.monotonic() >= self._abort_at

    def patience(self, until: float | None, is_aborting: bool) -> float | None:
        """Return how long to wait before there is something to do, *until* then at most."""
        next_step = self._end if is_aborting else self._abort_at
        moments = [moment for moment in (next_step, until) if moment is not None]
        return max(0.0, min(moments) - self._runtime.monotonic()) if moments else None
