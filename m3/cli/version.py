"""``m3 --version``."""

import click

__all__ = ("print_version",)


def print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the versions and exit, if *wanted*."""
    if not wanted or ctx.resilient_parsing:
        return
    import platform
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("m3-pipeline")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"m3 {number}, {platform.python_implementation()} {platform.python_version()}")
    ctx.exit()
