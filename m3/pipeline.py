"""Describe a pipeline in Python, stage by stage."""

import os
from collections.abc import Mapping
from typing import Any, Self

from m3.engine.engine import Engine
from m3.engine.plan import (
    DEFAULT_CHECKPOINT_INTERVAL,
    DEFAULT_STOP_TIMEOUT,
    Plan,
    StageSpec,
)
from m3.engine.report import Report
from m3.engine.results import Results
from m3.errors import PlanError
from m3.policies import MaxFailures
from m3.registry import Kind, resolve

__all__ = ("ENGINE_OPTIONS", "Pipeline", "make_spec")

ENGINE_OPTIONS = (
    "batch",
    "concurrency",
    "config",
    "context",
    "max_failures",
    "on_error",
    "ordering",
    "queue_bytes",
    "queue_size",
    "sizeof",
    "timeout",
    "workers",
)


class Pipeline:
    """
    A description of a pipeline, which can be run any number of times.

    Args:
        frontend: where items come from: a class, an instance, a dotted path
            (``"pkg.mod:Name"``), a registered name (``"stdin"``), a function
            that returns an iterable, or an iterable.
        name: of the pipeline.
        stop_timeout: seconds that a stop may take by default.
        max_failures: how many items may fail, at any stage, before the run
            does: a number, or a fraction below 1.
        state: a folder for checkpoints: a run that ends early, however it ends,
            is gone on with by the next run with the same folder.
        dead_letters: a file for the items of ``on_error="dead_letter"``: JSON
            lines if its name ends in ``.jsonl``, else SQLite; by default
            ``dead-letters.db`` in the folder of the state.
        checkpoint_interval: seconds between two checkpoints, as a rule.
        crash_guard: after so many runs in a row that ended by the death of the
            process at the same mark, the next one looks for the item that
            kills it, and makes it a dead letter; needs *state*.
        resources: what the stages are given where they ask for it by
            annotation: an instance or a class for each class that is asked for,
            or for each name of an attribute.
        options: of the frontend, see :meth:`transport`.

    >>> Pipeline([1, 2, 3]).transport(str).backend(print).run().delivered
    1
    2
    3
    3
    """

    def __init__(
        self,
        frontend: Any,
        *,
        name: str = "pipeline",
        stop_timeout: float = DEFAULT_STOP_TIMEOUT,
        max_failures: MaxFailures | None = None,
        state: str | os.PathLike[str] | None = None,
        dead_letters: str | os.PathLike[str] | None = None,
        checkpoint_interval: float = DEFAULT_CHECKPOINT_INTERVAL,
        crash_guard: int | None = None,
        resources: Mapping[type | str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._name = name
        self._options: dict[str, Any] = {
            "stop_timeout": stop_timeout,
            "max_failures": max_failures,
            "state": state,
            "dead_letters": dead_letters,
            "checkpoint_interval": checkpoint_interval,
            "crash_guard": crash_guard,
            "resources": dict(resources or {}),
        }
        self._stages: list[StageSpec] = []
        self._add("frontend", frontend, None, options)

    def frontend(self, target: Any, *, name: str | None = None, **options: Any) -> Self:
        """Add one more frontend; the items of all are merged."""
        return self._add("frontend", target, name, options)

    def transport(self, target: Any, *, name: str | None = None, **options: Any) -> Self:
        """
        Add a transport behind those there are.

        Args:
            target: a class, an instance, a dotted path, a registered name, or
                a callable that takes an item and returns the next.
            name: of the stage, for errors and reports; by default that of the
                target.
            options: those of the engine (``workers``, ``queue_size``,
                ``queue_bytes``, ``sizeof``, ``ordering``, ``on_error``,
                ``max_failures``, ``timeout``, ``batch``, ``concurrency``,
                ``config``; see :class:`~m3.engine.StageSpec`); all others go
                to the constructor of the class.

        Raises:
            UnknownNameError: no stage has that name.
            ConfigError: a dotted path leads nowhere.
        """
        return self._add("transport", target, name, options)

    def backend(self, target: Any, *, name: str | None = None, **options: Any) -> Self:
        """Add a backend; each of several gets every item.  Arguments as for a transport."""
        return self._add("backend", target, name, options)

    def plan(self) -> Plan:
        """Return what was described so far, as data."""
        return Plan(
            frontends=self._of_kind("frontend"),
            transports=self._of_kind("transport"),
            backends=self._of_kind("backend"),
            name=self._name,
            **self._options,
        )

    def engine(self) -> Engine:
        """
        Return a new engine for it, not started.

        Raises:
            PlanError: it cannot work; the message has every mistake.
        """
        return Engine(self.plan())

    def start(self) -> Engine:
        """Return a running engine; raises as :meth:`Engine.start`."""
        engine = self.engine()
        engine.start(block=False)
        return engine

    def run(self) -> Report:
        """Run it to its end and return the report; raises as :meth:`Engine.start`."""
        engine = self.engine()
        engine.start()
        return engine.report()

    def results(self) -> Results:
        """
        Start it and iterate over what the last transport returns.

        ``with pipeline.results() as results: ...`` stops it when the block is
        left early.  Raises as :meth:`Engine.results`.
        """
        return self.engine().results()

    def __repr__(self) -> str:
        stages = " -> ".join(spec.name for spec in self.plan())
        return f"<Pipeline {self._name!r}: {stages}>"

    def _of_kind(self, kind: Kind) -> tuple[StageSpec, ...]:
        return tuple(spec for spec in self._stages if spec.kind == kind)

    def _add(self, kind: Kind, target: Any, name: str | None, options: dict[str, Any]) -> Self:
        taken = {spec.name for spec in self._stages}
        self._stages.append(make_spec(kind, target, name=name, taken=taken, options=options))
        return self


def make_spec(
    kind: Kind, target: Any, *, name: str | None, taken: set[str], options: dict[str, Any]
) -> StageSpec:
    """
    Return the description of a stage.

    Args:
        kind: of the stage.
        target: what :class:`Pipeline` takes as one.
        name: of the stage, or None to choose one that is not *taken*.
        taken: the names that other stages have.
        options: the engine's and the constructor's, as the user gave them.
    """
    label = name or (target if isinstance(target, str) else _name_of(target, kind))
    if isinstance(target, str):
        target = resolve(kind, target)
    if name is None:
        label = _unlike(taken, label)
    elif name in taken:
        raise PlanError(f"two stages are called {name!r}; give each a name of its own")
    engine_options = {key: options[key] for key in ENGINE_OPTIONS if key in options}
    own = {key: value for key, value in options.items() if key not in ENGINE_OPTIONS}
    engine_options.setdefault("workers", _default_workers(target))
    return StageSpec(kind, target, name=label, options=own, **engine_options)


def _name_of(target: Any, kind: Kind) -> str:
    name = getattr(target, "__name__", None) or type(target).__name__
    return kind if name == "<lambda>" else str(name)


def _unlike(taken: set[str], label: str) -> str:
    """Return *label*, with a number behind it if it is taken."""
    candidate, number = label, 2
    while candidate in taken:
        candidate, number = f"{label}-{number}", number + 1
    return candidate


def _default_workers(target: Any) -> int:
    workers = getattr(target, "workers", 1)
    return workers if isinstance(workers, int) else 1
