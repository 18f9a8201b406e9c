"""A clock whose time a test moves by hand."""

import threading

from m3.services.clock import Alarm, Clock

__all__ = ("FakeClock",)


class FakeAlarm(Alarm):
    """A wait on a fake clock."""

    def __init__(self, clock: "FakeClock") -> None:
        self._clock = clock

    def wait(self, due: float) -> bool:
        """Block until the clock was moved to *due*."""
        return self._clock.sleep(self, due)

    def cancel(self) -> None:
        """End this wait, and all that follow."""
        self._clock.cancel(self)


class FakeClock(Clock):
    """
    Stands still until a test moves it; give it to a runner or a container.

    A timer waits for its next time when its call has ended, so a test that lets all
    of them wait before it moves the clock leaves no time out.

    Args:
        now: the seconds since 1970 that it shows first.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._start = now
        self._elapsed = 0.0
        self._changed = threading.Condition()
        self._alarms: set[FakeAlarm] = set()
        self._sleeping: dict[FakeAlarm, float] = {}

    def time(self) -> float:
        """Return the seconds since 1970 that it shows."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return by how many seconds it was moved."""
        return self._elapsed

    def alarm(self) -> Alarm:
        """Return what a thread can wait on until a time of it."""
        alarm = FakeAlarm(self)
        with self._changed:
            self._alarms.add(alarm)
        return alarm

    def advance(self, seconds: float) -> None:
        """Move it in one step; what is due by then wakes."""
        with self._changed:
            self._move(self._elapsed + seconds)

    def run(self, seconds: float, timeout: float = 30.0) -> None:
        """
        Move it from each time that a timer waits for to the next, and let the calls end between.

        So nothing is left out that is due within *seconds*, and all timers wait again
        when it returns.

        Raises:
            TimeoutError: a timer does not wait again, for *timeout* real seconds.
        """
        end = self._elapsed + seconds
        while True:
            with self._changed:
                self._await(None, timeout)
                due = min(self._sleeping.values(), default=end)
                if due > end:
                    self._move(max(end, self._elapsed))  # a call may have moved it, too
                    return
                self._move(due)

    def await_sleepers(self, count: int | None = None, timeout: float = 30.0) -> None:
        """
        Block until threads wait for times that are still to come.

        Args:
            count: how many; None for all timers that were started and not stopped.
            timeout: how many real seconds it may take.

        Raises:
            TimeoutError: they do not wait by then.
        """
        with self._changed:
            self._await(count, timeout)

    def sleep(self, alarm: FakeAlarm, due: float) -> bool:
        """Block until *due*; return false if *alarm* was cancelled."""
        with self._changed:
            if due > self._elapsed and alarm in self._alarms:
                self._sleeping[alarm] = due
                self._changed.notify_all()
                self._changed.wait_for(lambda: alarm not in self._sleeping)
            return alarm in self._alarms

    def cancel(self, alarm: FakeAlarm) -> None:
        """Wake *alarm*, now and whenever it is to wait."""
        with self._changed:
            self._alarms.discard(alarm)
            self._sleeping.pop(alarm, None)
            self._changed.notify_all()

    def _move(self, elapsed: float) -> None:
        self._elapsed = elapsed
        self._sleeping = {alarm: due for alarm, due in self._sleeping.items() if due > elapsed}
        self._changed.notify_all()

    def _await(self, count: int | None, timeout: float) -> None:
        def missing() -> int:
            wanted = max(1, len(self._alarms)) if count is None else count
            return wanted - len(self._sleeping)

        if not self._changed.wait_for(lambda: missing() <= 0, timeout):
            raise TimeoutError(f"{len(self._sleeping)} timers wait, {missing()} more were to")
