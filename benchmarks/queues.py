"""Measure queues alone: one thread, pairs of threads, and records."""

import importlib
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from benchmarks.figures import Figures, fitting_count, together

__all__ = ("QUEUES", "measure")

SIZE = 1024

QUEUES = {
    "SimpleQueue": "queue.SimpleQueue",
    "Queue": "queue.Queue",
    "BoundedQueue": "m3.BoundedQueue",
    "culsans": "culsans.Queue",
}
"""Every queue: how :func:`measure` knows it, and what to call it in a table."""


def measure(*, queue: str, pairs: int, count: int | None = None, seconds: float = 0.5) -> Figures:
    """
    Move items through a queue and return how fast.

    Args:
        queue: a key of :data:`QUEUES`.
        pairs: how many threads put and how many get; 0 does both in one
            thread, in turn.
        count: how many items; by default as many as take about *seconds*.
        seconds: how long the run should be.
    """
    make = maker(queue)

    def seconds_for(items: int) -> float:
        return in_turn(make(), items) if pairs == 0 else between_threads(make(), pairs, items)

    if count is None:
        count = fitting_count(seconds_for, seconds, first=1024)
    cpu_before = process_time()
    wall = seconds_for(count)
    return {
        "count": count,
        "rate": count / wall,
        "wall": wall,
        "cpu": (process_time() - cpu_before) / count,
    }


def maker(name: str) -> Callable[[], Any]:
    """Return what makes an empty queue of the kind called *name*, bounded where it can be."""
    if name == "BoundedQueue":
        bounded = importlib.import_module("m3._queue").BoundedQueue
        return lambda: bounded(SIZE)
    if name == "culsans":
        culsans = importlib.import_module("culsans")
        return lambda: culsans.Queue(SIZE).sync_q
    kind = getattr(importlib.import_module("queue"), name)
    return kind if name == "SimpleQueue" else lambda: kind(SIZE)


def in_turn(queue: Any, count: int) -> float:
    """Put and get *count* times in this thread; return how many seconds it took."""
    put, get = queue.put, queue.get
    began = perf_counter()
    for number in range(count):
        put(number)
        get()
    return perf_counter() - began


def between_threads(queue: Any, pairs: int, count: int) -> float:
    """Put from *pairs* threads and get in as many others; return the seconds."""
    share = count // pairs

    def produce() -> None:
        put = queue.put
        for number in range(share):
            put(number)

    def consume() -> None:
        get = queue.get
        for _ in range(share):
            get()

    return together(*[produce, consume] * pairs)
