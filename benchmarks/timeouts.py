"""Measure what a timeout costs, and what a call that never returns costs the others."""

import threading
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any

from benchmarks.figures import Figures, fitting_count
from benchmarks.pipelines import figures_of
from benchmarks.workloads import numbers
from m3 import Pipeline

__all__ = ("CASES", "NAP", "TIMEOUT", "WORKERS", "measure")

WORKERS = 8
NAP = 0.002
TIMEOUT = 0.05

CASES = {
    "none": "no timeout",
    "timeout": "a timeout, and all in time",
    "stuck": "the same, and one call that never returns",
}
"""What the calls have as their timeout, and whether one of them is over it."""


def measure(*, case: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """
    Run a pipeline whose items each sleep for :data:`NAP` seconds, as *case* says.

    The rate is that of the items that come through, up to the last of them;
    waiting for the stuck one until its time is over is not the others' affair.
    """

    def seconds_for(items: int) -> float:
        return run(case, items)

    count = count or fitting_count(seconds_for, seconds, first=4 * WORKERS)
    return figures_of(seconds_for, count)


def run(case: str, count: int) -> float:
    """Run so many items that come through; return after how many seconds the last one did."""
    release = threading.Event()
    ends: list[float] = []
    is_one_stuck = case == "stuck"
    stuck = count // 2 if is_one_stuck else None
    described = Pipeline(numbers(count + is_one_stuck)).transport(
        work(stuck, release),
        workers=WORKERS,
        timeout=None if case == "none" else TIMEOUT,
        on_error="skip",
    )
    began = perf_counter()
    report = described.backend(lambda _: ends.append(perf_counter())).run()
    release.set()
    if (report.delivered, report.failed) != (count, is_one_stuck):
        raise RuntimeError(f"{count} items went in, {report.delivered} came out")
    return ends[-1] - began


def work(stuck: int | None, release: threading.Event) -> Callable[[Any], Any]:
    """Return what each item is called with: it sleeps, and on the item *stuck* for ever."""

    def nap(item: Any) -> Any:
        if item == stuck:
            release.wait()
        time.sleep(NAP)
        return item

    return nap
