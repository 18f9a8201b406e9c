"""From the workers' counters to a report."""

from collections.abc import Iterable, Sequence

from m3._steps import Step
from m3.engine.books import OUTCOMES
from m3.engine.plan import Plan, StageSpec
from m3.engine.report import Report, StageReport, State
from m3.engine.workers import Worker
from m3.errors import HungWorkerError, M3Error, StageError

__all__ = ("summarize",)


def summarize(
    plan: Plan,
    *,
    workers: Sequence[Worker],
    counts: dict[str, int],
    state: State,
    errors: tuple[M3Error, ...],
    item_errors: tuple[StageError, ...],
    hung: tuple[HungWorkerError, ...],
    stopped: bool,
    undone: int,
    elapsed: tuple[float, float],
    now: float,
) -> Report:
    """Return the report of a run from what its workers did, and the *counts* of its items."""
    produced = counts["produced"]
    counts = {name: counts[name] for name in OUTCOMES}
    in_flight = produced - sum(counts.values())
    if state == "failed" and hung:
        # What the hung workers hold will not be delivered by this run.
        counts["abandoned"] += in_flight
        in_flight = 0
    return Report(
        name=plan.name,
        state=state,
        produced=produced,
        **counts,
        undone=undone,
        in_flight=in_flight,
        stages=tuple(_stage(spec, workers, now) for spec in plan),
        errors=errors,
        item_errors=item_errors,
        hung=hung,
        stopped=stopped,
        wall=elapsed[0],
        cpu=elapsed[1],
    )


def _stage(spec: StageSpec, workers: Iterable[Worker], now: float) -> StageReport:
    steps = [worker.work.steps[spec.name] for worker in workers if spec.name in worker.work.steps]
    own = [worker for worker in workers if worker.pool.head is spec]
    wait_in = sum(tally.wait_in for worker in own for tally in worker.work.tallies)
    wait_out = sum(tally.wait_out for worker in own for tally in worker.work.tallies)
    inbox = own[0].pool.inbox if own else None
    items_in, items_out, errors, dropped = _counts(spec, steps, own)
    return StageReport(
        name=spec.name,
        kind=spec.kind,
        workers=spec.workers,
        items_in=items_in,
        items_out=items_out,
        errors=errors,
        dropped=dropped,
        retries=sum(step.retries for step in steps),
        busy=max(0.0, sum(_wall(worker, now) for worker in own) - wait_in - wait_out),
        wait_in=wait_in,
        wait_out=wait_out,
        cpu=sum(worker.cpu for worker in own),
        queue=inbox.statistics() if inbox is not None else None,
    )


def _counts(spec: StageSpec, steps: list[Step], own: list[Worker]) -> tuple[int, int, int, int]:
    if spec.kind == "frontend":
        produced = sum(worker.work.tally.produced for worker in own)
        refused = sum(worker.work.tally.refused for worker in own)
        return produced, produced - refused, refused, 0
    return (
        sum(step.items_in for step in steps),
        sum(step.items_out for step in steps),
        sum(step.errors for step in steps),
        sum(step.dropped for step in steps),
    )


def _wall(worker: Worker, now: float) -> float:
    if worker.busy_since is None:
        return 0.0
    return worker.wall if worker.wall is not None else now - worker.busy_since
