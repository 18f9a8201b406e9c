"""Measure how long an item takes from the source to the sink when there is no hurry."""

import statistics
import time
from collections.abc import Iterator

from benchmarks import systems
from benchmarks.figures import Figures
from benchmarks.workloads import Job, identity

__all__ = ("measure",)

INTERVAL = 0.001


def measure(*, system: str, count: int | None = None, seconds: float = 2.0) -> Figures:
    """
    Send items through three stages, one every millisecond, for so many *seconds*.

    Returns:
        The median ``p50`` and the 99th percentile ``p99``, in seconds.
    """
    count = count or max(100, round(seconds / INTERVAL))
    latencies: list[int] = []

    def arrive(sent: int) -> None:
        latencies.append(time.perf_counter_ns() - sent)

    chosen = systems.load(system)
    cpu_before = time.process_time()
    chosen.run(Job(count, stamps, identity, arrive))
    cpu = time.process_time() - cpu_before
    percentiles = statistics.quantiles(latencies, n=100)
    return {
        "count": count,
        "p50": percentiles[49] / 1e9,
        "p99": percentiles[98] / 1e9,
        "cpu": cpu / count,
    }


def stamps(count: int) -> Iterator[int]:
    """Yield the time, *count* times, one every millisecond."""
    due = time.perf_counter()
    for _ in range(count):
        due += INTERVAL
        time.sleep(max(0.0, due - time.perf_counter()))
        yield time.perf_counter_ns()
