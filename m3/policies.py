"""How a stage is to behave, as frozen records; the engine acts on them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from m3.errors import PlanError, StageError, abridged

__all__ = ("Backoff", "Batch", "ErrorPolicy", "MaxFailures", "Ordering", "Retry", "Verdict")

Ordering = Literal["completion", "input"]
"""In which order a stage's results go on: as they complete, or as they came in."""

Verdict = Literal["fail", "skip", "dead_letter"] | Callable[[StageError], Any]
"""
What becomes of an item on which a stage has raised for good.

``"fail"`` ends the run; ``"skip"`` counts the item as failed and goes on;
``"dead_letter"`` keeps the item with its cause and goes on.  A callable is
called with the :class:`~m3.errors.StageError` (which has the item, the stage,
the worker, the original error and how often it was tried), in the worker's
thread, and returns one of the three, or ``m3.DROP`` to count the item as
dropped; ``None`` means ``"skip"``, and raising means ``"fail"``.
"""


def _check_time(policy: object, name: str) -> None:
    seconds = getattr(policy, name)
    if not _is_number(seconds, least=0):
        raise PlanError(
            f"{type(policy).__name__}({name}={abridged(seconds)}): it is a time in seconds, at "
            "least 0"
        )


def _is_number(value: object, *, least: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and value >= least  # type: ignore[operator]  # it is a number


@dataclass(frozen=True, slots=True)
class Backoff:
    """
    How long an item waits between two attempts; all times are in seconds.

    The time before attempt *n* + 1 is ``initial * factor ** (n - 1)``, at most
    ``maximum``.  With jitter it is a random part of that, from 0 on: "full
    jitter", which spreads the attempts of many items best (M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        initial: the time before the second attempt.
        maximum: the longest time.
        factor: by how much each is longer than the one before.
        jitter: whether each is shortened at random.
        max_elapsed: no attempt begins later than this after the first failure;
            None for no such bound.
    """

    initial: float = 0.1
    maximum: float = 30.0
    factor: float = 2.0
    jitter: bool = True
    max_elapsed: float | None = None

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "max_elapsed"):
            if not (name == "max_elapsed" and self.max_elapsed is None):
                _check_time(self, name)
        if not _is_number(self.factor, least=1):
            raise PlanError(f"Backoff(factor={abridged(self.factor)}): it is a number, at least 1")

    def delay_after(self, attempts: int) -> float:
        """Return the seconds to wait after so many attempts have failed."""
        try:
            seconds = min(self.maximum, self.initial * self.factor ** (attempts - 1))
        except OverflowError:
            seconds = self.maximum
        return random.uniform(0, seconds) if self.jitter else seconds  # noqa: S311  # no secret


@dataclass(frozen=True, slots=True)
class Retry:
    """
    Try an item again when the stage raises on it; while it waits, it occupies no worker.

    Attributes:
        attempts: how often the stage's code is called with the item at most,
            the first time included.
        backoff: how long the item waits before each further one.
        then: what becomes of an item whose last attempt has failed.
        on: only these errors are worth another attempt; a list, and a class by itself,
            are taken as a tuple.

    Raises:
        PlanError: an argument is nothing that it could be.
    """

    attempts: int = 3
    backoff: Backoff = Backoff()
    then: Verdict = "fail"
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise PlanError(f"Retry(attempts={self.attempts!r}): it is a number, at least 1")
        if type(self.backoff) is not Backoff:
            raise PlanError(f"Retry(backoff={self.backoff!r}): it is a Backoff")
        if not callable(self.then) and self.then not in ("fail", "skip", "dead_letter"):
            raise PlanError(
                f"Retry(then={self.then!r}): it is 'fail', 'skip', 'dead_letter' or a callable"
            )
        object.__setattr__(self, "on", _exceptions(self.on))


def _exceptions(given: object) -> tuple[type[Exception], ...]:
    """Return the classes of exceptions that were *given* as a tuple, as a list, or as one."""
    classes = given if isinstance(given, (tuple, list)) else (given,)
    if not all(isinstance(each, type) and issubclass(each, Exception) for each in classes):
        raise PlanError(
            f"Retry(on={abridged(given)}): it is a tuple of classes of exceptions, as "
            "(OSError, ValueError)"
        )
    return tuple(classes)


ErrorPolicy = Verdict | Retry
"""What happens when a stage raises on an item; see :data:`Verdict` and :class:`Retry`."""


MaxFailures = int | float
"""
How many items may fail under a policy that goes on: a number, or a fraction of all below 1.

A fraction is judged from the hundredth item on, and at the end.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """
    How items are gathered for ``process_batch``.

    A batch is handed over as soon as any bound is reached, and at the end of
    the input and at a stop whatever there is.

    Attributes:
        count: the most items in a batch.
        bytes: the most bytes; sizes are ``len()`` of bytes and strings, the
            ``nbytes`` of arrays, and 0 for anything else.  An item that is
            larger makes a batch of its own.
        period: how long, in seconds since its first item, a batch may wait for
            more; 0 takes what is waiting and never waits.

    Raises:
        PlanError: a bound is no number, or too small.
    """

    count: int = 256
    bytes: int | None = None
    period: float = 0.0

    def __post_init__(self) -> None:
        for name, what in (("count", "items"), ("bytes", "bytes")):
            most = getattr(self, name)
            is_open = name == "bytes" and most is None
            if not is_open and (type(most) is not int or most < 1):
                raise PlanError(
                    f"Batch({name}={abridged(most)}): it is a number of {what}, at least 1"
                )
        _check_time(self, "period")
