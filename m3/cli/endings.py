"""How the process ends: exit codes, signals, closed pipes."""

import os
import signal
import sys
from enum import IntEnum
from typing import NoReturn

__all__ = (
    "ExitCode",
    "abandon_stdout",
    "die_by",
    "end_at_once",
    "flush_stdout",
    "is_about_stdout",
    "is_stdout_closed",
)


class ExitCode(IntEnum):
    """What the shell sees."""

    DELIVERED = 0
    FAILED = 1
    MISTAKE = 2
    INCOMPLETE = 3
    CLOSED_PIPE = 141


def flush_stdout() -> None:
    """Write what is left of stdout, so that a closed pipe is noticed in time."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def is_about_stdout(error: OSError) -> bool:
    """Tell whether *error* was raised where a command writes to stdout, and by nothing else."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = last.tb_frame.f_globals.get("__name__") if last is not None else None
    return error.filename is None and where in ("click.utils", __name__)


def abandon_stdout() -> int:
    """Let nothing more be written to stdout; return the exit code if its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return ExitCode.CLOSED_PIPE


def is_stdout_closed() -> bool:
    """Tell whether stdout is a pipe or socket that nobody reads any more."""
    import select

    poll = select.poll()
    try:
        poll.register(1, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except OSError:
        return False


def die_by(number: int) -> NoReturn:
    """
    End the process by the signal *number*, so that its parent knows why it ended.

    A shell shows 128 + *number*, and ends a script of its own on Ctrl-C.
    """
    _flush_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the signal does nothing to process 1 of a container


def end_at_once(code: int) -> NoReturn:
    """End the process without waiting for threads."""
    _flush_all()
    os._exit(code)


def _flush_all() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # closed, or nobody reads it: there is nowhere to say so
