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
from functools import partial
from typing import Any, NamedTuple, NoReturn
from unittest import SkipTest

from m3.testing._around import around

__all__ = ("Point", "Points", "Tell", "run_in_child", "spread", "with_points")

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


class Point(NamedTuple):
    """Something that happens in a run, at which it can be killed."""

    name: str
    """What happens."""
    number: int
    """How often it has happened before."""

    def __str__(self) -> str:
        return f"{self.name} number {self.number}"


class Points:
    """
    Counts the points that a run passes, and kills the process at one.

    Args:
        fatal: that one; None for none.
    """

    def __init__(self, fatal: Point | None = None) -> None:
        self._fatal = fatal
        self._passed: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            number = self._passed[name] = self._passed.get(name, -1) + 1
        if Point(name, number) == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def some(self, most: int) -> list[Point]:
        """Return *most* points of each name, spread over the run; the first of each is in it."""
        return [
            Point(name, number)
            for name, last in self._passed.items()
            for number in spread(last + 1, most)
        ]


def with_points(backend: Any, point: Callable[[str], object]) -> Any:
    """Return *backend*, which from now on calls *point* before and after each of its methods."""
    for name in POINTS:
        method = getattr(backend, name, None)
        if callable(method):
            before, after = partial(point, f"before {name}"), partial(point, f"after {name}")
            setattr(backend, name, around(method, lambda *_, before=before: before(), after))
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
