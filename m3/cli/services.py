"""``m3 services``."""

import click

from m3.cli.options import broker_option, config_option, services_dir_option

__all__ = ("services",)


@click.group()
def services() -> None:
    """Look at services, and at their configuration, without running them."""


@services.command("list")
@click.argument("names", nargs=-1, metavar="[MODULE[:CLASS]]...")
@config_option
@services_dir_option
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def listing(
    names: tuple[str, ...], config: str | None, app_dir: str | None, wants_json: bool
) -> None:
    """
    List services: what calls their methods, and what they need.

    They are named as for `m3 serve`.  Their modules are imported; nothing is started, and
    nothing connected.
    """
    from m3._shown import safe
    from m3.cli.options import search_in
    from m3.cli.service_names import services_named
    from m3.cli.services_shown import as_json, as_text
    from m3.cli.settings import settings_from
    from m3.services.description import describe_service

    settings = settings_from(config, {})
    search_in(app_dir)
    found = [describe_service(each, settings) for each in services_named(names, settings)]
    click.echo(as_json(found) if wants_json else safe("\n".join(as_text(found))))


@services.command("show-config")
@config_option
@broker_option
def show_config(config: str | None, broker: str | None) -> None:
    """
    Show the configuration of services, as TOML.

    Variables are replaced, and each value stands with where it was given.  Passwords and
    what looks like one by its name are masked.
    """
    from m3.cli.settings import settings_from
    from m3.cli.settings_shown import as_toml

    click.echo("\n".join(as_toml(settings_from(config, {"AMQP_URI": broker}))))
