"""
What the stages of a pipeline can do for delivery, and the level which that makes.

The levels, from the lowest:

- ``at_most_once``: what is on its way when the process dies is lost;
- ``at_least_once``: it comes again, and so may what had been delivered already;
- ``effectively_once``: it comes again, and of what had been delivered too the
  effect is undone before, or is the same when it is done twice.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from m3.engine.plan import Plan, StageSpec
from m3.engine.shape import make_instance
from m3.errors import ConfigError
from m3.stages import Backend, Frontend, Stage, TransactionalBackend

__all__ = (
    "LEVELS",
    "Level",
    "can_go_back",
    "commits",
    "in_words",
    "is_idempotent",
    "is_limited",
    "is_told",
    "is_transactional",
    "level_line",
    "levels",
    "lowest",
    "resumes",
)

LEVELS = ("at_most_once", "at_least_once", "effectively_once")

MEANINGS = {
    "at_most_once": "what is under way is lost if the process dies",
    "at_least_once": "if the process dies nothing is lost, but some items may come twice",
    "effectively_once": "if the process dies nothing is lost and nothing comes twice",
}
"""What the levels mean to those who do not know their names."""

SELF_KNOWLEDGE = {"can_resume", "is_idempotent", "keeps_at_end"}
"""What a stage can say of itself: an attribute, of the class or of its instances."""


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


def is_idempotent(backend: Any) -> bool:
    """Return whether an item that a backend gets twice has the effect of one that it gets once."""
    return getattr(backend, "is_idempotent", False) is not False


def keeps_at_end(backend: Any) -> bool:
    """Return whether what a backend got is only kept when the run has ended well."""
    return getattr(backend, "keeps_at_end", False) is not False


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
            classes are looked at, and those whose instances differ in it are
            made to be asked.

    Raises:
        ConfigError: state is to be kept, and a backend keeps nothing before the end; or the
            class of a stage that was made refuses its options.
    """
    stages = {
        spec.name: instances[spec.name] if instances else _looked_at(spec)
        for spec in (*plan.frontends, *plan.backends)
    }
    found = [_of_frontend(spec, stages[spec.name], plan) for spec in plan.frontends]
    keeps_checkpoints = plan.state is not None and all(map(_is_replayed, found))
    return [*found, *_of_backends(plan, stages, keeps_checkpoints=keeps_checkpoints)]


def lowest(found: Sequence[Level]) -> Level:
    """Return the level of the whole pipeline, as that of the stage which limits it."""
    return min(found, key=lambda level: LEVELS.index(level.level))


def level_line(level: Level) -> str:
    """Return the level of a pipeline in one line: what it means, and what limits it."""
    text = f"delivery: {in_words(level.level)} ({MEANINGS[level.level]})"
    return f"{text}, limited by {level.stage!r}: {level.reason}" if is_limited(level) else text


def is_limited(level: Level) -> bool:
    """Return whether there is a better level than that."""
    return level.level != LEVELS[-1]


def in_words(level: str) -> str:
    """Return the name of a level for people."""
    return level.replace("_", " ")


def _looked_at(spec: StageSpec) -> Any:
    """Return what can be asked about the stage before it runs."""
    if not _are_different(spec.target):
        return spec.target
    try:
        return make_instance(spec)
    except ConfigError as error:
        raise ConfigError(f"{spec.kind} {spec.name!r}: {error}") from error
    except Exception:  # the run, which makes it again, is going to tell
        return spec.target


def _are_different(target: Any) -> bool:
    """Return whether the instances of a class can do different things for delivery."""
    if not inspect.isclass(target):
        return False
    said = {name for kind in target.__mro__ for name in vars(kind)}
    return target.__module__.startswith("m3.connectors.") or bool(SELF_KNOWLEDGE & said)


def _is_replayed(level: Level) -> bool:
    """Return whether what a frontend of that level has produced comes again if need be."""
    return level.level != LEVELS[0]


def _of_frontend(spec: StageSpec, frontend: Any, plan: Plan) -> Level:
    if resumes(frontend) and plan.state is not None:
        return Level(spec.name, "effectively_once", "it goes on behind the last checkpoint")
    if is_told(frontend):
        return Level(
            spec.name, "at_least_once", "what was not acknowledged comes again from its source"
        )
    if resumes(frontend):
        return Level(
            spec.name,
            "at_most_once",
            "it could go on where a run has ended, but no checkpoints are kept; give --state DIR",
        )
    reason = "it cannot go on where a run has ended"
    if plan.state is not None:
        reason += ", so no checkpoints are kept"
    return Level(spec.name, "at_most_once", reason)


def _of_backends(plan: Plan, stages: dict[str, Any], *, keeps_checkpoints: bool) -> Iterator[Level]:
    transactional = [spec for spec in plan.backends if is_transactional(stages[spec.name])]
    is_alone = sum(_threads(spec, plan) for spec in transactional) == 1
    for spec in plan.backends:
        backend = stages[spec.name]
        if keeps_checkpoints and keeps_at_end(backend) and not can_go_back(backend):
            raise ConfigError(
                f"the backend {spec.name!r} keeps what it got only when the run has ended well, so "
                "a checkpoint before would say of items that they are done, and they would be "
                "lost with the run; leave state out, or name another target, as a directory of "
                "parts in place of one file"
            )
        yield Level(spec.name, *_of_backend(backend, keeps_checkpoints, is_alone))


def _threads(backend: StageSpec, plan: Plan) -> int:
    """Return in how many threads a backend runs, its own or those of the stage before it."""
    before = [spec.workers for spec in plan.transports]
    its_own = [workers for workers in (*before, backend.workers) if workers]
    return its_own[-1] if its_own else sum(spec.workers for spec in plan.frontends)


def _of_backend(backend: Any, keeps_checkpoints: bool, is_alone: bool) -> tuple[str, str]:
    """Return the level of a backend, and why it has that."""
    goes_back = keeps_checkpoints and can_go_back(backend)
    if keeps_at_end(backend) and not goes_back:
        return "at_most_once", "what it got is kept when the run has ended well, and not before"
    if not keeps_checkpoints:
        return "at_least_once", "what comes again is delivered again"
    if is_idempotent(backend) and not goes_back:
        return "effectively_once", "what comes again replaces what it was"
    if not goes_back:
        return "at_least_once", "it cannot undo what it got after the last checkpoint"
    if is_transactional(backend):
        if not is_alone:
            return "at_least_once", "only one worker can commit together with the checkpoint"
        return "effectively_once", "what it got is committed together with the checkpoint"
    return "effectively_once", "it undoes what it got after the last checkpoint"
