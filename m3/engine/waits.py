"""Waits for an end, given up at a deadline that may come nearer meanwhile."""

from collections.abc import Callable

from m3._parking import Bell
from m3.engine.deadline import Deadline

__all__ = ("Waits",)


class Waits:
    """
    The waits of several threads, each for an end of its own.

    Whoever brings about an end, or sets the deadline, says so by :meth:`tell`,
    in any thread or in a signal handler: no lock is taken.

    Attributes:
        deadline: no wait lasts longer, once it is set.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._bells: list[Bell] = []
        self.deadline = deadline

    def tell(self) -> None:
        """Have all who wait look again."""
        for bell in tuple(self._bells):
            bell.ring()

    def until(
        self, is_over: Callable[[], bool], patience: Callable[[], float | None] | None = None
    ) -> bool:
        """
        Block until *is_over* returns true; false if there is no more time.

        Args:
            is_over: looks whether there is nothing to wait for any more.
            patience: returns how many seconds there are, None if there is no limit;
                asked again whenever there is news.  By default those to the deadline.
        """
        patience = patience or self.deadline.left
        bell = Bell()
        self._bells.append(bell)
        try:
            while not is_over():
                if (seconds := patience()) == 0:
                    return False
                bell.wait(seconds)
            return True
        finally:
            self._bells.remove(bell)
