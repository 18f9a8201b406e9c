"""``m3 explain``."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from m3._shown import safe
from m3.cli.options import configuration_from, pipeline_options, search_in

if TYPE_CHECKING:
    from m3.config import Configuration, Effective
    from m3.engine.plan import Plan

__all__ = ("explain",)


@click.command()
@pipeline_options
def explain(file: str | None, **parameters: Any) -> None:
    """
    Show what `m3 run` would run with the same arguments.

    Each effective option stands with where it was given.  Of a ${VAR}, its name is shown
    and not its value.
    """
    configuration = configuration_from(file, parameters)
    for warning in configuration.warnings:
        click.echo(f"m3: warning: {warning}", err=True)
    search_in(configuration.app_dir)
    plan = configuration.plan()
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
        yield from _table(options)
    yield ""
    yield from _delivery(plan)


def _delivery(plan: "Plan") -> Iterator[str]:
    """Iterate over the lines that tell what each stage does for delivery."""
    from m3.engine.delivery import in_words, level_line, levels, lowest

    found = levels(plan)
    yield level_line(lowest(found))
    names = max(len(level.stage) for level in found)
    words = max(len(level.level) for level in found)
    for level in found:
        yield f"  {level.stage:<{names}}  {in_words(level.level):<{words}}  {level.reason}"


def _table(options: "Iterable[Effective]") -> Iterator[str]:
    rows = list(options)
    names = max((len(row.name) for row in rows), default=0)
    values = min(max((len(row.value) for row in rows), default=0), 40)
    for name, value, origin in rows:
        yield f"  {name:<{names}}  {value:<{values}}  {origin}"
