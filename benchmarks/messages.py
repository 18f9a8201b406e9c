"""Measure calls, events and messages over RabbitMQ, between two processes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter, process_time
from typing import Any
from uuid import uuid4

from benchmarks.figures import Figures, fitting_count, together
from benchmarks.peers import load, sweep

__all__ = ("measure",)

PAYLOAD = {"text": "x" * 64}

FIRST = 100
"""How many messages the first try is."""


def measure(
    *, system: str, work: str, threads: int = 1, count: int | None = None, seconds: float = 0.5
) -> Figures:
    """
    Do one kind of work with one system.

    Args:
        system: a module of :mod:`benchmarks.peers`.
        work: ``"calling"``, ``"dispatching"``, which ends when all events are handled, or
            ``"publishing"``.
        threads: how many do it at once.
        count: how many messages, or calls.
        seconds: about how long it should take where *count* is not given.
    """
    peer, tag = load(system), uuid4().hex[:8]
    try:
        with serving(system, tag) as service, ExitStack() as stack:
            use = getattr(peer, work)
            users = [User(stack.enter_context(use(tag)), work) for _ in range(threads)]

            def seconds_for(times: int) -> float:
                began = perf_counter()
                together(*[lambda user=user: user.work(-(-times // threads)) for user in users])
                if work == "dispatching":
                    service.ask(times)
                return perf_counter() - began

            count = count or fitting_count(seconds_for, seconds, first=FIRST)
            cpu_before = process_time() + service.cpu()
            wall = seconds_for(count)
            cpu = process_time() + service.cpu() - cpu_before
    finally:
        sweep(peer, tag)
    waits = sorted(wait for user in users for wait in user.waits)
    return {
        "count": count,
        "rate": count / wall,
        "wall": wall,
        "cpu": cpu / count,
        "p50": waits[len(waits) // 2],
        "p99": waits[len(waits) * 99 // 100],
    }


class User:
    """Uses a system again and again, and knows how long it waited each time."""

    def __init__(self, use: Callable[[Any], Any], work: str) -> None:
        self.use = use
        self.expected = PAYLOAD if work == "calling" else None
        self.waits: list[float] = []

    def work(self, times: int) -> None:
        """Do it so many times."""
        self.waits = waits = []
        for _ in range(times):
            began = perf_counter()
            answer = self.use(PAYLOAD)
            waits.append(perf_counter() - began)
            if self.expected is not None and answer != self.expected:
                raise RuntimeError(f"the answer to {PAYLOAD} is {answer}")


class Service:
    """The process of a service; see :mod:`benchmarks.peers.__main__`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def cpu(self) -> float:
        """Return how many seconds of the processor it has used."""
        return float(self.ask(""))

    def ask(self, line: object) -> str:
        """Say something, and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> str:
        """Return what it says next."""
        assert self.process.stdout is not None
        heard = self.process.stdout.readline().strip()
        if not heard:
            raise RuntimeError("the process of the service has ended")
        return heard


@contextmanager
def serving(system: str, tag: str) -> Iterator[Service]:
    """Have another process of this interpreter serve."""
    command = [sys.executable, "-m", "benchmarks.peers", system, tag]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        service = Service(process)
        service.hear()
        yield service
