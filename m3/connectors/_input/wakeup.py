"""
A wait for input that another thread can end.

The descriptor is polled together with a pipe of our own, into which
:meth:`Wakeup.set` writes.
"""

import os
import select
import threading
from collections.abc import Callable

__all__ = ("Wakeup",)


class Wakeup:
    """
    Ends waits for input, from any thread and from signal handlers.

    Once set it stays set, until it is opened anew.
    """

    def __init__(self) -> None:
        # A signal handler may interrupt the thread that holds it, and set.
        self._lock = threading.RLock()
        self._is_set = False
        self._pipe: tuple[int, int] | None = None

    def open(self) -> None:
        """Take the two descriptors that a wait needs."""
        with self._lock:
            self._is_set = False
            self._pipe = os.pipe()

    def close(self) -> None:
        """Release the descriptors; nobody may be waiting."""
        with self._lock:
            if self._pipe is not None:
                for descriptor in self._pipe:
                    os.close(descriptor)
            self._pipe = None

    def set(self) -> None:
        """End the wait there is, and all that would follow."""
        with self._lock:
            if self._pipe is not None and not self._is_set:
                self._is_set = True
                os.write(self._pipe[1], b"!")

    def is_set(self) -> bool:
        """Say whether it was set since it was opened."""
        return self._is_set

    def wait_for(self, descriptor: int) -> Callable[[], bool]:
        """
        Return what blocks until *descriptor* is readable or the wakeup is set.

        It returns whether to go on reading.
        """
        assert self._pipe is not None, "the wakeup is not open"
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._pipe[0], select.POLLIN)

        def wait() -> bool:
            poll.poll()
            return not self._is_set

        return wait

    def wait(self, seconds: float) -> bool:
        """Block for *seconds*, or until the wakeup is set; return whether it is."""
        assert self._pipe is not None, "the wakeup is not open"
        poll = select.poll()
        poll.register(self._pipe[0], select.POLLIN)
        poll.poll(seconds * 1000)
        return self._is_set
