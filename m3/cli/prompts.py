"""Reading what is typed in ``m3 shell``, and running it."""

import code
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

from m3.cli.client import Client
from m3.cli.messages import told_by_python
from m3.errors import ConfigError, M3Error, describe
from m3.observe.logs import write_line

__all__ = ("converse",)

HISTORY = 10_000
"""How many lines are kept from one shell to the next."""

NAMES = """\
  m3.rpc.SERVICE.METHOD(...)               calls a method and returns its result
  m3.dispatch_event(SERVICE, TYPE, DATA)   dispatches an event
  m3.config                                is the configuration{file}
  m3.disconnect()                          disconnects; the next call connects again
n is the same as m3. Ctrl-C interrupts a call, Ctrl-D ends the shell."""


def converse(
    client: Client, names: dict[str, Any], *, interface: str | None, file: str | None
) -> None:
    """
    Run what is typed until that ends.

    Args:
        client: whose bus it is about; it is connected if that is possible.
        names: what can be used.
        interface: one of :data:`INTERFACES`; None for the first that is installed.
        file: where the configuration comes from.

    Raises:
        ConfigError: the interface is not installed.
        SystemExit: what was typed says so.
    """
    chosen = interface or next(
        name for name, (module, _) in INTERFACES.items() if _is_there(module)
    )
    module, start = INTERFACES[chosen]
    if not _is_there(module):
        raise ConfigError(f"--interface {chosen}: {module} is not installed")
    start(_banner(client, file), names)


def _is_there(module: str) -> bool:
    return find_spec(module) is not None


def _banner(client: Client, file: str | None) -> str:
    names = NAMES.format(file="" if file is None else f", of {file}")
    return f"m3 shell, Python {platform.python_version()}, {_place(client)}\n{names}"


def _place(client: Client) -> str:
    """Connect, and return to which bus, or why not."""
    bus = client.bus
    if bus.startswith("memory:"):
        return f"on {bus}, which is in this process alone; to reach another one, give --broker"
    try:
        client.connect()
    except M3Error as error:
        return f"not connected to {bus}; the next call tries again:\n  {describe(error)}"
    except KeyboardInterrupt:
        return f"not connected to {bus}; the next call tries again"
    return f"on {bus}"


def _plain(banner: str, names: dict[str, Any]) -> None:
    with _line_editing(names):
        _run_startup(names)
        Interpreter(names).interact(banner, exitmsg="")


def _ipython(banner: str, names: dict[str, Any]) -> None:
    from IPython import start_ipython
    from traitlets.config import Config

    config = Config()
    config.TerminalInteractiveShell.banner1 = banner + "\n"
    config.TerminalInteractiveShell.confirm_exit = False
    config.TerminalInteractiveShell.xmode = "Plain"
    start_ipython(argv=[], user_ns=names, config=config)


def _bpython(banner: str, names: dict[str, Any]) -> None:
    from bpython import embed

    embed(locals_=names, banner=banner)


INTERFACES: dict[str, tuple[str, Callable[[str, dict[str, Any]], None]]] = {
    "bpython": ("bpython", _bpython),
    "ipython": ("IPython", _ipython),
    "plain": ("code", _plain),
}
"""What may read what is typed, by the module that it needs; in the order of nameko's shell."""


class Interpreter(code.InteractiveConsole):
    """The interpreter that Python brings, which tells errors without m3's own part of them."""

    def runcode(self, code: CodeType) -> None:
        """Run what was typed, and tell what it has raised."""
        try:
            exec(code, self.locals)  # noqa: S102  # which is what it is for
        except SystemExit:
            raise
        except BaseException as error:
            sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
            write_line(told_by_python(error))


@contextmanager
def _line_editing(names: dict[str, Any]) -> Iterator[None]:
    """Have lines edited, names completed, and what is typed remembered, in the block."""
    try:
        import readline
        import rlcompleter
    except ImportError:  # of a Python that was built without it
        yield
        return
    readline.set_completer(rlcompleter.Completer(names).complete)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.set_history_length(HISTORY)
    path = _history()
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with suppress(OSError):  # it is a convenience, and not worth an error
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(path)


def _history() -> Path:
    """Return the file of what was typed, in the place of the XDG Base Directory Specification."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    home = state if state.is_absolute() else Path("~/.local/state").expanduser()
    return home / "m3" / "shell_history"


def _run_startup(names: dict[str, Any]) -> None:
    """Run the file that the user has for Python's own prompt, if there is one."""
    path = os.environ.get("PYTHONSTARTUP")
    if not path:
        return
    try:
        exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), names)  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:
        write_line(told_by_python(error))
