"""``m3 check``."""

import click

from m3.cli.options import planned

__all__ = ("check",)


@click.command()
@click.argument("file", type=click.Path())
@click.option("--app-dir", metavar="DIR", help="Import stages from this folder, too.")
def check(file: str, app_dir: str | None) -> None:
    """
    Check a configuration without running it.

    The mistakes of all stages and options are shown at once, each with its line or key.  Stages
    are imported; if nothing is wrong so far, the constructors of ready-made ones are called,
    which start nothing.  What the constructor of another stage refuses is not found.
    """
    configuration, plan = planned(file, {"app_dir": app_dir})
    configuration.levels(plan)
    counts = {
        "frontend": len(plan.frontends),
        "transport": len(plan.transports),
        "backend": len(plan.backends),
    }
    parts = [f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items()]
    click.echo(f"{file}: no mistakes: {', '.join(parts)}")
