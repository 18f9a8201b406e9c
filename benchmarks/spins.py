"""Measure how long a turn of the spinning workload's loop takes on this interpreter."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from benchmarks.figures import Figures
from benchmarks.workloads import spinner

__all__ = ("measure",)

SECONDS = 5e-6
# About as many as will be needed: turns over 256 make a new int each and take longer.
TURNS = 350
TRIES = 20_000


def measure() -> Figures:
    """Return how many turns take 5 µs, as ``spins``."""
    spin = spinner(TURNS)
    best = min(seconds_of(spin) for _ in range(TRIES))
    return {"spins": max(1, round(TURNS * SECONDS / best))}


def seconds_of(function: Callable[[Any], Any]) -> float:
    """Return how long one call takes."""
    began = perf_counter()
    function(None)
    return perf_counter() - began
