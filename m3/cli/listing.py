"""``m3 list``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from m3.registry import Kind, Registration

__all__ = ("listing",)

KINDS: tuple["Kind", ...] = ("frontend", "transport", "backend")


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
def listing(kind: "Kind | None") -> None:
    """
    List the stages that have names.

    Each stands with its options and with where it comes from.
    """
    from m3.registry import names

    for chosen in (kind,) if kind else KINDS:
        click.echo(f"{chosen}s")
        for registration in names(chosen):
            click.echo("\n".join(f"  {line}".rstrip() for line in _described(registration)))
        click.echo()


def _described(registration: "Registration") -> Iterator[str]:
    from m3.errors import ConfigError
    from m3.registry import describe

    yield f"{registration.name}  ({registration.origin}, {registration.target_path})"
    try:
        description = describe(registration)
    except ConfigError as error:
        yield f"    cannot be loaded: {error}"
        return
    yield f"    {description.summary}"
    for option in description.options:
        default = "required" if option.default is None else f"= {option.default}"
        yield f"      {option.name}: {option.type} {default}"
        if option.help:
            yield f"          {option.help}"
