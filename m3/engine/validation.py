"""Every mistake in a plan, found before anything runs."""

import inspect
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import chain

from m3._messages import closest, did_you_mean
from m3.components.annotations import wants
from m3.components.resources import is_below
from m3.engine.chains import mistakes_in_chains, workers
from m3.engine.delivery import LEVELS, levels
from m3.engine.plan import Plan, StageSpec
from m3.engine.resources import all_users, user_of
from m3.engine.shape import BATCH_METHOD, METHODS, Shape, is_stage_class, shape_of
from m3.errors import ConfigError, PlanError, abridged
from m3.policies import Batch, Retry, Verdict
from m3.stages import Backend, Frontend, Transport

__all__ = ("final_verdict", "mistakes", "mistakes_of", "validate")

POLICIES = "'fail', 'skip', 'dead_letter', a callable or a Retry"
BASES: dict[str, type] = {"frontend": Frontend, "transport": Transport, "backend": Backend}


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
        found += mistakes_of(spec, plan)
    return tuple(found) or (*mistakes_in_chains(plan), *_of_unknown_items(plan))


def mistakes_of(spec: StageSpec, plan: Plan | None = None) -> list[str]:
    """Return what is wrong with one stage: by itself, or in its *plan*."""
    of_stage = [*_of_stage(spec), *(_of_dead_letters(spec, plan) if plan else ())]
    return [f"{spec.kind} {spec.name!r}: {mistake}" for mistake in of_stage] or [*_of_shape(spec)]


def _of_the_whole(plan: Plan) -> Iterator[str]:
    if not plan.frontends:
        yield "a pipeline needs a frontend, and this one has none"
    if not _is_number(plan.stop_timeout) or not plan.stop_timeout >= 0:
        yield f"stop_timeout is {abridged(plan.stop_timeout)}; it is a time in seconds, at least 0"
    if not _is_time(plan.checkpoint_interval):
        yield (
            f"checkpoint_interval is {abridged(plan.checkpoint_interval)}; it is a time in "
            "seconds, more than 0"
        )
    stores = ("state", plan.state, "latest"), ("dead_letters", plan.dead_letters, "put")
    for name, path, method in stores:
        is_open = callable(getattr(path, method, None))
        if path is not None and not is_open and not _is_path(path):
            yield f"{name} is {abridged(path)}; it is a path"
    yield from _of_max_failures(plan.max_failures)
    yield from _of_crash_guard(plan)
    for name, count in Counter(spec.name for spec in plan).items():
        if count > 1:
            yield f"{count} stages are called {name!r}; give each a name of its own"
    yield from _of_resources(plan)


def _of_resources(plan: Plan) -> Iterator[str]:
    """Yield which resources have names that nobody asks for, but that are near to one."""
    given = {name: cls for name, cls in _classes_given(plan) if isinstance(name, str)}
    asked = _asked_for(plan) if given else {}
    for name, cls in given.items():
        fitting = [
            other
            for other, kinds in asked.items()
            if other not in given and any(is_below(cls, kind) for kind in kinds)
        ]
        if name not in asked and (near := closest(name, fitting)):
            yield (
                f"resource {name!r}: no stage and no component asks for one of that name"
                f"{did_you_mean(near)}"
            )


def _classes_given(plan: Plan) -> Iterator[tuple[type | str, type]]:
    """Iterate over the classes of the resources that are given, with what each is given for."""
    for asked_for, resource in plan.resources.items():
        yield asked_for, resource if isinstance(resource, type) else type(resource)


def _asked_for(plan: Plan) -> dict[str, set[type]]:
    """Return what stages and resources ask for: classes, by the name of the attribute."""
    starts = [user_of(spec.target) for spec in plan]
    starts += [cls for _, cls in _classes_given(plan)]
    found: dict[str, set[type]] = {}
    for cls in all_users(starts):
        for want in wants(cls).values():
            kinds = found.setdefault(want.attribute, set())
            kinds.update(kind for kind in want.types if isinstance(kind, type))
    return found


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
    try:
        found = levels(plan)[: len(plan.frontends)]
    except ConfigError as error:
        yield str(error)
        return
    for level in found:
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    return _is_number(value) and 0 < value < math.inf  # type: ignore[operator]  # it is a number


def _of_shape(spec: StageSpec) -> Iterator[str]:
    try:
        shape = shape_of(spec)
    except PlanError as error:
        yield str(error)
        return
    if missing := _missing_method(spec):
        yield f"{spec.kind} {spec.name!r}: {missing}"
        return
    for mistake in chain(_of_options(spec), _of_batch(spec, shape)):
        yield f"{spec.kind} {spec.name!r}: {mistake}"
    if shape.is_async and spec.workers == 0:
        yield (
            f"{spec.kind} {spec.name!r}: an async stage runs an event loop in a thread of its "
            "own, so it needs at least 1 worker"
        )


def _missing_method(spec: StageSpec) -> str:
    """Say so if what is done with the items is only what the class of m3 has: an error."""
    base, name = BASES[spec.kind], METHODS[spec.kind]
    method = getattr(spec.target, name, None)
    if getattr(method, "__func__", method) is not getattr(base, name):
        return ""
    needed = (name,) if spec.kind == "frontend" else (name, BATCH_METHOD)
    if any(hasattr(spec.target, other) for other in needed[1:]):
        return ""
    cls = spec.target if inspect.isclass(spec.target) else type(spec.target)
    missing = " and ".join(f"no {each}()" for each in needed)
    return f"{cls.__qualname__} has {missing}{_meant(cls, base, needed)}"


def _meant(cls: type, base: type, needed: tuple[str, ...]) -> str:
    """Return the question whether a method of *cls* that is near what is needed was meant."""
    own = [
        name
        for name in dir(cls)
        if not name.startswith("_") and not hasattr(base, name) and callable(getattr(cls, name))
    ]
    near = [(given, names[0]) for given in own if (names := closest(given, needed))]
    if not near and len(own) == 1:
        near = [(own[0], needed[0])]
    return f"; should its {near[0][0]}() be called {near[0][1]}()?" if near else ""


def _of_options(spec: StageSpec) -> Iterator[str]:
    if not is_stage_class(spec.target, spec.kind):
        for name in sorted(spec.options):
            only = "only a stage that is given as a class takes options of its own"
            yield f"{name}: {only}{_near(name, ())}"
        return
    try:
        signature = inspect.signature(spec.target)
    except ValueError:  # no signature to be had, as of classes written in C
        return
    cls = spec.target.__qualname__
    own = _keywords(signature, spec.options)
    for name in sorted(spec.options.keys() - own):
        yield f"{cls}() has no option {name!r}{_near(name, own)}"
    try:
        signature.bind(**{name: spec.options[name] for name in spec.options.keys() & own})
    except TypeError as error:
        yield f"{cls}(): {error}"


def _keywords(signature: inspect.Signature, given: Iterable[str]) -> set[str]:
    """Return which options a class takes; one with ``**options`` also those *given*."""
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    own = {
        name
        for name, kind in kinds.items()
        if kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    return own | {*given} if inspect.Parameter.VAR_KEYWORD in kinds.values() else own


def _near(name: str, own: Iterable[str]) -> str:
    """Return the question whether another option was meant: of the stage, or of the pipeline."""
    known = {field.name for field in fields(StageSpec)} - {"kind", "target", "options"}
    if near := closest(name, sorted({*own, *known})):
        return did_you_mean(near)
    stages = {"frontends", "transports", "backends"}
    near = closest(name, sorted({field.name for field in fields(Plan)} - stages))
    return f"; did you mean the pipeline's {near[0]!r}?" if near else ""


def _of_batch(spec: StageSpec, shape: Shape) -> Iterator[str]:
    if shape is not Shape.BATCH:
        if spec.batch is not None:
            yield f"batch needs a stage with {BATCH_METHOD}(), and this one has none"
        return
    given, where = spec.batch, "batch"
    if given is None:
        given, where = getattr(spec.target, "batch", None), "batch of the class"
    if not (given is None or isinstance(given, Batch) or inspect.isdatadescriptor(given)):
        yield f"{where} is {abridged(given)}; it is a Batch, or a number of items, at least 1"
    if spec.ordering == "input" and spec.workers > 1:
        yield "ordering='input' with batches needs workers=1"
