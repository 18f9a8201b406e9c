"""Measure what it costs per item that a stage is given a resource."""

from time import perf_counter
from typing import Any

from benchmarks.figures import Figures, fitting_count
from benchmarks.pipelines import figures_of
from m3 import Backend, Component, Pipeline

__all__ = ("STAGES", "measure")


class Ledger(Component):
    """Holds a number."""

    rate = 3


class Global(Backend[int]):
    """Uses what is there without m3."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def process(self, data: int) -> None:
        """Use the number."""
        self.ledger.rate  # noqa: B018  (the access is what is measured)


class Injected(Backend[int]):
    """Uses what m3 has given to it."""

    ledger: Ledger

    def process(self, data: int) -> None:
        """Use the number."""
        self.ledger.rate  # noqa: B018


STAGES = {"own": "a backend with an object of its own", "injected": "one that is given a resource"}


def measure(*, stage: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """Run a pipeline whose backend has its object from itself, or from m3."""
    backend: Any = {"own": Global, "injected": Injected}[stage]

    def seconds_for(items: int) -> float:
        began = perf_counter()
        Pipeline(range(items)).backend(backend).run()
        return perf_counter() - began

    count = count or fitting_count(seconds_for, seconds, first=1000)
    return figures_of(seconds_for, count)
