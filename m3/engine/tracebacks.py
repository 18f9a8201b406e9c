"""The part of a traceback that is about the user's code."""

import os
import traceback
from itertools import takewhile
from pathlib import Path

from m3.errors import ItemTimeoutError, describe

__all__ = ("foreign_traceback", "keep_foreign_frames")

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


def _is_own(filename: str) -> bool:
    return filename.startswith((PACKAGE, "m3" + os.sep)) or filename.endswith(".pyx")
