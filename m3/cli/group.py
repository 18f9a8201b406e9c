"""The group of the commands: what holds for each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from m3._shown import safe
from m3.cli.endings import abandon_stdout, flush_stdout, is_about_stdout
from m3.errors import ConfigError, MissingExtraError, StateError

__all__ = ("Commands",)


class Mistake(click.ClickException):
    """A mistake in what the command was given: shown without a traceback, exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Write the message to stderr, each of its lines as one of m3's."""
        for line in self.message.splitlines():
            click.echo(f"m3: {safe(line)}", file=file, err=True)


class Unwritten(Mistake):
    """What a command had to say could not be written: shown in the same way, exit code 1."""

    exit_code = 1


class Commands(click.Group):
    """A group whose commands end as the shell expects at a mistake or a lost stdout."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the arguments; help is printed here."""
        with _ends_well():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _ends_well():
            return super().invoke(ctx)


@contextmanager
def _ends_well() -> Iterator[None]:
    """Turn what ends a command early into what the shell expects."""
    try:
        try:
            yield
        finally:
            flush_stdout()
    except (ConfigError, MissingExtraError, StateError) as error:
        raise Mistake(str(error)) from error
    except BrokenPipeError:
        raise click.exceptions.Exit(abandon_stdout()) from None
    except OSError as error:
        if not is_about_stdout(error):
            raise
        abandon_stdout()
        raise Unwritten(f"standard output cannot be written: {error.strerror}") from error
