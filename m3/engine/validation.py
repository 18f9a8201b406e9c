"""Every mistake in a plan, found before anything runs."""

import inspect
import math
import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from m3.engine.chains import mistakes_in_chains, workers
from m3.engine.delivery import LEVELS, levels
from m3.engine.plan import Plan, StageSpec
from m3.engine.shape import BATCH_METHOD, Shape, is_stage_class, shape_of
from m3.errors import PlanError, abridged
from m3.policies import Retry, Verdict

__all__ = ("final_verdict", "mistakes", "validate")

POLICIES = "'fail', 'skip', 'dead_letter', a callable or a Retry"


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
        of_stage = [*_of_stage(spec), *_of_dead_letters(spec, plan)]
        found += [f"{spec.kind} {spec.name!r}: {mistake}" for mistake in of_stage]
        if not of_stage:
            found += _of_shape(spec)
    return tuple(found) or (*mistakes_in_chains(plan), *_of_unknown_items(plan))


def _of_the_whole(plan: Plan) -> Iterator[str]:
    if not plan.frontends:
        yield "a pipeline needs a frontend, and this one has none"
    if plan.stop_timeout < 0:
        yield f"stop_timeout is {plan.stop_timeout}; it is a time in seconds"
    if not _is_time(plan.checkpoint_interval):
        yield (
            f"checkpoint_interval is {abridged(plan.checkpoint_interval)}; it is a time in "
            "seconds, more than 0"
        )
    for name, path in (("state", plan.state), ("dead_letters", plan.dead_letters)):
        is_store = name == "dead_letters" and callable(getattr(path, "put", None))
        if path is not None and not is_store and not _is_path(path):
            yield f"{name} is {abridged(path)}; it is a path"
    yield from _of_max_failures(plan.max_failures)
    yield from _of_crash_guard(plan)
    for name, count in Counter(spec.name for spec in plan).items():
        if count > 1:
            yield f"{count} stages are called {name!r}; give each a name of its own"


def _of_crash_guard(plan: Plan) -> Iterator[str]:
    if plan.crash_guard is None:
        return
    if not _is_count(plan.crash_guard, least=1):
        yield f"crash_guard is {abridged(plan.crash_guard)}; it is a number of runs, at least 1"
    if plan.state is None:
        yield "crash_guard needs a place to note which runs have died: give state=DIR"


def _of_unknown_items(plan: Plan) -> Iterator[str]:
    """Yield why the item that has killed one run cannot be found again in the next."""
    if plan.crash_guard is None:
        return
    for level in levels(plan)[: len(plan.frontends)]:
        if level.level != LEVELS[-1]:
            yield (
                f"frontend {level.stage!r}: with crash_guard, a run has to go on where the one "
                f"before has died, and this frontend does not: {level.reason}"
            )


def _of_stage(spec: StageSpec) -> Iterator[str]:
    yield from _of_workers(spec)
    if spec.queue_size is not None and not _is_count(spec.queue_size, least=1):
        yield f"queue_size is {abridged(spec.queue_size)}; it is a number of items, at least 1"
    if spec.queue_bytes is not None and not _is_count(spec.queue_bytes, least=1):
        yield f"queue_bytes is {abridged(spec.queue_bytes)}; it is a number of bytes, at least 1"
    if spec.sizeof is not None and not callable(spec.sizeof):
        yield f"sizeof is {abridged(spec.sizeof)}; it is a callable that returns a number of bytes"
    if not _is_count(spec.concurrency, least=1):
        yield f"concurrency is {abridged(spec.concurrency)}; it is a number, at least 1"
    if spec.ordering not in ("completion", "input"):
        yield f"ordering is {abridged(spec.ordering)}; it is 'completion' or 'input'"
    yield from _of_max_failures(spec.max_failures)
    yield from _of_timeout(spec)
    yield from _of_on_error(spec)


def _of_timeout(spec: StageSpec) -> Iterator[str]:
    if spec.timeout is None:
        return
    if not _is_time(spec.timeout):
        yield f"timeout is {abridged(spec.timeout)}; it is a time in seconds, more than 0"
    elif spec.kind == "frontend":
        yield "a frontend has no timeout: how long its input takes is not up to it"
    elif spec.workers == 0:
        yield "a stage with a timeout needs a worker of its own, and workers is 0"


def _of_on_error(spec: StageSpec) -> Iterator[str]:
    policy = spec.on_error
    if not isinstance(policy, Retry):
        if not callable(policy) and policy not in ("fail", "skip", "dead_letter"):
            yield f"on_error is {abridged(policy)}; it is {POLICIES}"
    elif spec.kind == "frontend":
        yield (
            "on_error is a Retry, but what a frontend could not read cannot be read again; "
            "give 'skip' or 'dead_letter'"
        )
    elif spec.workers == 0 and spec.ordering == "input":
        yield (
            "on_error is a Retry with ordering='input', for which it needs a worker of its own, "
            "and workers is 0"
        )


def _of_dead_letters(spec: StageSpec, plan: Plan) -> Iterator[str]:
    if plan.dead_letters is None and plan.state is None and final_verdict(spec) == "dead_letter":
        yield (
            "on_error is 'dead_letter', and there is no place to keep dead letters: give the "
            "pipeline dead_letters=FILE, or state=DIR"
        )


def final_verdict(spec: StageSpec) -> Verdict:
    """Return what becomes of an item on which the stage has raised for good."""
    policy = spec.on_error
    return policy.then if isinstance(policy, Retry) else policy


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
        yield f"it can have {workers(most)}, not {spec.workers}"


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and str(value) != ""


def _is_time(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf  # type: ignore[operator]  # it is a number


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
