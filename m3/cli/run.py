"""``m3 run``."""

from typing import Any

import click

from m3.cli.options import configuration_from, pipeline_options, verbosity_options

__all__ = ("run",)


@click.command()
@pipeline_options
@click.option("--from-start", is_flag=True, help="Forget the checkpoints of --state first.")
@verbosity_options
def run(file: str | None, from_start: bool, quiet: bool, verbose: int, **parameters: Any) -> None:
    """
    Run a pipeline.

    It is described by FILE, by options, or by FILE with options over it.  Items go to stdout
    if there is no other backend.  Ctrl-C once stops the frontends and finishes what is under
    way; twice abandons the queues; three times ends at once.
    """
    from m3.cli.running import run_pipeline

    configuration = configuration_from(file, parameters)
    verbosity = -1 if quiet else verbose
    code = run_pipeline(configuration, from_start=from_start, verbosity=verbosity)
    click.get_current_context().exit(code)
