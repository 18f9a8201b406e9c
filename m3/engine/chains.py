"""What can run in the thread of the stage before it, found before anything runs."""

from collections.abc import Iterator

from m3.engine.plan import Plan, StageSpec
from m3.engine.shape import Shape, shape_of

__all__ = ("mistakes_in_chains", "workers")

Heads = tuple[StageSpec, ...]
"""The stages in whose threads a chained one runs: several only if they are frontends."""


def mistakes_in_chains(plan: Plan) -> Iterator[str]:
    """Yield, each as one sentence, why a stage with ``workers=0`` needs a worker of its own."""
    for spec, heads in _chained(plan):
        if shape_of(heads[0]).is_async:
            yield (
                f"{_label(spec)} with workers=0 would run in the event loop of "
                f"{heads[0].name!r} and block it: give it a worker"
            )
            continue
        yield from _of_width(spec, heads)
        yield from _of_timeout(spec, heads)
        if shape_of(spec) is Shape.BATCH:
            yield from _of_batch(spec, heads)
        if plan.state is not None and spec.kind == "backend" and heads[0].kind == "frontend":
            yield (
                f"{_where(spec, heads[0])}, where nothing could commit it while the frontend "
                "waits for input: give it a worker"
            )


def _chained(plan: Plan) -> Iterator[tuple[StageSpec, Heads]]:
    """Iterate over the stages without workers, each with those in whose threads they run."""
    heads: Heads = plan.frontends
    for spec in (*plan.transports, *plan.backends):
        if spec.workers == 0:
            yield spec, heads
        elif spec.kind == "transport":
            heads = (spec,)


def _of_width(spec: StageSpec, heads: Heads) -> Iterator[str]:
    most = getattr(spec.target, "max_workers", None)
    threads = sum(head.workers for head in heads)
    if isinstance(most, int) and threads > most:
        yield (
            f"{_label(spec)} can have {workers(most)}, and with workers=0 it would run "
            f"in {threads} threads, those of {', '.join(repr(head.name) for head in heads)}"
        )


def _of_timeout(spec: StageSpec, heads: Heads) -> Iterator[str]:
    for head in heads:
        if head.timeout is not None:
            yield (f"{_where(spec, head)}, which are given up after its timeout: give it a worker")


def _of_batch(spec: StageSpec, heads: Heads) -> Iterator[str]:
    batch = spec.batch or getattr(spec.target, "batch", None)
    for head in heads:
        if head.kind == "frontend" and (batch is None or batch.period or batch.count > 1):
            yield (
                f"{_where(spec, head)}, where nothing could flush its batches while the frontend "
                "waits for input: give it a worker"
            )
        elif head.ordering == "input" and head.workers > 1:
            yield (
                f"{_where(spec, head)}, which hands on item by item: give it a worker to gather "
                "batches"
            )


def _label(spec: StageSpec) -> str:
    return f"{spec.kind} {spec.name!r}"


def _where(spec: StageSpec, head: StageSpec) -> str:
    return f"{_label(spec)} with workers=0 runs in the threads of {head.name!r}"


def workers(count: int) -> str:
    """Return the number of workers in words."""
    return "1 worker" if count == 1 else f"{count} workers"
