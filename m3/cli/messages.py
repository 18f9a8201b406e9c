"""A failed run, for people."""

import traceback
from collections.abc import Iterator

from m3._shown import safe
from m3.connectors._output.sinks import STDOUT
from m3.engine.tracebacks import keep_callers_frames, keep_foreign_frames
from m3.errors import (
    ComponentError,
    ConfigError,
    HungWorkerError,
    M3Error,
    MissingExtraError,
    SetupError,
    StageError,
    StateError,
    describe,
)

__all__ = ("is_closed_pipe", "is_refusal", "leaves", "told", "told_by_python")


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


def is_refusal(error: BaseException) -> bool:
    """
    Tell whether all that went wrong is what a command refuses.

    That is state that cannot be gone on from, or a mistake or a missing extra that only the
    setup of a stage or resource could find.
    """
    return all(_is_refusal(leaf) for leaf in leaves(error))


def _is_refusal(leaf: BaseException) -> bool:
    if isinstance(leaf, StageError) and not isinstance(leaf, SetupError):
        return isinstance(leaf.error, StateError)
    if isinstance(leaf, ComponentError) and leaf.phase not in ("__init__", "setup"):
        return False
    return isinstance(_cause(leaf), (ConfigError, MissingExtraError, StateError))


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
    if verbosity == 0 and not keep_foreign_frames(formatted):
        return message
    return message + "\n" + "".join(formatted.format()).rstrip("\n")


def told_by_python(error: BaseException) -> str:
    """
    Return the traceback of *error* as Python writes it, for code that a user runs.

    It is without what happened in m3, without an error of m3 that was the cause of another
    one, which says it all, and without secrets and control characters.
    """
    formatted = traceback.TracebackException.from_exception(error)
    keep_callers_frames(formatted)
    if isinstance(error, M3Error) and isinstance(error.__cause__, M3Error):
        formatted.__cause__ = None
    return safe("".join(formatted.format()).rstrip("\n"))


def _cause(error: BaseException) -> BaseException:
    return error.error if isinstance(error, (StageError, ComponentError)) else error
