"""The group of all commands."""

import click

from m3.cli.bench import bench
from m3.cli.check import check
from m3.cli.completion import completion
from m3.cli.dlq import dlq
from m3.cli.doctor import doctor
from m3.cli.explain import explain
from m3.cli.group import Commands
from m3.cli.listing import listing
from m3.cli.run import run
from m3.cli.serve import serve
from m3.cli.services import services
from m3.cli.shell import shell
from m3.cli.state import state
from m3.cli.version import print_version

__all__ = ("commands",)


@click.group("m3", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the versions of m3 and Python, and exit.",
)
def commands() -> None:
    """
    Run Python functions and classes as pipelines on threads.

    \b
    printf 'a\\nb\\n' | m3 run --frontend stdin
    m3 run --frontend stdin --transport json.loads --backend pkg.mod:Store --workers 4
    m3 run pipeline.toml

    Exit codes: 0 all delivered, 1 failed, 2 usage, configuration or state, 3 finished with
    dead letters or skipped items, 130, 143, 141 ended by Ctrl-C, SIGTERM, closed output.
    """  # noqa: D301  # a backspace has click keep the lines below it


for command in (
    *(run, check, explain, doctor, listing),
    *(serve, services, shell),
    *(state, dlq, bench, completion),
):
    commands.add_command(command)
