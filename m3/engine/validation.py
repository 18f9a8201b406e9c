"""Every mistake in a plan, found before anything runs."""

import inspect
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from m3.engine.plan import Plan, StageSpec
from m3.engine.shape import BATCH_METHOD, Shape, is_stage_class, shape_of
from m3.errors import PlanError, abridged
from m3.policies import Retry

__all__ = ("mistakes", "validate")


def validate(plan: Plan) -> None:
    """
    Check that *plan* can run.

    Raises:
        PlanError: with every mistake, one a line.
    """
    found = mistakes(plan)
    if found:
        raise PlanError("\n".join(found))


def mistakes(plan: Plan) -> tuple[str, ...]:
    """Return what is wrong with *plan*, each as one sentence; empty if nothing is."""
    found = [*_of_the_whole(plan)]
    for spec in plan:
        of_stage = [*_of_stage(spec)]
        found += [f"{spec.kind} {spec.name!r}: {mistake}" for mistake in of_stage]
        if not of_stage:
            found += _of_shape(spec)
    return tuple(found) or tuple(_of_chains(plan))


def _of_the_whole(plan: Plan) -> Iterator[str]:
    if not plan.frontends:
        yield "a pipeline needs a frontend, and this one has none"
    if plan.stop_timeout < 0:
        yield f"stop_timeout is {plan.stop_timeout}; it is a time in seconds"
    yield from _of_max_failures(plan.max_failures)
    for name, count in Counter(spec.name for spec in plan).items():
        if count > 1:
            yield f"{count} stages are called {name!r}; give each a name of its own"


def _of_stage(spec: StageSpec) -> Iterator[str]:
    yield from _of_workers(spec)
    if spec.queue_size is not None and not _is_count(spec.queue_size, least=1):
        yield f"queue_size is {abridged(spec.queue_size)}; it is a number of items, at least 1"
    if not _is_count(spec.concurrency, least=1):
        yield f"concurrency is {abridged(spec.concurrency)}; it is a number, at least 1"
    if spec.ordering not in ("completion", "input"):
        yield f"ordering is {abridged(spec.ordering)}; it is 'completion' or 'input'"
    if not _is_policy(spec.on_error):
        yield (
            f"on_error is {abridged(spec.on_error)}; it is 'fail', 'skip', 'dead_letter', "
            "a Retry or a callable"
        )
    yield from _of_max_failures(spec.max_failures)


def _is_policy(policy: object) -> bool:
    if isinstance(policy, Retry) or callable(policy):
        return True
    return policy in ("fail", "skip", "dead_letter")


def _of_max_failures(most: object) -> Iterator[str]:
    is_fraction = isinstance(most, float) and 0 < most < 1
    if most is not None and not is_fraction and not _is_count(most, least=0):
        yield (
            f"max_failures is {abridged(most)}; it is a number of items, at least 0, or a "
            "fraction of them between 0 and 1"
        )


def _of_workers(spec: StageSpec) -> Iterator[str]:
    least = 1 if spec.kind == "frontend" else 0
    if not _is_count(spec.workers, least=least):
        yield f"workers is {abridged(spec.workers)}; it is a number of threads, at least {least}"
        return
    most = getattr(spec.target, "max_workers", None)
    if isinstance(most, int) and spec.workers > most:
        yield f"it can have {_workers(most)}, not {spec.workers}"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _of_shape(spec: StageSpec) -> Iterator[str]:
    try:
        shape = shape_of(spec)
    except PlanError as error:
        yield str(error)
        return
    for mistake in chain(_of_options(spec), _of_batch(spec, shape)):
        yield f"{spec.kind} {spec.name!r}: {mistake}"
    if shape.is_async and spec.workers == 0:
        yield (
            f"{spec.kind} {spec.name!r}: an async stage runs an event loop in a thread of its "
            "own, so it needs at least 1 worker"
        )


def _of_options(spec: StageSpec) -> Iterator[str]:
    if not is_stage_class(spec.target, spec.kind):
        if spec.options:
            names = ", ".join(sorted(spec.options))
            yield f"{names}: only a stage that is given as a class takes options of its own"
        return
    try:
        inspect.signature(spec.target).bind(**spec.options)
    except TypeError as error:
        yield f"{spec.target.__qualname__}(): {error}"
    except ValueError:  # no signature to be had, as of classes written in C
        return


def _of_batch(spec: StageSpec, shape: Shape) -> Iterator[str]:
    if shape is not Shape.BATCH:
        if spec.batch is not None:
            yield f"batch needs a stage with {BATCH_METHOD}(), and this one has none"
        return
    if spec.ordering == "input" and spec.workers > 1:
        yield "ordering='input' with batches needs workers=1"


def _of_chains(plan: Plan) -> Iterator[str]:
    """Yield what cannot run in the thread of the stage before it."""
    heads: tuple[StageSpec, ...] = plan.frontends
    for spec in (*plan.transports, *plan.backends):
        if spec.workers == 0 and shape_of(heads[0]).is_async:
            yield (
                f"{spec.kind} {spec.name!r} with workers=0 would run in the event loop of "
                f"{heads[0].name!r} and block it: give it a worker"
            )
        elif spec.workers == 0:
            yield from _of_chained_width(spec, heads)
            if shape_of(spec) is Shape.BATCH:
                yield from _of_chained_batch(spec, heads)
        if spec.workers and spec.kind == "transport":
            heads = (spec,)


def _of_chained_width(spec: StageSpec, heads: tuple[StageSpec, ...]) -> Iterator[str]:
    most = getattr(spec.target, "max_workers", None)
    threads = sum(head.workers for head in heads)
    if isinstance(most, int) and threads > most:
        yield (
            f"{spec.kind} {spec.name!r} can have {_workers(most)}, and with workers=0 it would run "
            f"in {threads} threads, those of {', '.join(repr(head.name) for head in heads)}"
        )


def _of_chained_batch(spec: StageSpec, heads: tuple[StageSpec, ...]) -> Iterator[str]:
    batch = spec.batch or getattr(spec.target, "batch", None)
    for head in heads:
        where = f"{spec.kind} {spec.name!r} with workers=0 runs in the threads of {head.name!r}"
        if head.kind == "frontend" and (batch is None or batch.period or batch.count > 1):
            yield (
                f"{where}, where nothing could flush its batches while the frontend waits for "
                "input: give it a worker"
            )
        elif head.ordering == "input" and head.workers > 1:
            yield f"{where}, which hands on item by item: give it a worker to gather batches"
