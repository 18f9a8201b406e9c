"""Waiting in tests for what nothing tells of."""

import threading
from time import monotonic

__all__ = ("until",)

PATIENCE = 30


def until(condition):
    """Wait for a condition."""
    pause, end = threading.Event(), monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        pause.wait(0.001)
