"""What timers go by; a test gives a container another one, whose time it moves by hand."""

import time

from m3._parking import Switch

__all__ = ("Alarm", "Clock")


class Alarm:
    """A wait of one thread until a time, which another thread can end."""

    def __init__(self) -> None:
        self._cancelled = Switch()

    def wait(self, due: float) -> bool:
        """Block until *due*, on the monotonic clock; return False at once when cancelled."""
        return not self._cancelled.wait(max(0.0, due - time.monotonic()))

    def cancel(self) -> None:
        """End this wait, and all that follow."""
        self._cancelled.turn_on()


class Clock:
    """The clocks of the machine."""

    def time(self) -> float:
        """Return the seconds since 1970, which may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.monotonic()

    def alarm(self) -> Alarm:
        """Return what a thread can wait on until a time of :meth:`monotonic`."""
        return Alarm()
