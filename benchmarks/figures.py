"""What a measurement is made of."""

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

__all__ = ("Figures", "fitting_count", "together")

Figures = dict[str, Any]
"""What one run gave: ``rate`` in items per second, ``cpu`` in seconds per item, and so on."""


def fitting_count(
    seconds_for: Callable[[int], float],
    seconds: float,
    *,
    first: int = 64,
    most: int | None = None,
) -> int:
    """
    Return how many items take about *seconds*, found by trying more and more.

    What the first few take counts as the cost of a start, and is subtracted.
    A long time is measured again, for it may have been somebody else's.

    Args:
        seconds_for: runs so many items and returns how long that took.
        seconds: how long the run should be.
        first: how many to begin with.
        most: the most items to return.
    """

    def least(items: int) -> float:
        return min(seconds_for(items), seconds_for(items))

    start = least(first)
    count = 3 * first
    while True:
        took = seconds_for(count) - start
        if took >= seconds / 2:
            took = min(took, least(count) - start)
        if took >= seconds / 2 or (most is not None and count >= most):
            break
        count *= 3
    fitting = max(first, round(count * seconds / max(took, seconds / 2)))
    return fitting if most is None else min(fitting, most)


def together(*targets: Callable[[], None]) -> float:
    """Run each of *targets* in a thread; return how many seconds all took."""
    threads = [threading.Thread(target=target) for target in targets]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return perf_counter() - began
