"""What several threads use, closed at a deadline by whoever of them is the last."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from m3._threads import Among, Held

__all__ = ("CLOSING", "LEAST", "LastOut")

LEAST = 0.5
"""Seconds that one who uses it is waited for in any case: a write takes as long on a slow disk."""

CLOSING = 5 * LEAST
"""Seconds in which a run closes, at its deadline, the few stores that it has."""


class LastOut:
    """
    Calls *close* once, when nobody uses what it closes.

    One thread at a time uses it.

    Attributes:
        is_closed: whether it is closed, or is going to be by who still uses it.
    """

    def __init__(self, close: Callable[[], object]) -> None:
        self.is_closed = False
        self._users: list[object] = []
        self._close_it: Callable[[], object] | None = close
        self._turn = threading.RLock()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Have it to oneself in a ``with`` block; blocks while another thread has it."""
        try:
            with self._turn, Among(self._users, self):
                yield
        finally:
            if self.is_closed:
                self.close(0.0)

    def close(self, seconds: float | None = None) -> bool:
        """
        Close it, or leave that to a thread that uses it for longer than so many *seconds*.

        Returns:
            False if it is left to another; only the first time.
        """
        was_closed, self.is_closed = self.is_closed, True
        patience = -1.0 if seconds is None else max(seconds, LEAST)
        with Held(self._turn, 0.0 if was_closed and seconds is not None else patience) as is_mine:
            is_alone = is_mine and not self._users  # but a signal handler's own thread
            if is_alone:
                self._close_once()
        return is_alone or was_closed

    def _close_once(self) -> None:
        close = self._close_it
        try:
            if close is not None:
                close()
        except Exception:
            self._close_it = None
            raise
        self._close_it = None  # not before, for a signal handler may cut it short
