"""``m3 state``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from m3.engine.state import StateView

__all__ = ("state",)


@click.group()
def state() -> None:
    """
    Look at the state that a run keeps in a folder, or remove it.

    A run with a state goes on where the one before has ended.
    """


@state.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(folder: str, as_json: bool) -> None:
    """
    Show how far a pipeline has got.

    That is the last checkpoint: where each frontend goes on, and where each backend stood.  A
    run may use the state meanwhile.
    """
    from m3.engine.state import look_at

    view = look_at(folder)
    click.echo(_as_json(view) if as_json else "\n".join(_described(view)))


@state.command()
@click.argument("folder", metavar="DIR", type=click.Path())
def reset(folder: str) -> None:
    """
    Remove the state, so that the next run begins at the start.

    What was delivered already will be delivered again.  Dead letters stay.  It is refused
    while a run uses the state.
    """
    from m3.engine.state import reset as remove

    removed = remove(folder)
    for path in removed:
        click.echo(f"removed {path}")
    if not removed:
        click.echo(f"there is no state in {folder}")


def _described(view: "StateView") -> Iterator[str]:
    """Iterate over the lines that tell how far the pipeline has got."""
    last = view.checkpoint
    yield f"state of the pipeline {view.name!r}"
    yield f"  key         {view.key}"
    yield f"  created     {view.created}"
    yield f"  checkpoint  {last.number}, written {view.written}"
    yield f"  finished    {'yes: the input had ended' if last.finished else 'no'}"
    yield f"  in use      {f'by process {view.user}' if view.user else 'no'}"
    yield from _crashes(view)
    yield from _table("counts", last.counts)
    yield from _table("sources", last.sources)
    yield from _table("sinks", last.sinks)


def _crashes(view: "StateView") -> Iterator[str]:
    """Iterate over the lines that tell of runs which died, if some did."""
    from m3.engine.crash_guard import crashes_in

    record = crashes_in(view)
    if record.deaths:
        yield f"  crashes     {record.deaths} in a row, without getting further"
    for suspect in record.suspects.values():
        if suspect.deaths:
            yield f"              {suspect.deaths} with the item at {suspect.position} alone"


def _table(title: str, rows: dict[str, Any]) -> Iterator[str]:
    from m3.errors import abridged

    if not rows:
        return
    yield title
    names = {name: name if name.isprintable() else repr(name) for name in rows}
    width = max(map(len, names.values()))
    for name, value in rows.items():
        yield f"  {names[name]:<{width}}  {abridged(value)}"


def _as_json(view: "StateView") -> str:
    import dataclasses

    from m3._plain import dumps
    from m3.engine.crash_guard import crashes_in

    fields = dataclasses.asdict(view)
    checkpoint = fields.pop("checkpoint")
    fields["crashes"] = crashes_in(view).deaths
    return dumps({"schema": 1, **fields, **checkpoint})
