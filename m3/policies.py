"""How a stage is to behave, as frozen records; the engine acts on them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from m3.errors import PlanError, StageError

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
            seconds = getattr(self, name)
            if seconds is not None and not seconds >= 0:
                raise PlanError(f"Backoff({name}={seconds}): a time cannot be negative")
        if not self.factor >= 1:
            raise PlanError(f"Backoff(factor={self.factor}): it is 1 or more")

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
        on: only these errors are worth another attempt.
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
    """

    count: int = 256
    bytes: int | None = None
    period: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PlanError(f"Batch(count={self.count}): at least 1 item makes a batch")
        if self.bytes is not None and self.bytes < 1:
            raise PlanError(f"Batch(bytes={self.bytes}): at least 1 byte makes a batch")
        if self.period < 0:
            raise PlanError(f"Batch(period={self.period}): a time cannot be negative")
