"""``m3 shell``."""

import click

from m3.cli.options import broker_option, config_option

__all__ = ("shell",)


@click.command()
@broker_option
@config_option
@click.option("--app-dir", metavar="DIR", help="Import modules from this folder, too.")
@click.option(
    "--interface",
    type=click.Choice(["plain", "ipython", "bpython"]),
    help="What reads what is typed.  [default: bpython or ipython, if installed]",
)
@click.option("-c", "--command", metavar="CODE", help="Run this program, and end.")
@click.option(
    "--context",
    multiple=True,
    metavar="KEY=VALUE",
    help="What travels with each call and event, as user_id=7; may be repeated.",
)
def shell(
    broker: str | None,
    config: str | None,
    app_dir: str | None,
    interface: str | None,
    command: str | None,
    context: tuple[str, ...],
) -> None:
    """
    Call services and dispatch events in Python.

    In it, m3.rpc.SERVICE.METHOD(...) calls a method, m3.dispatch_event(SERVICE, TYPE, DATA)
    dispatches an event, and m3.config is the configuration.  If stdin is no terminal, it is
    the program that is run.

    \b
    m3 shell --broker amqp://guest:guest@localhost
    m3 shell --config services.toml -c 'print(m3.rpc.stock.take("tea"))'
    """  # noqa: D301  # a backspace has click keep the lines below it
    from m3.cli.options import search_in
    from m3.cli.settings import settings_from
    from m3.cli.shelling import context_from, run_shell

    settings = settings_from(config, {"AMQP_URI": broker})
    search_in(app_dir)
    code = run_shell(
        settings, context_from(context), program=command, interface=interface, file=config
    )
    click.get_current_context().exit(code)
