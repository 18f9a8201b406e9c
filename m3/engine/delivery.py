"""
What the stages of a pipeline can do for delivery, and the level which that makes.

The levels, from the lowest:

- ``at_most_once``: what is on its way when the process dies is lost;
- ``at_least_once``: it comes again, and so may what had been delivered already;
- ``effectively_once``: it comes again, and of what had been delivered too the
  effect is undone before.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from m3.engine.plan import Plan, StageSpec
from m3.engine.shape import make_instance
from m3.stages import Backend, Frontend, Stage, TransactionalBackend

__all__ = (
    "LEVELS",
    "Level",
    "can_go_back",
    "commits",
    "is_told",
    "is_transactional",
    "level_line",
    "level_of",
    "levels",
    "resumes",
)

LEVELS = ("at_most_once", "at_least_once", "effectively_once")


def is_told(frontend: Any) -> bool:
    """Return whether a frontend wants to know what became of its items."""
    return overrides(frontend, "ack", Frontend) or overrides(frontend, "nack", Frontend)


def resumes(frontend: Any) -> bool:
    """Return whether a frontend can go on where an earlier run ended."""
    return overrides(frontend, "resume", Frontend) and is_able(frontend)


def commits(backend: Any) -> bool:
    """Return whether a backend has something to do before what it got is durable."""
    return is_transactional(backend) or overrides(backend, "commit", Backend)


def can_go_back(backend: Any) -> bool:
    """Return whether a backend can undo what it got after a checkpoint."""
    return is_transactional(backend) or (overrides(backend, "resume", Backend) and is_able(backend))


def is_transactional(backend: Any) -> bool:
    """Return whether a backend commits checkpoints together with its data."""
    kind = backend if inspect.isclass(backend) else type(backend)
    return issubclass(kind, TransactionalBackend) and is_able(backend)


def overrides(stage: Any, method: str, base: type[Stage]) -> bool:
    """Return whether the stage, an instance or a class, has a *method* of its own."""
    kind = stage if inspect.isclass(stage) else type(stage)
    if issubclass(kind, base):
        return getattr(kind, method, None) is not getattr(base, method)
    return callable(getattr(stage, method, None))


def is_able(stage: Any) -> bool:
    """Return whether the stage does not say that, as it is, it cannot be resumed."""
    return getattr(stage, "can_resume", True) is not False


@dataclass(frozen=True, slots=True)
class Level:
    """
    What one stage does for delivery.

    Attributes:
        stage: its name.
        level: the best that a pipeline with it can have.
        reason: why that is so.
    """

    stage: str
    level: str
    reason: str


def levels(plan: Plan, instances: dict[str, Any] | None = None) -> list[Level]:
    """
    Return what each frontend and backend of *plan* does for delivery.

    Args:
        plan: says which they are, and whether state is kept.
        instances: of the stages by name, where they were made; else their
            classes are looked at, and ready-made ones are made to be asked.
    """
    stages = {spec.name: (instances or {}).get(spec.name) or _looked_at(spec) for spec in plan}
    found = [_of_frontend(spec, stages[spec.name], plan) for spec in plan.frontends]
    keeps_checkpoints = plan.state is not None and all(level.level != LEVELS[0] for level in found)
    return [*found, *_of_backends(plan, stages, keeps_checkpoints=keeps_checkpoints)]


def level_of(plan: Plan, instances: dict[str, Any] | None = None) -> Level:
    """Return the level of the whole pipeline, as that of the stage which limits it."""
    return min(levels(plan, instances), key=lambda level: LEVELS.index(level.level))


def level_line(plan: Plan) -> str:
    """Return the level of the pipeline in one line, with what limits it."""
    level = level_of(plan)
    text = f"delivery: {level.level.replace('_', ' ')}"
    if level.level == LEVELS[-1]:
        return text
    return f"{text}, limited by {level.stage!r}: {level.reason}"


def _looked_at(spec: StageSpec) -> Any:
    """Return what can be asked about the stage before it runs."""
    is_ready_made = getattr(spec.target, "__module__", "").startswith("m3.connectors.")
    return make_instance(spec) if is_ready_made else spec.target


def _of_frontend(spec: StageSpec, frontend: Any, plan: Plan) -> Level:
    if resumes(frontend) and plan.state is not None:
        return Level(spec.name, "effectively_once", "it goes on where the checkpoint is")
    if is_told(frontend):
        return Level(
            spec.name, "at_least_once", "what was not acknowledged comes again from its source"
        )
    if resumes(frontend):
        return Level(spec.name, "at_most_once", "no state is kept (--state) to go on from")
    return Level(spec.name, "at_most_once", "it cannot be read again from where it was")


def _of_backends(plan: Plan, stages: dict[str, Any], *, keeps_checkpoints: bool) -> Iterator[Level]:
    transactional = sum(is_transactional(stages[spec.name]) for spec in plan.backends)
    for spec in plan.backends:
        backend = stages[spec.name]
        if not keeps_checkpoints:
            level, reason = "at_least_once", "what comes again is written again"
        elif is_transactional(backend) and transactional > 1:
            level, reason = "at_least_once", "only one backend can commit with the checkpoint"
        elif is_transactional(backend):
            level, reason = "effectively_once", "it commits the checkpoint with its data"
        elif can_go_back(backend):
            level, reason = "effectively_once", "what is behind the checkpoint is undone"
        else:
            level, reason = "at_least_once", "it cannot undo what is behind the checkpoint"
        yield Level(spec.name, level, reason)
