"""The threads that an async worker has beside its event loop."""

import threading
from collections.abc import Callable

from m3._parking import Switch
from m3.engine.runtime import Runtime

__all__ = ("Beside",)

Last = Callable[[BaseException | None], object]
"""The last act of a thread, which is called with what has ended it, or None."""


class Beside:
    """Threads that are waited for at the end, also by a worker that was cut short."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._is_over = False
        self._ends: list[Switch] = []
        self._threads: list[threading.Thread] = []

    def start(self, body: Callable[[], object], name: str, last: Last) -> None:
        """
        Start a thread; see :meth:`~m3.engine.runtime.Runtime.spawn`.

        Raises:
            RuntimeError: there can be no further thread.
        """
        ended = self._runtime.switch()

        def begin() -> None:
            self._ends.append(ended)
            if not self._is_over:
                body()

        def end(error: BaseException | None) -> None:
            last(error)
            ended.turn_on()

        self._threads.append(self._runtime.spawn(begin, name, end))

    def join(self) -> None:
        """Let none begin any more, and block until those that have are at their end."""
        self._is_over = True
        for ended in self._ends:
            ended.wait()
        for thread in self._threads:
            thread.join()
