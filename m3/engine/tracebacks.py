"""The part of a traceback that is about the user's code."""

import os
import traceback
from itertools import dropwhile, takewhile
from pathlib import Path

from m3.errors import ItemTimeoutError, describe

__all__ = ("foreign_traceback", "keep_callers_frames", "keep_foreign_frames")

PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
CONNECTORS = PACKAGE + "connectors" + os.sep


def foreign_traceback(error: BaseException) -> str:
    """
    Return the traceback of *error* without m3's own frames, and without local variables.

    Of an :exc:`~m3.errors.ItemTimeoutError`, it is the stack of the call that was given up.
    """
    if isinstance(error, ItemTimeoutError):
        return error.stack
    try:
        formatted = traceback.TracebackException.from_exception(error)
        has_frames = keep_foreign_frames(formatted)
        return "".join(formatted.format() if has_frames else formatted.format_exception_only())
    except Exception:  # of an exception with methods that raise
        return describe(error)


def keep_foreign_frames(formatted: traceback.TracebackException) -> bool:
    """Remove the frames of m3 and what its connectors call; return whether any are left."""
    before = takewhile(lambda frame: not frame.filename.startswith(CONNECTORS), formatted.stack)
    foreign = [frame for frame in before if not _is_own(frame.filename)]
    formatted.stack[:] = foreign
    chained = [formatted.__cause__, formatted.__context__, *(formatted.exceptions or ())]
    kept = [keep_foreign_frames(inner) for inner in chained if inner is not None]
    return bool(foreign) or any(kept)


def keep_callers_frames(formatted: traceback.TracebackException) -> None:
    """Keep the frames of code that m3 has run, down to where it has called m3 in turn."""
    frames = dropwhile(lambda frame: _is_own(frame.filename), formatted.stack)
    formatted.stack[:] = list(takewhile(lambda frame: not _is_own(frame.filename), frames))
    for inner in (formatted.__cause__, formatted.__context__, *(formatted.exceptions or ())):
        if inner is not None:
            keep_callers_frames(inner)


def _is_own(filename: str) -> bool:
    return filename.startswith((PACKAGE, "m3" + os.sep)) or filename.endswith(".pyx")
