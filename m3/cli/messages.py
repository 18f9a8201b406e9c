"""A failed run, for people."""

import os
import traceback
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from m3.connectors._sinks import STDOUT
from m3.errors import HungWorkerError, M3Error, StageError, StateError, describe

__all__ = ("is_about_state", "is_closed_pipe", "leaves", "told")

PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
CONNECTORS = PACKAGE + "connectors" + os.sep


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Iterate over the single errors of a group, or over the one that is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def is_closed_pipe(error: BaseException) -> bool:
    """Tell whether all that went wrong is that nobody reads stdout any more."""
    return all(
        isinstance(leaf, StageError)
        and isinstance(leaf.error, BrokenPipeError)
        and leaf.error.filename in (None, STDOUT)
        for leaf in leaves(error)
    )


def is_about_state(error: BaseException) -> bool:
    """Tell whether all that went wrong is that the kept state cannot be gone on from."""
    return all(isinstance(_cause(leaf), StateError) for leaf in leaves(error))


def told(error: BaseException, *, verbosity: int) -> str:
    """
    Return the message of one error, and the traceback of the user's code.

    Args:
        error: not a group.
        verbosity: below 0 leaves the traceback out, above 0 shows m3's own
            part of it, too.
    """
    if isinstance(error, HungWorkerError):
        return str(error)
    message = str(error) if isinstance(error, M3Error) else describe(error)
    cause = _cause(error)
    is_plain = cause is error and isinstance(error, M3Error)
    if verbosity < 0 or is_plain or isinstance(cause, StateError):
        return message
    formatted = traceback.TracebackException.from_exception(cause)
    if verbosity == 0 and not _keep_foreign_frames(formatted):
        return message
    return message + "\n" + "".join(formatted.format()).rstrip("\n")


def _cause(error: BaseException) -> BaseException:
    return error.error if isinstance(error, StageError) else error


def _keep_foreign_frames(formatted: traceback.TracebackException) -> bool:
    """Remove the frames of m3 and what its connectors call; return whether any are left."""
    before = takewhile(lambda frame: not frame.filename.startswith(CONNECTORS), formatted.stack)
    foreign = [frame for frame in before if not _is_own(frame.filename)]
    formatted.stack[:] = foreign
    chained = [formatted.__cause__, formatted.__context__, *(formatted.exceptions or ())]
    kept = [_keep_foreign_frames(inner) for inner in chained if inner is not None]
    return bool(foreign) or any(kept)


def _is_own(filename: str) -> bool:
    return filename.startswith((PACKAGE, "m3" + os.sep)) or filename.endswith(".pyx")
