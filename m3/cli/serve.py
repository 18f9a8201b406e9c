"""``m3 serve``."""

import click

from m3.cli.options import (
    broker_option,
    config_option,
    services_dir_option,
    verbosity_options,
)

__all__ = ("serve",)


@click.command()
@click.argument("services", nargs=-1, metavar="[MODULE[:CLASS]]...")
@broker_option
@config_option
@services_dir_option
@click.option(
    "--max-workers", type=click.IntRange(min=1), metavar="N", help="Threads of each service."
)
@click.option(
    "--stop-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long a stop may take.  [default: 30]",
)
@click.option(
    "--health",
    metavar="[HOST:]PORT",
    help="Answer probes here, at /livez and /readyz.  [default host: 127.0.0.1]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How stderr is written.  [default: text]",
)
@verbosity_options
def serve(
    services: tuple[str, ...],
    broker: str | None,
    config: str | None,
    app_dir: str | None,
    max_workers: int | None,
    stop_timeout: float | None,
    health: str | None,
    log_format: str,
    quiet: bool,
    verbose: int,
) -> None:
    """
    Run services.

    Each is MODULE:CLASS, or a MODULE, all of whose services are run.  Ctrl-C or SIGTERM
    once finishes the calls at hand, Ctrl-C twice gives their messages back, three times ends
    at once.

    \b
    m3 serve shop:Orders shop:Stock --broker amqp://guest:guest@localhost
    m3 serve --config services.toml
    """  # noqa: D301  # a backspace has click keep the lines below it
    from m3.cli.serving import serve_all
    from m3.cli.settings import settings_from

    given = {
        "AMQP_URI": broker,
        "max_workers": max_workers,
        "stop_timeout": stop_timeout,
        "health": health,
    }
    settings = settings_from(config, given)
    code = serve_all(
        services,
        settings,
        app_dir=app_dir,
        log_format=log_format,
        verbosity=-1 if quiet else verbose,
    )
    click.get_current_context().exit(code)
