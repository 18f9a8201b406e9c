"""Threads that the extensions of a service begin, whose errors are errors of the service."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from m3._stacks import formatted, frames_of
from m3.errors import AbandonedError
from m3.services.errors import ServiceStateError

__all__ = ("ManagedThreads",)

logger = logging.getLogger("m3.services")

PATIENCE = 5.0
"""Seconds that a stop waits for them to end; then they are left behind."""


class ManagedThreads:
    """
    Begins threads, and waits for them at the end.

    One that has ended because the service, which stops, makes no more of its calls has
    ended well.

    Args:
        fail: called with what a thread has raised.
    """

    def __init__(self, fail: Callable[[Exception], object]) -> None:
        self._fail = fail
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._joined: set[threading.Thread] = set()
        self._are_left = False
        self._are_over = False

    def spawn(self, function: Callable[[], object], name: str) -> threading.Thread:
        """
        Call *function* in a thread of that name.

        Raises:
            ServiceStateError: the service has stopped, and nobody would wait for it.
        """
        thread = threading.Thread(target=self._run, args=(function,), name=name, daemon=True)
        with self._lock:
            if self._are_over:
                raise ServiceStateError("the service has stopped and begins no more threads")
            thread.start()
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        return thread

    def is_one(self, thread: threading.Thread) -> bool:
        """Return whether *thread* is one of them."""
        with self._lock:
            return thread in self._threads

    def leave(self) -> None:
        """Do not wait for them at the end."""
        self._are_left = True

    def join(self) -> None:
        """Wait for all to end, those that others begin meanwhile too; say where the rest is."""
        until = time.monotonic() + (0.0 if self._are_left else PATIENCE)
        while (thread := self._next(until)) is not None:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                where = formatted(frames_of(thread))
                logger.warning("thread %s does not end and is left behind:\n%s", thread.name, where)

    def _next(self, until: float) -> threading.Thread | None:
        """Return one that was not waited for; no more begin if there is none, or after *until*."""
        with self._lock:
            left = (each for each in self._threads if each not in self._joined)
            thread = next(left, None)
            if thread is not None:
                self._joined.add(thread)
            self._are_over = thread is None or time.monotonic() >= until
        return thread

    def _run(self, function: Callable[[], object]) -> None:
        try:
            with suppress(ServiceStateError, AbandonedError):
                function()
        except Exception as error:
            self._fail(error)
