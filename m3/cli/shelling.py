"""What ``m3 shell`` does."""

import importlib.util
import linecache
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any

import click

from m3.cli import prompts
from m3.cli.client import Client
from m3.cli.endings import ExitCode, die_by, is_stdout_closed
from m3.cli.messages import told_by_python
from m3.cli.settings import Settings
from m3.config.values import parse_value
from m3.errors import M3Error
from m3.observe import logs
from m3.services.container import bus_of

__all__ = ("context_from", "run_shell")


def context_from(pairs: Iterable[str]) -> dict[str, Any]:
    """
    Return what ``KEY=VALUE`` pairs say; a number or a truth value is one, all else is text.

    Raises:
        BadParameter: one is no such pair.
    """
    context: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--context")
        value = parse_value(text)
        context[key] = value if isinstance(value, (bool, int, float)) else text
    return context


def run_shell(
    settings: Settings,
    context: dict[str, Any],
    *,
    program: str | None,
    interface: str | None,
    file: str | None,
) -> int:
    """
    Run a program, that of stdin if it is no terminal, or what is typed; return the exit code.

    Args:
        settings: name the bus.
        context: what travels with each call and event.
        program: Python; None for what stdin has.
        interface: what reads what is typed; None for the best that is installed.
        file: where the settings come from.

    Raises:
        ConfigError: the settings name no bus, or the interface is not installed.
        MissingExtraError: the bus needs an extra that is not installed.
        SystemExit: the program has ended itself.
    """
    bus_of(settings)
    logs.configure(verbosity=-1)
    client = Client(settings, context)
    names = _main_module(client)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            if program is not None:
                return run_program(program.encode("utf-8", "surrogateescape"), "<string>", names)
            if sys.stdin is None or not sys.stdin.isatty():
                source = b"" if sys.stdin is None else sys.stdin.buffer.read()
                return run_program(source, "<stdin>", names)
            prompts.converse(client, names, interface=interface, file=file)
        finally:
            with suppress(M3Error):  # what could not be closed ends with the process
                client.disconnect()
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
    return ExitCode.DELIVERED


def run_program(source: bytes, filename: str, names: dict[str, Any]) -> int:
    """
    Run a program to its end; return the exit code, and tell on stderr what it has raised.

    Raises:
        SystemExit: it has ended itself.
        BrokenPipeError: nobody reads its output any more.
    """
    try:
        code = compile(source, filename, "exec", dont_inherit=True)
        _show_lines_of(source, filename)
        exec(code, names)  # noqa: S102  # which is what the user has asked for
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and is_stdout_closed():
            raise
        logs.write_line(told_by_python(error))
        return ExitCode.FAILED
    return ExitCode.DELIVERED


def _main_module(client: Client) -> dict[str, Any]:
    """Return the names of a new module ``__main__``, with those that are at hand."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    names = vars(module)
    names.update(m3=client, n=client)
    return names


def _show_lines_of(source: bytes, filename: str) -> None:
    """Have tracebacks show the lines of a program that is in no file."""
    lines = importlib.util.decode_source(source).splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
