"""Speeds out of two snapshots."""

import pytest

from m3._queue import BoundedQueue
from m3.engine.report import Report, StageReport
from m3.observe.rates import rates_between


def stage(name, *, out, busy, workers=1, size=None):
    """Return the report of a stage."""
    return StageReport(
        name=name,
        kind="transport",
        workers=workers,
        items_in=out,
        items_out=out,
        errors=0,
        dropped=0,
        retries=0,
        busy=busy,
        wait_in=0.0,
        wait_out=0.0,
        cpu=0.0,
        queue=None if size is None else filled(size).statistics(),
    )


def filled(size):
    """Return a queue for 100 items that has *size*."""
    queue = BoundedQueue(100)
    queue.put_many(range(size))
    return queue


def report(*stages, produced, in_flight, wall):
    """Return the report of a run."""
    counts = {"delivered": produced - in_flight, "dropped": 0, "dead_lettered": 0, "failed": 0}
    return Report(
        name="x",
        state="running",
        produced=produced,
        **counts,
        abandoned=0,
        undone=0,
        in_flight=in_flight,
        stages=stages,
        errors=(),
        item_errors=(),
        hung=(),
        stopped=False,
        wall=wall,
        cpu=0.0,
    )


BEFORE = report(
    stage("a", out=10, busy=1.0), stage("b", out=0, busy=0.0), produced=10, in_flight=5, wall=1.0
)
AFTER = report(
    stage("a", out=30, busy=1.5),
    stage("b", out=8, busy=3.2, workers=2, size=25),
    produced=30,
    in_flight=9,
    wall=3.0,
)


def test_speeds_are_those_between_the_snapshots():
    """Items per second and busy shares are of the time between, per worker."""
    rates = rates_between(BEFORE, AFTER)
    assert rates.items == pytest.approx((21 - 5) / 2)
    first, second = rates.stages
    assert (first.items, first.busy, first.fill) == (pytest.approx(10), pytest.approx(0.25), None)
    assert (second.items, second.busy, second.fill) == (
        pytest.approx(4),
        pytest.approx(0.8),
        pytest.approx(0.25),
    )


def test_without_an_earlier_snapshot():
    """The first speeds are those since the start."""
    assert rates_between(None, AFTER).items == pytest.approx(7)


def test_the_slowest_is_the_busiest():
    """The stage whose workers are busiest holds the others up; idle ones hold nobody up."""
    assert rates_between(BEFORE, AFTER).slowest.report.name == "b"
    assert (
        rates_between(AFTER, report(*AFTER.stages, produced=30, in_flight=9, wall=4)).slowest
        is None
    )
