"""``m3 explain``."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from m3._shown import safe
from m3.cli.options import pipeline_options, planned

if TYPE_CHECKING:
    from m3.config import Configuration, Effective
    from m3.engine.delivery import Level
    from m3.engine.plan import Plan, StageSpec

__all__ = ("explain",)


@click.command()
@pipeline_options
def explain(file: str | None, **parameters: Any) -> None:
    """
    Show what `m3 run` would run with the same arguments.

    Each effective option stands with where it was given.  Of a ${VAR}, its name is shown
    and not its value.
    """
    configuration, plan = planned(file, parameters)
    click.echo(safe("\n".join(described(configuration, plan))))


def described(configuration: "Configuration", plan: "Plan") -> Iterator[str]:
    """Iterate over the lines that tell what is going to run."""
    yield "pipeline"
    yield from _table(configuration.pipeline_options())
    numbers: dict[str, int] = {}
    for spec, use, options in configuration.stage_options(plan):
        number = numbers[spec.kind] = numbers.get(spec.kind, 0) + 1
        yield ""
        yield f"{spec.kind}.{number}  {spec.name}  ({use})"
        yield from _table([*options, *_asked_for(spec)])
    yield ""
    yield from _resources(configuration, plan)
    yield from _delivery(plan, configuration.levels(plan))


def _resources(configuration: "Configuration", plan: "Plan") -> Iterator[str]:
    """Iterate over the lines that tell what the stages are given, if they ask for anything."""
    from m3.engine.resources import conductor_of

    for name, kind, options in configuration.resource_options():
        yield f"resource  {name}  ({kind})"
        yield from _table(options)
        yield ""
    if pools := [*configuration.pools()]:
        yield "pools"
        yield from _table(pools)
        yield ""
    if drawn := conductor_of(plan).graph().text(states=False):
        yield "resources, each below what needs it"
        yield from (f"  {line}" for line in drawn.splitlines())
        yield ""


def _asked_for(spec: "StageSpec") -> "Iterator[Effective]":
    """Iterate over the resources that a stage asks for, as if they were options."""
    from m3.config import Effective, Origin
    from m3.engine.resources import components_of, user_of

    for name, kind in components_of(user_of(spec.target)):
        yield Effective(name, kind.__qualname__, Origin("default", "resource"))


def _delivery(plan: "Plan", found: "list[Level]") -> Iterator[str]:
    """Iterate over the lines that tell what each stage does for delivery."""
    from m3.engine.delivery import in_words, level_line, lowest

    yield level_line(lowest(found))
    names = max(len(level.stage) for level in found)
    words = max(len(level.level) for level in found)
    for level in found:
        yield f"  {level.stage:<{names}}  {in_words(level.level):<{words}}  {level.reason}"
    if plan.crash_guard is not None:
        yield from _crashes(plan)


def _crashes(plan: "Plan") -> Iterator[str]:
    """Iterate over the lines that tell how often the process has died at the last checkpoint."""
    from m3.engine.crash_guard import crashes_in
    from m3.engine.state import look_at
    from m3.errors import StateError

    try:
        deaths = crashes_in(look_at(str(plan.state))).deaths
    except StateError:  # there is none yet; what is wrong with it, the run tells
        deaths = 0
    yield f"crash guard: careful after {plan.crash_guard} deaths at the same mark; so far {deaths}"


def _table(options: "Iterable[Effective]") -> Iterator[str]:
    rows = list(options)
    names = max((len(row.name) for row in rows), default=0)
    values = min(max((len(row.value) for row in rows), default=0), 40)
    for name, value, origin in rows:
        yield f"  {name:<{names}}  {value:<{values}}  {origin}"
