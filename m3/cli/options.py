"""The options that describe a pipeline, or services, shared by the commands."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from m3.cli.completion import registered_names

if TYPE_CHECKING:
    from m3.config import Configuration
    from m3.engine.plan import Plan

__all__ = (
    "broker_option",
    "config_option",
    "configuration_from",
    "pipeline_options",
    "planned",
    "search_in",
    "services_dir_option",
    "verbosity_options",
)

OPTIONS = (
    click.argument("file", required=False, type=click.Path()),
    click.option(
        "--frontend",
        multiple=True,
        metavar="NAME_OR_PATH",
        shell_complete=registered_names("frontend"),
        help="Where items come from; several are merged.",
    ),
    click.option(
        "--transport",
        multiple=True,
        metavar="NAME_OR_PATH",
        shell_complete=registered_names("transport"),
        help="What items become; several make a chain, in this order.",
    ),
    click.option(
        "--backend",
        multiple=True,
        metavar="NAME_OR_PATH",
        shell_complete=registered_names("backend"),
        help="Where items go; each of several gets every item.  [default: stdout]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Threads of every transport; 0 runs it in the thread of the stage before.",
    ),
    click.option(
        "--set",
        multiple=True,
        metavar="STAGE.OPTION=VALUE",
        help="One option of one stage, as transport.1.workers=16 or frontend.path=in.txt; "
        "or, without a stage, of the pipeline.",
    ),
    click.option(
        "--app-dir",
        metavar="DIR",
        help="Import stages from this folder, too.",
    ),
    click.option(
        "--stop-timeout",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="How long a stop may take.  [default: 30]",
    ),
    click.option(
        "--state",
        metavar="DIR",
        help="Keep checkpoints in this folder, and go on from the last one.",
    ),
    click.option(
        "--dead-letters",
        metavar="FILE",
        help="Keep the items that failed for good in this file: JSON lines if it is called "
        "*.jsonl, else SQLite.  [default: dead-letters.db in the folder of --state]",
    ),
    click.option(
        "--crash-guard",
        type=click.IntRange(min=1),
        metavar="N",
        help="When N runs in a row have died at the same checkpoint of --state, look for the item "
        "that kills them, and make it a dead letter.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="How stderr is written.  [default: text]",
    ),
    click.option(
        "--progress/--no-progress",
        default=None,
        help="Show progress on stderr.  [default: on a terminal, with rich installed]",
    ),
    click.option(
        "--health",
        metavar="[HOST:]PORT",
        help="Answer probes here while it runs, at /livez and /readyz.  [default host: 127.0.0.1]",
    ),
    click.option("--report", metavar="FILE", help="Write a report of the run, as JSON."),
)


def broker_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the option that names the bus."""
    text = "The bus: memory://, sqlite:///PATH or amqp://HOST."
    return click.option("--broker", metavar="URL", help=text)(command)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the option that names the configuration of services."""
    text = "TOML for the containers."
    return click.option("--config", type=click.Path(), metavar="FILE", help=text)(command)


def services_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the option that says where else services are imported from."""
    text = "Import services from this folder, too."
    return click.option("--app-dir", metavar="DIR", help=text)(command)


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the options that say how much it tells."""
    more = click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
    text = "Say nothing but warnings and errors."
    return click.option("-q", "--quiet", is_flag=True, help=text)(more(command))


def pipeline_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the argument FILE and the options that describe a pipeline."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def configuration_from(file: str | None, parameters: dict[str, Any]) -> "Configuration":
    """
    Return what file, environment and the parameters of a command say together.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    import os
    from pathlib import Path

    from m3.config import Flags, read

    return read(Path(file) if file else None, Flags(**parameters), os.environ)


def planned(file: str | None, parameters: dict[str, Any]) -> "tuple[Configuration, Plan]":
    """
    Return what a command describes, and its plan; warnings are shown.

    Raises:
        ConfigError: with all mistakes, one in each line.
    """
    configuration = configuration_from(file, parameters)
    for warning in configuration.warnings:
        click.echo(f"m3: warning: {warning}", err=True)
    search_in(configuration.app_dir)
    return configuration, configuration.plan()


def search_in(folder: str | None) -> None:
    """
    Import from *folder* first from now on.

    Raises:
        ConfigError: there is no such folder.
    """
    import sys
    from pathlib import Path

    from m3.errors import ConfigError

    if folder is None:
        return
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(f"--app-dir {folder}: there is no such folder")
    sys.path.insert(0, str(path.resolve()))
