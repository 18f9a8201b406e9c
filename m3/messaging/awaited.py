"""What a thread waits for while it reads what may bring it."""

from collections.abc import Callable

from m3._parking import Switch

__all__ = ("Awaited",)


class Awaited(Switch):
    """
    A switch for which a thread may wait without sleeping on it.

    Attributes:
        alarm: called after it was turned on, to wake such a thread; None while there is none.
    """

    alarm: Callable[[], object] | None = None

    def turn_on(self) -> None:
        """Turn it on and wake everybody who waits for it."""
        super().turn_on()
        if (alarm := self.alarm) is not None:
            alarm()
