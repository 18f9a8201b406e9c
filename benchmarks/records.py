"""Measure blocks of numpy records between two threads, and plain ``memcpy`` through such a ring."""

import ctypes
import importlib
from time import process_time

import numpy as np

from benchmarks.figures import Figures, fitting_count, together

__all__ = ("measure",)

BLOCK = 8192
BLOCKS_IN_RING = 16
DTYPE = np.dtype(np.float64)


def measure(*, transfer: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """
    Move blocks of 64 KiB from a thread to another, through a ring of 1 MiB.

    Args:
        transfer: ``"memcpy"`` copies in and out in one thread, which hands nothing
            over and waits for nothing; ``"RecordQueue"`` is m3's, between two.
        count: how many blocks; by default as many as take about *seconds*.
        seconds: how long the run should be.
    """
    run = {"memcpy": through_memcpy, "RecordQueue": through_queue}[transfer]
    if count is None:
        count = fitting_count(run, seconds)
    cpu_before = process_time()
    wall = run(count)
    gigabytes = count * BLOCK * DTYPE.itemsize / 1e9
    return {
        "count": count,
        "rate": gigabytes / wall,
        "wall": wall,
        "cpu": (process_time() - cpu_before) / count,
    }


def through_memcpy(count: int) -> float:
    """Copy *count* blocks into a ring and out of it again; return the seconds."""
    ring = np.zeros(BLOCK * BLOCKS_IN_RING, DTYPE)
    size = BLOCK * DTYPE.itemsize
    slots = [ring.ctypes.data + index * size for index in range(BLOCKS_IN_RING)]
    source, target = np.ones(BLOCK, DTYPE), np.zeros(BLOCK, DTYPE)
    source_at, target_at = source.ctypes.data, target.ctypes.data

    def copy() -> None:
        for number in range(count):
            slot = slots[number % BLOCKS_IN_RING]
            ctypes.memmove(slot, source_at, size)
            ctypes.memmove(target_at, slot, size)

    return together(copy)


def through_queue(count: int) -> float:
    """Put and get *count* blocks through a ``RecordQueue``; return the seconds."""
    record_queue = importlib.import_module("m3._records").RecordQueue
    queue = record_queue(DTYPE, BLOCK * BLOCKS_IN_RING)
    source = np.ones(BLOCK, DTYPE)

    def put() -> None:
        for _ in range(count):
            queue.put(source)

    def get() -> None:
        for _ in range(count):
            queue.get(BLOCK)

    return together(put, get)
