"""Waiting for what is being set up, as long as there is time."""

from collections.abc import Iterable
from contextlib import suppress

from m3.engine.deadline import Deadline
from m3.engine.runtime import Runtime
from m3.errors import Empty

__all__ = ("Setups",)


class Setups:
    """
    Takes note of whose setup is over, and lets one thread wait for it.

    Args:
        runtime: makes a queue.
        deadline: no wait lasts longer, once it is set.
    """

    def __init__(self, runtime: Runtime, deadline: Deadline) -> None:
        self._over = runtime.queue(0)
        self._deadline = deadline

    def tell(self, who: object = None) -> None:
        """Take note that the setup of *who* is over, or have the deadline looked at."""
        self._over.put(who)

    def await_all(self, those: Iterable[object]) -> set[object]:
        """Block until the setups of *those* are over; return those that are not in time."""
        missing = set(those)
        while missing and self._deadline.left() != 0:
            with suppress(Empty):
                missing.discard(self._over.get(timeout=self._deadline.left()))
        return missing
