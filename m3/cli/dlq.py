"""``m3 dlq``: look at dead letters, send them through their pipeline again, remove them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m3.cli.options import configuration_from, pipeline_options, verbosity_options

if TYPE_CHECKING:
    from m3.engine.dead_letter import Selection
    from m3.engine.letters import DeadLetters

__all__ = ("dlq",)


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the options that select letters."""
    for option in (
        click.option("--stage", metavar="NAME", help="Only those that failed at this stage."),
        click.option(
            "--only",
            metavar="TYPE",
            help="Only those with this type of error, with or without its module.",
        ),
    ):
        command = option(command)
    return command


numbered = click.option(
    "--id",
    "ids",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Only the letter of this number; may be repeated.",
)

store_argument = click.argument("store", type=click.Path(path_type=Path))


def seconds_of(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return the seconds since the epoch of a date, or date and time, in UTC if it has no zone."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no date, as 2025-01-31 or 2025-01-31T12:00:00Z are"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.group()
def dlq() -> None:
    """
    Look at dead letters, send them through their pipeline again, remove them.

    STORE is the file that a run has kept them in, or the folder of its state.
    """


@dlq.command("ls")
@store_argument
@selecting
@click.option("--json", "wants_json", is_flag=True, help="Everything, one JSON object per line.")
def ls(store: Path, wants_json: bool, **selected: Any) -> None:
    """List the letters, one in each line."""
    from m3.cli.letters_shown import as_json, in_one_line

    with _read(store) as letters:
        for letter in letters.select(_selection(**selected)):
            click.echo(as_json(letter) if wants_json else in_one_line(letter))


@dlq.command()
@store_argument
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
def show(store: Path, number: int) -> None:
    """Show everything about the letter with the number ID."""
    from m3.cli.letters_shown import details
    from m3.errors import StateError

    with _read(store) as letters:
        found = next(letters.select(_selection(ids=[number])), None)
    if found is None:
        raise StateError(f"{store}: there is no letter {number}; m3 dlq ls shows which there are")
    click.echo("\n".join(details(found)))


@dlq.command()
@store_argument
def stats(store: Path) -> None:
    """Count the letters by stage and type of error."""
    from m3.cli.letters_shown import statistics

    with _read(store) as letters:
        click.echo("\n".join(statistics(letters.select())))


@dlq.command()
@store_argument
@selecting
@numbered
@click.option(
    "--before",
    callback=seconds_of,
    metavar="DATE",
    help="Only those that last failed before this date, or date and time; in UTC.",
)
@click.option("--all", "wants_all", is_flag=True, help="All letters, if nothing selects some.")
def purge(store: Path, wants_all: bool, **selected: Any) -> None:
    """Remove letters for good."""
    from m3.cli.letters_shown import counted

    if wants_all and any(selected.values()):
        raise click.UsageError("--all means every letter: give it alone, or what selects some")
    if not wants_all and not any(selected.values()):
        raise click.UsageError("say which letters: by --only, --stage, --before, --id, or --all")
    with _opened(store) as letters:
        numbers = [letter.id for letter in letters.select(_selection(**selected))]
        letters.settle(gone=numbers)
    click.echo(f"{counted(len(numbers))} removed")


@dlq.command()
@store_argument
@pipeline_options
@selecting
@numbered
@click.option("--to", metavar="STAGE", help="Enter at this stage.  [default: each where it failed]")
@verbosity_options
def redrive(
    store: Path,
    file: str | None,
    to: str | None,
    quiet: bool,
    verbose: int,
    only: str | None,
    stage: str | None,
    ids: tuple[int, ...],
    **parameters: Any,
) -> None:
    """
    Send letters through their pipeline again.

    The pipeline is described as for `m3 run`; its frontends are not used.  Each letter goes
    on from the stage where it failed.  It leaves the store when it has been delivered, and
    stays in it if it fails again.  Exit code 3: some are left.
    """
    from m3.cli.redriving import redrive_letters

    if "dead_letters" in parameters:
        parameters["dead_letters"] = str(_file_of(store))
    if store.is_dir():
        parameters["state"] = str(store)
    parameters["frontend"] = parameters["frontend"] or (() if file else ("stdin",))
    configuration = configuration_from(file, parameters)
    with _opened(store) as letters:
        code = redrive_letters(
            configuration,
            letters,
            _selection(only=only, stage=stage, ids=ids),
            to=to,
            verbosity=-1 if quiet else verbose,
        )
    click.get_current_context().exit(code)


def _selection(ids: Any = None, **selected: Any) -> "Selection":
    from m3.engine.dead_letter import Selection

    return Selection(ids=frozenset(ids) if ids else None, **selected)


@contextmanager
def _read(store: Path) -> "Iterator[DeadLetters]":
    """Open a store to look at it."""
    from m3.engine.letters import read_dead_letters

    letters = read_dead_letters(_file_of(store))
    try:
        if letters.note:
            click.echo(f"m3: warning: {letters.note}", err=True)
        yield letters
    finally:
        letters.close()


@contextmanager
def _opened(store: Path) -> "Iterator[DeadLetters]":
    """Open a store, which must be there, to change it."""
    from m3.engine.letters import open_dead_letters

    with _read(store):
        pass
    letters = open_dead_letters(_file_of(store))
    try:
        yield letters
    finally:
        letters.close()


def _file_of(store: Path) -> Path:
    return store / "dead-letters.db" if store.is_dir() else store
