"""Measure how long it takes to get from the id of a backend to its class, or to its instance."""

import importlib
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from benchmarks.figures import Figures, fitting_count

__all__ = ("WAYS", "measure")

WAYS = {
    "dict": "a dictionary of classes",
    "get_class": "m3, Pool.get_class(id)",
    "instance": "m3, pool[id]",
    "ramos": "Ramos, Pool.get_class(id)",
}
"""Every way: how :func:`measure` knows it, and what to call it in a table."""


class Backend:
    """What all backends have."""

    @classmethod
    def create(cls) -> "Backend":
        return cls()


BACKENDS = [
    type(f"Backend{number}", (Backend,), {"id": f"backend{number}"}) for number in range(10)
]
globals().update({backend.__name__: backend for backend in BACKENDS})
PATHS = [f"{__name__}.{backend.__name__}" for backend in BACKENDS]
WANTED = "backend5"


def measure(*, way: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """
    Look one of ten backends up, again and again; the first time is not counted.

    Returns:
        ``each``, the seconds for one, beside the usual figures.
    """
    find = finder(way)
    find(WANTED)

    def seconds_for(times: int) -> float:
        began = perf_counter()
        for _ in range(times):
            find(WANTED)
        return perf_counter() - began

    count = count or fitting_count(seconds_for, seconds)
    cpu_before = process_time()
    wall = seconds_for(count)
    return {
        "count": count,
        "rate": count / wall,
        "wall": wall,
        "cpu": (process_time() - cpu_before) / count,
        "each": wall / count,
    }


def finder(way: str) -> Callable[[str], Any]:
    """Return what finds a backend by its id."""
    if way == "dict":
        return {backend.id: backend for backend in BACKENDS}.__getitem__
    library = importlib.import_module("ramos" if way == "ramos" else "m3.pools")
    library.configure(pools={"benchmark": PATHS})
    pools = importlib.import_module("ramos.pool") if way == "ramos" else library
    pool = type("Pool", (pools.BackendPool,), {"backend_type": "benchmark"})
    return pool().__getitem__ if way == "instance" else pool.get_class
