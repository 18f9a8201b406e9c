"""
Runs in a process of their own, which kills itself with SIGKILL at a chosen point.

The process is a fork of this one, so that it has everything that the tests have
made.  No test forks while a run lasts, so there are no other threads of m3 then.
"""

import os
import select
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn
from unittest import SkipTest

from m3.testing._around import around

__all__ = ("Countdown", "Tell", "run_in_child", "spread", "with_points")

Tell = Callable[[str], object]
"""Takes a line that the process that was started has to tell."""

RAISED = "raised: "

POINTS = (
    "setup",
    "resume",
    "committed",
    "process",
    "process_batch",
    "commit",
    "commit_with",
    "cleanup",
)
"""The methods of a backend; before and after each call is a point to be killed at."""


class Countdown:
    """
    Counts the points that a run passes, and kills the process at one.

    Args:
        fatal: the number of that point, from 0; -1 for none.

    Attributes:
        passed: how many there were.
    """

    def __init__(self, fatal: int = -1) -> None:
        self.passed = 0
        self._fatal = fatal
        self._lock = threading.Lock()

    def __call__(self, *_: Any) -> None:
        with self._lock:
            number = self.passed
            self.passed += 1
        if number == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def with_points(backend: Any, point: Callable[..., object]) -> Any:
    """Return *backend*, which from now on calls *point* before and after each of its methods."""
    for name in POINTS:
        method = getattr(backend, name, None)
        if callable(method):
            setattr(backend, name, around(method, point, point))
    return backend


def spread(total: int, most: int) -> list[int]:
    """Return *most* numbers below *total*, evenly spread; all of them if they are fewer."""
    return sorted({number * total // most for number in range(most)})


def run_in_child(action: Callable[[Tell], object], *, patience: float) -> list[str]:
    """
    Run *action* in a process of its own, and return what it has told until it ended.

    Args:
        action: gets a function that takes lines to be told.
        patience: seconds that it may take.

    Raises:
        AssertionError: it raised, or did not end.
        unittest.SkipTest: this system has no ``fork``.
    """
    if not hasattr(os, "fork"):
        raise SkipTest("this system has no fork")
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads: pytest's own
        child = os.fork()
    if child == 0:
        _be_child(action, sender)
    os.close(sender)
    try:
        told = _receive(receiver, patience)
    finally:
        os.close(receiver)
        os.kill(child, signal.SIGKILL)  # it may hang, and has not been waited for
        os.waitpid(child, 0)
    errors = [line for line in told if line.startswith(RAISED)]
    if errors:
        raise AssertionError("a run raised:\n" + errors[0].removeprefix(RAISED))
    return told


def _be_child(action: Callable[[Tell], object], sender: int) -> NoReturn:
    def tell(line: str) -> None:
        os.write(sender, line.encode("utf-8", "backslashreplace") + b"\0")

    try:
        action(tell)
    except BaseException:
        tell(RAISED + traceback.format_exc())
    finally:
        os._exit(0)


def _receive(receiver: int, patience: float) -> list[str]:
    """Return what the child tells until its end of the pipe is closed."""
    received = b""
    until = time.monotonic() + patience
    while select.select([receiver], [], [], max(0.0, until - time.monotonic()))[0]:
        block = os.read(receiver, 65536)
        if not block:
            *lines, _ = received.decode().split("\0")
            return lines
        received += block
    raise AssertionError(f"a run did not end within {patience} seconds")
