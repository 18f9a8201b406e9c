"""What a run did: counts by outcome, times and queues per stage, and failures."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from m3._queue import QueueStatistics
from m3.errors import HungWorkerError, M3Error, StageError, describe

__all__ = ("Report", "StageReport", "State")

State = Literal["created", "running", "stopping", "finished", "failed"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StageReport:
    """
    One stage's part; times are in seconds, summed over its workers.

    Attributes:
        name: of the stage.
        kind: ``"frontend"``, ``"transport"`` or ``"backend"``.
        workers: its threads; 0 if it runs in those of the stage before it.
        items_in: items that it began to work on.
        items_out: items that it passed on, or that a backend consumed.
        errors: items on which it raised for good.
        dropped: items that it filtered out.
        retries: attempts beyond the first that were made.
        busy: time outside of waiting, that of stages chained to it included.
        wait_in: time blocked on its empty input queue.
        wait_out: time blocked on a full queue behind it.
        cpu: CPU time of the workers that have ended.
        queue: the queue in front of it; None for a frontend or a chained stage.
    """

    name: str
    kind: str
    workers: int
    items_in: int
    items_out: int
    errors: int
    dropped: int
    retries: int
    busy: float
    wait_in: float
    wait_out: float
    cpu: float
    queue: QueueStatistics | None


@dataclass(frozen=True, slots=True)
class Report:
    """
    A run, or a snapshot of one that is still running.

    Of a run that has ended, ``produced = delivered + dropped + dead_lettered +
    failed + abandoned``: each item that a frontend produced is counted once,
    by the worst that became of anything made from it.

    Attributes:
        name: of the pipeline.
        state: ``"created"``, ``"running"``, ``"stopping"``, ``"finished"`` or
            ``"failed"``.
        produced: items that frontends produced.
        delivered: items of which everything reached its backend.
        dropped: items that were filtered out entirely.
        dead_lettered: items that failed and were kept with their cause.
        failed: items on which a stage raised.
        abandoned: items that were in the pipeline when the run was given up.
        undone: how many of the delivered came after the last checkpoint of a run
            with state that has failed or was given up, and whose sinks can go
            back: the next run undoes them and does them again.
        in_flight: items produced and not accounted for yet.
        stages: the stages, in the direction of the items.
        errors: why the run failed; empty if it did not.
        item_errors: the first few errors of items that were skipped or kept as
            dead letters.
        hung: workers that did not end by the deadline of the stop.
        stopped: whether a stop was asked for.
        wall: seconds since the start, or that the run took.
        cpu: CPU seconds of the process since the start.
    """

    name: str
    state: State
    produced: int
    delivered: int
    dropped: int
    dead_lettered: int
    failed: int
    abandoned: int
    undone: int
    in_flight: int
    stages: tuple[StageReport, ...]
    errors: tuple[M3Error, ...]
    item_errors: tuple[StageError, ...]
    hung: tuple[HungWorkerError, ...]
    stopped: bool
    wall: float
    cpu: float

    @property
    def ok(self) -> bool:
        """Whether the run did not fail and lost nothing."""
        lost = self.failed + self.dead_lettered + self.abandoned
        return self.state != "failed" and not self.errors and not self.hung and lost == 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold; ``schema`` is its version."""
        stages = [_plain_stage(stage) for stage in self.stages]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "state": self.state,
            "ok": self.ok,
            "stopped": self.stopped,
            "produced": self.produced,
            "delivered": self.delivered,
            "dropped": self.dropped,
            "dead_lettered": self.dead_lettered,
            "failed": self.failed,
            "abandoned": self.abandoned,
            "undone": self.undone,
            "in_flight": self.in_flight,
            "wall": self.wall,
            "cpu": self.cpu,
            "stages": stages,
            "errors": [describe(error) for error in self.errors],
            "item_errors": [describe(error) for error in self.item_errors],
            "hung": [describe(error) for error in self.hung],
        }


def _plain_stage(stage: StageReport) -> dict[str, Any]:
    plain = asdict(stage)
    plain["queue"] = stage.queue._asdict() if stage.queue else None
    return plain
