"""Measure what it costs to follow items: positions, answers, checkpoints."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.figures import Figures, fitting_count
from benchmarks.pipelines import figures_of
from benchmarks.workloads import identity
from m3 import Backend, Frontend, Item, Pipeline

__all__ = ("LEVELS", "measure")


class Positioned(Frontend[Item]):
    """Yields numbers, which are their own positions; can go on where it was."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.first = 0

    def produce(self) -> Iterator[Item]:
        """Yield the numbers."""
        for number in range(self.first, self.count):
            yield Item(number, number)

    def resume(self, checkpoint: Any) -> None:
        """Go on behind *checkpoint*."""
        self.first = 0 if checkpoint is None else checkpoint + 1


class Acknowledged(Positioned):
    """The same, and is told what became of each."""

    def ack(self, position: Any) -> None:
        """Take note."""


class AcknowledgedAtOnce(Acknowledged):
    """The same, by whoever has delivered it."""

    acks_anywhere = True


FRONTENDS = {"acknowledged": Acknowledged, "at once": AcknowledgedAtOnce}


class Sink(Backend[Any]):
    """Takes the numbers, and cannot undo it."""

    def process(self, data: Any) -> None:
        """Take *data*."""


class Reversible(Sink):
    """Takes the numbers, and could undo it."""

    def commit(self) -> None:
        """Commit nothing."""

    def resume(self, mark: Any) -> None:
        """Undo nothing."""


LEVELS = {
    "numbers": "items alone",
    "positions": "with positions, of which nobody makes use",
    "aligned": "with checkpoints, all sinks can go back",
    "lowest mark": "with checkpoints, a sink cannot go back",
    "acknowledged": "each acknowledged in its turn, by one thread",
    "at once": "each acknowledged at once, by whoever has delivered it",
}
"""How closely items are followed, from not at all."""


def measure(*, level: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """Run a pipeline of three stages whose items are followed as *level* says."""

    def seconds_for(items: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            pipeline = _pipeline(level, items, Path(folder) / "state")
            began = perf_counter()
            report = pipeline.run()
            taken = perf_counter() - began
        if report.delivered != items:
            raise RuntimeError(f"{items} items went in, {report.delivered} came out")
        return taken

    count = count or fitting_count(seconds_for, seconds, first=1000)
    return figures_of(seconds_for, count)


def _pipeline(level: str, count: int, state: Path) -> Pipeline:
    if level == "numbers":
        return Pipeline(range(count)).transport(identity).backend(Sink)
    keeps = level in ("aligned", "lowest mark")
    frontend = FRONTENDS.get(level, Positioned)
    described = Pipeline(frontend, count=count, state=state if keeps else None)
    return described.transport(identity).backend(Reversible if level == "aligned" else Sink)
