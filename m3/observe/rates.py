"""Speeds out of two snapshots of a running engine."""

from dataclasses import dataclass

from m3.engine.report import Report, StageReport

__all__ = ("Rates", "StageRate", "rates_between")


@dataclass(frozen=True, slots=True)
class StageRate:
    """
    One stage between two snapshots.

    Attributes:
        report: the stage in the later snapshot.
        items: items that it finished, per second.
        busy: the share of its workers' time outside of waiting, 0 to 1.
        fill: how full the queue in front of it is, 0 to 1; None without one.
    """

    report: StageReport
    items: float
    busy: float
    fill: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """
    A pipeline between two snapshots.

    Attributes:
        report: the later snapshot.
        items: items accounted for, per second.
        stages: in the direction of the items.
        slowest: the stage whose workers are busiest; None if all are idle.
    """

    report: Report
    items: float
    stages: tuple[StageRate, ...]

    @property
    def slowest(self) -> StageRate | None:
        """The stage that the others wait for."""
        busiest = max(self.stages, key=lambda stage: stage.busy, default=None)
        return busiest if busiest and busiest.busy >= IDLE else None


IDLE = 0.05
"""Below this share of time, a stage holds nobody up."""


def rates_between(before: Report | None, after: Report) -> Rates:
    """Return the speeds between two snapshots; from the start if there is no earlier one."""
    seconds = max(after.wall - (before.wall if before else 0.0), 1e-9)
    earlier = before.stages if before else (None,) * len(after.stages)
    stages = tuple(
        _stage_rate(old, new, seconds) for old, new in zip(earlier, after.stages, strict=True)
    )
    return Rates(after, (done(after) - (done(before) if before else 0)) / seconds, stages)


def done(report: Report) -> int:
    """Return the number of items of which nothing is in the pipeline any more."""
    return report.produced - report.in_flight


def _stage_rate(old: StageReport | None, new: StageReport, seconds: float) -> StageRate:
    items = new.items_out - (old.items_out if old else 0)
    busy = new.busy - (old.busy if old else 0.0)
    share = busy / (seconds * new.workers) if new.workers else 0.0
    queue = new.queue
    fill = queue.size / queue.maxsize if queue and queue.maxsize else None
    return StageRate(new, items / seconds, min(max(share, 0.0), 1.0), fill)
