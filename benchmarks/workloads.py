"""
The work: where the items come from, and what is done to each.

Every system gets the same generator, the same function and the same sink, so
that a system's figure is the bare loop's plus what the system costs.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ("WORKLOADS", "Job", "Workload", "discard", "spinner")

NAP = 0.001
LONGEST_NAP = 0.002
BLOCK = bytes(64 * 1024)


@dataclass(frozen=True, slots=True)
class Job:
    """
    One run of a pipeline of three stages: a source, the work, and a sink.

    Attributes:
        count: how many items there are.
        items: makes an iterator over so many items.
        work: is called with each item.
        sink: is called with each result.
        workers: how many threads do the work.
        sinks: how many threads call the sink.
        ordered: whether the results must come in the order of the items.
    """

    count: int
    items: Callable[[int], Iterator[Any]]
    work: Callable[[Any], Any]
    sink: Callable[[Any], object]
    workers: int = 1
    sinks: int = 1
    ordered: bool = False

    def source(self) -> Iterator[Any]:
        """Return an iterator over all items."""
        return self.items(self.count)

    def share(self, worker: int) -> Iterator[Any]:
        """Return an iterator over one worker's part, for systems that split at the source."""
        whole, rest = divmod(self.count, self.workers)
        return self.items(whole + (worker < rest))


@dataclass(frozen=True, slots=True)
class Workload:
    """
    A kind of work.

    Attributes:
        items: makes the source of so many items.
        work: makes the function, from the number of turns that
            :mod:`benchmarks.spins` found.
        seconds: how long the work keeps a worker on average, where that is known.
    """

    items: Callable[[int], Iterator[Any]]
    work: Callable[[int], Callable[[Any], Any]]
    seconds: float = 0.0


def numbers(count: int) -> Iterator[int]:
    """Yield the numbers below *count*, from a Python frame as a user's source would."""
    for number in range(count):  # noqa: UP028 - `yield from` would not enter the frame for each
        yield number


def naps(count: int) -> Iterator[float]:
    """Yield random times of up to 2 ms, the same ones in every run."""
    draw = random.Random(20).uniform
    for _ in range(count):
        yield draw(0.0, LONGEST_NAP)


def blocks(count: int) -> Iterator[bytes]:
    """Yield 64 KiB, *count* times; always the same ones, so that no time goes into them."""
    for _ in range(count):
        yield BLOCK


def identity(item: Any) -> Any:
    """Return *item*: the least work there is."""
    return item


def discard(_result: Any) -> None:
    """Do nothing: the least sink there is."""


def nap(item: Any) -> Any:
    """Wait for 1 ms, as for a fast server."""
    time.sleep(NAP)
    return item


def nap_for(seconds: float) -> float:
    """Wait as long as the item says."""
    time.sleep(seconds)
    return seconds


def digest(block: bytes) -> bytes:
    """Hash a block; this releases the GIL."""
    return hashlib.sha256(block).digest()


def spinner(turns: int) -> Callable[[Any], Any]:
    """Return a function that keeps the interpreter busy for so many turns of a loop."""

    def spin(item: Any) -> Any:
        for _ in range(turns):
            pass
        return item

    return spin


WORKLOADS = {
    "noop": Workload(numbers, lambda _: identity),
    "sleep": Workload(numbers, lambda _: nap, seconds=NAP),
    "random-sleep": Workload(naps, lambda _: nap_for, seconds=LONGEST_NAP / 2),
    "sha256": Workload(blocks, lambda _: digest),
    "spin": Workload(numbers, spinner),
}
