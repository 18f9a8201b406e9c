"""How the code of a stage wants to be called, found out before anything runs."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import Any

from m3.engine.plan import StageSpec
from m3.errors import PlanError, abridged

__all__ = ("Shape", "entry_point", "is_stage_class", "iterate", "make_instance", "shape_of")

METHODS = {"frontend": "produce", "transport": "transport", "backend": "process"}
BATCH_METHOD = "process_batch"

HOOKS = {
    "frontend": ("setup", "cleanup", "stop", "ack", "nack", "checkpoint", "resume"),
    "transport": ("setup", "cleanup"),
    "backend": ("setup", "cleanup", "commit", "resume", "committed", "commit_with"),
}
"""What the engine calls besides, in a worker's thread and where nobody awaits it."""


class Shape(Enum):
    """The ways in which a stage's code is called."""

    SOURCE = "source"
    CALL = "call"
    EXPAND = "expand"
    BATCH = "batch"
    ASYNC_CALL = "async call"
    ASYNC_EXPAND = "async expand"

    @property
    def is_async(self) -> bool:
        """Whether the code runs in an event loop."""
        return self in (Shape.ASYNC_CALL, Shape.ASYNC_EXPAND)


def shape_of(spec: StageSpec) -> Shape:
    """
    Return how the stage's code is called.

    Raises:
        PlanError: the target is nothing that could be such a stage.
    """
    _check_hooks(spec)
    if spec.kind == "frontend":
        _check_frontend(spec)
        return Shape.SOURCE
    method = _method(spec)
    if getattr(method, "__name__", None) != BATCH_METHOD:
        return _shape_of_callable(method, spec)
    if _shape_of_callable(method, spec).is_async:
        raise PlanError(
            f"{spec.kind} {spec.name!r}: {BATCH_METHOD}() cannot be async, so calling it would do "
            "nothing; take items one by one, or run the event loop in it"
        )
    return Shape.BATCH


def is_stage_class(target: Any, kind: str) -> bool:
    """Return whether *target* is a class to make workers' instances from."""
    return inspect.isclass(target) and _has_methods(target, kind)


def make_instance(spec: StageSpec) -> Any:
    """Return the object whose methods a worker calls: a new one, or the target itself."""
    if not is_stage_class(spec.target, spec.kind):
        return spec.target
    instance = spec.target(**spec.options)
    if spec.config is not None:
        instance.config = spec.config
    for name, value in spec.context.items():
        setattr(instance, name, value)
    return instance


def entry_point(instance: Any, kind: str) -> Callable[..., Any]:
    """Return the callable of *instance* that handles items."""
    if kind != "frontend" and _overrides(instance, BATCH_METHOD):
        return getattr(instance, BATCH_METHOD)  # type: ignore[no-any-return]
    return getattr(instance, METHODS[kind], instance)  # type: ignore[no-any-return]


def iterate(instance: Any) -> Iterator[Any] | AsyncIterator[Any]:
    """Return the iterator over the items of a frontend."""
    source: Any = entry_point(instance, "frontend")
    items = source() if callable(source) else source
    if isinstance(items, AsyncIterator):
        return items
    iterator: Iterator[Any] = iter(items)
    return iterator


def _has_methods(target: Any, kind: str) -> bool:
    return hasattr(target, METHODS[kind]) or (kind != "frontend" and hasattr(target, BATCH_METHOD))


def _overrides(target: Any, name: str) -> bool:
    return callable(getattr(target, name, None))


def _check_hooks(spec: StageSpec) -> None:
    if not _has_methods(spec.target, spec.kind):
        return
    for name in HOOKS[spec.kind]:
        hook = getattr(spec.target, name, None)
        if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook):
            raise PlanError(
                f"{spec.kind} {spec.name!r}: {name}() cannot be async, so calling it would do "
                "nothing; a component may have an async setup() and shutdown(), and the stage "
                "name it by annotation"
            )
        if inspect.isgeneratorfunction(hook):
            raise PlanError(
                f"{spec.kind} {spec.name!r}: {name}() contains a yield, so calling it would do "
                "nothing"
            )


def _check_frontend(spec: StageSpec) -> None:
    target = spec.target
    if hasattr(target, METHODS["frontend"]):
        return
    _refuse_other_stages(spec)
    if callable(target):
        return
    if not isinstance(target, Iterable):
        raise PlanError(
            f"frontend {spec.name!r}: {abridged(target)} is no frontend: it has no produce(), "
            "and is neither callable nor iterable"
        )
    if spec.workers != 1:
        raise PlanError(
            f"frontend {spec.name!r}: an iterable is read by one worker, not {spec.workers}; "
            "give a function that returns an iterable to have one per worker"
        )


def _method(spec: StageSpec) -> Callable[..., Any]:
    target = spec.target
    if _has_methods(target, spec.kind):
        return entry_point(target, spec.kind)
    _refuse_other_stages(spec)
    if not callable(target):
        raise PlanError(
            f"{spec.kind} {spec.name!r}: {abridged(target)} is no {spec.kind}: it has no "
            f"{METHODS[spec.kind]}() and is not callable"
        )
    return target  # type: ignore[no-any-return]


def _refuse_other_stages(spec: StageSpec) -> None:
    others = [kind for kind in METHODS if kind != spec.kind and _has_methods(spec.target, kind)]
    if others:
        name = getattr(spec.target, "__qualname__", type(spec.target).__qualname__)
        raise PlanError(
            f"{spec.kind} {spec.name!r}: {name} is a {others[0]}, not a {spec.kind}: "
            f"it has no {METHODS[spec.kind]}()"
        )


def _shape_of_callable(function: Any, spec: StageSpec) -> Shape:
    while isinstance(function, partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function).__call__
    if inspect.iscoroutinefunction(function):
        return Shape.ASYNC_CALL
    yields = inspect.isgeneratorfunction(function)
    yields_async = inspect.isasyncgenfunction(function)
    if spec.kind == "backend" and (yields or yields_async):
        raise PlanError(
            f"backend {spec.name!r}: {function.__name__}() contains a yield, so calling it would "
            "do nothing; a backend consumes items and yields none"
        )
    if yields_async:
        return Shape.ASYNC_EXPAND
    return Shape.EXPAND if yields else Shape.CALL
