"""``m3 bench``."""

import click

__all__ = ("bench",)


@click.command()
@click.option(
    "--items",
    type=click.IntRange(min=1_000),
    default=300_000,
    show_default=True,
    metavar="N",
    help="Items of each measurement of throughput.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Threads of the transport, where several are measured.",
)
def bench(items: int, workers: int) -> None:
    """
    Measure the engine on this machine.

    Takes a few seconds.  Ends with exit code 1 if an item was lost, doubled or out of order.
    """
    from m3.cli.benching import measure

    failures = 0
    for measurement in measure(items=items, workers=workers):
        click.echo(f"{measurement.what:<44} {measurement.figure:>24}  {measurement.verdict}")
        failures += not measurement.is_right
    click.get_current_context().exit(1 if failures else 0)
