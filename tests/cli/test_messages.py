"""A failed run, for people."""

import pytest

from m3.cli.messages import is_closed_pipe, is_refusal, leaves, told
from m3.errors import (
    CleanupError,
    ComponentError,
    ConfigError,
    HungWorkerError,
    MissingExtraError,
    PipelineError,
    SetupError,
    StageError,
    StateError,
)


def raised(error):
    """Return *error* with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


def failure(error, kind=StageError):
    """Return the failure of a stage."""
    return kind(raised(error), stage="parse", worker=3, item=b"x")


def test_message_and_traceback():
    """First what, where and why; then the traceback of the user's exception."""
    text = told(failure(ValueError("bad")), verbosity=0).splitlines()
    assert text[0] == "stage 'parse', worker 3: ValueError: bad (item: b'x')"
    assert text[1] == "Traceback (most recent call last):"
    assert text[-1] == "ValueError: bad"


def test_quiet():
    """Quiet leaves the message."""
    assert "\n" not in told(failure(ValueError("bad")), verbosity=-1)


def test_chained_exceptions():
    """What the user's exception was caused by is shown as well."""
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        text = told(StageError(error, stage="parse", worker=0), verbosity=0)
    assert "KeyError: 'first'" in text
    assert "direct cause" in text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RecursionError("deep")])
def test_any_exception(error):
    """Whatever user code raises can be told."""
    assert type(error).__name__ in told(failure(error), verbosity=0)


def test_exception_that_cannot_be_printed():
    """An exception whose __str__ raises can be told."""

    class Hostile(Exception):
        def __str__(self):
            raise RuntimeError

    assert "Hostile" in told(failure(Hostile()), verbosity=0)


def test_hung_worker():
    """Of a worker that hangs, the stack is shown."""
    text = told(HungWorkerError(stage="s", worker=1, stack="  File x\n"), verbosity=-1)
    assert "stage 's', worker 1" in text
    assert "File x" in text


def test_leaves_of_groups():
    """Every error of a group is told, however deep it is."""
    first, second = failure(ValueError("1")), failure(RuntimeError("2"), SetupError)
    group = PipelineError("x", [first, PipelineError("y", [second])])
    assert list(leaves(group)) == [first, second]
    assert list(leaves(first)) == [first]


def test_closed_pipes():
    """Only if everything that went wrong is a closed pipe, the end is a quiet one."""
    closed = failure(BrokenPipeError())
    assert is_closed_pipe(closed)
    assert is_closed_pipe(PipelineError("x", [closed, closed]))
    assert not is_closed_pipe(PipelineError("x", [closed, failure(ValueError())]))
    assert not is_closed_pipe(BrokenPipeError())


def test_refused():
    """What was refused before the first item is told apart: kept state, a mistake, an extra."""
    refused = failure(StateError("it is in use"), SetupError)
    assert is_refusal(refused)
    assert is_refusal(StateError("x"))
    assert is_refusal(ConfigError("x"))
    assert is_refusal(failure(ConfigError("x"), SetupError))
    assert is_refusal(failure(MissingExtraError("x", extra="x"), SetupError))
    assert is_refusal(ComponentError(ConfigError("x"), component=3, phase="setup"))
    assert is_refusal(ComponentError(ConfigError("x"), component=3, phase="__init__"))
    assert "\n" not in told(refused, verbosity=1)


@pytest.mark.parametrize(
    "error",
    [
        failure(ConfigError("x")),
        failure(FileNotFoundError("x"), SetupError),
        failure(ConfigError("x"), CleanupError),
        ComponentError(ConfigError("x"), component=3, phase="use"),
        PipelineError("x", [failure(ConfigError("x"), SetupError), failure(ValueError())]),
    ],
)
def test_no_refusals(error):
    """An error of another kind, or of another phase, is a failure."""
    assert not is_refusal(error)
