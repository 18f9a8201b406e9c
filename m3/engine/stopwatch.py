"""How long a run takes."""

from m3.engine.runtime import Runtime

__all__ = ("Stopwatch",)


class Stopwatch:
    """
    Seconds of the clock and of the CPU, from a start to a stop.

    Args:
        runtime: reads the clocks.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._began: tuple[float, float] | None = None
        self._ended: tuple[float, float] | None = None

    def start(self) -> None:
        """Count from now on."""
        self._began = self._now()

    def stop(self) -> None:
        """Count no further."""
        self._ended = self._now()

    def read(self) -> tuple[float, float]:
        """Return the seconds so far: of the clock, and of the process's CPU."""
        if self._began is None:
            return 0.0, 0.0
        wall, cpu = self._ended or self._now()
        return wall - self._began[0], cpu - self._began[1]

    def _now(self) -> tuple[float, float]:
        return self._runtime.monotonic(), self._runtime.process_time()
