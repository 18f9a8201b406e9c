"""The measurements of ``m3 bench``."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from m3.pipeline import Pipeline

__all__ = ("Measurement", "measure")

PACE = 1_000
"""Items per second while latency is measured."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """
    One line of the result.

    Attributes:
        what: what was measured.
        figure: the result, with its unit.
        is_right: whether every item arrived, once, and in order where promised.
    """

    what: str
    figure: str
    is_right: bool

    @property
    def verdict(self) -> str:
        """``is_right``, for people."""
        return "all items arrived" if self.is_right else "ITEMS LOST, DOUBLED OR OUT OF ORDER"


def measure(*, items: int, workers: int) -> Iterator[Measurement]:
    """Measure one thing after the other."""
    yield _bare_loop(items)
    yield _throughput("3 stages, 1 worker each", items, workers=1)
    yield _throughput("3 stages, transport in the frontend's thread", items, workers=0)
    yield _throughput(f"3 stages, {workers} transport workers", items, workers=workers)
    yield _throughput(
        f"the same, ordering='input', {workers} workers",
        items,
        workers=workers,
        ordering="input",
    )
    yield _latency(PACE)


def _bare_loop(items: int) -> Measurement:
    arrived: list[int] = []
    begin = time.perf_counter()
    consume = arrived.append
    for item in range(items):
        consume(_same(item))
    seconds = time.perf_counter() - begin
    return Measurement("a bare loop, for comparison", _rate(items, seconds), len(arrived) == items)


def _throughput(what: str, items: int, **options: Any) -> Measurement:
    arrived: list[int] = []
    pipeline = Pipeline(range(items)).transport(_same, **options).backend(arrived.append)
    begin = time.perf_counter()
    pipeline.run()
    seconds = time.perf_counter() - begin
    if options["workers"] > 1 and options.get("ordering") != "input":
        arrived.sort()
    return Measurement(what, _rate(items, seconds), arrived == list(range(items)))


def _rate(items: int, seconds: float) -> str:
    return f"{items / seconds:,.0f} items/s"


def _latency(items: int) -> Measurement:
    latencies: list[float] = []

    def arrive(sent: float) -> None:
        latencies.append(time.perf_counter() - sent)

    Pipeline(_paced(items)).transport(_same).backend(arrive).run()
    middle, late = (sorted(latencies)[int(len(latencies) * share)] for share in (0.5, 0.99))
    figure = f"p50 {middle * 1e6:,.0f} µs, p99 {late * 1e6:,.0f} µs"
    return Measurement(f"latency at {PACE:,} items/s", figure, len(latencies) == items)


def _paced(items: int) -> Iterator[float]:
    """Yield the time, *items* times, :data:`PACE` times a second."""
    begin = time.perf_counter()
    for number in range(items):
        time.sleep(max(0.0, begin + number / PACE - time.perf_counter()))
        yield time.perf_counter()


def _same(item: Any) -> Any:
    return item
