"""What happens when a stage's code raises on an item."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from m3._parking import Switch
from m3._steps import FATAL
from m3._tokens import DEAD_LETTERED, DROPPED, FAILED
from m3._types import DROP
from m3.engine.limits import FailureLimit
from m3.engine.plan import StageSpec
from m3.engine.retries import delay_before_next
from m3.engine.validation import final_verdict
from m3.errors import (
    ConfigError,
    CrashError,
    DeadLetterError,
    HungWorkerError,
    M3Error,
    PipelineError,
    PlanError,
    Reject,
    StageError,
    StopPipeline,
    abridged,
)
from m3.policies import Retry

__all__ = ("Failures", "Judge", "stage_of")

MOST_ITEM_ERRORS = 10

STAGE = "__m3_stage__"
"""The attribute of an exception that says which stage has raised it."""

VERDICTS = ("fail", "skip", "dead_letter", DROP)

KeepLetter = Callable[[StageError, Sequence[tuple[Any, Any]], str], None]
"""Keeps the (item, position) pairs of a failure at a stage of that kind as dead letters."""


class Failures:
    """
    What a run has failed with, and what it has survived.

    Attributes:
        errors: why it failed.
        item_errors: the first errors of items that were skipped or kept as dead letters.
        hung: workers that did not end by the deadline.
    """

    def __init__(self) -> None:
        self.errors: list[M3Error] = []
        self.item_errors: list[StageError] = []
        self.hung: list[HungWorkerError] = []
        self._lock = threading.RLock()

    def add(self, failure: M3Error) -> None:
        """Make *failure* one of those that the run fails with; once, if it is told again."""
        if not any(_are_same(failure, known) for known in self.errors):
            self.errors.append(failure)

    def note(self, failure: StageError) -> None:
        """Keep *failure*, which the run survives, if it is one of the first."""
        if len(self.item_errors) < MOST_ITEM_ERRORS:
            self.item_errors.append(failure)

    def note_hung(self, hung: Iterable[HungWorkerError]) -> None:
        """Keep who hangs, if that is not known yet."""
        found = [*hung]
        with self._lock:
            self.hung = self.hung or found

    def all(self) -> list[M3Error]:
        """Return everything that makes the run a failed one."""
        return [*self.errors, *self.hung]

    def raise_all(self, name: str) -> None:
        """Raise them, several as one group, if the pipeline called *name* has failed."""
        failures = self.all()
        if len(failures) > 1:
            raise PipelineError(f"pipeline {name!r} failed in {len(failures)} ways", failures)
        if failures:
            raise failures[0]


def stage_of(error: BaseException) -> str | None:
    """Return the name of the stage that has given up an item because of *error*, if one has."""
    return getattr(error, STAGE, None)


def _are_same(one: M3Error, other: M3Error) -> bool:
    """Tell whether two failures are the same exception of the same worker."""
    if not (isinstance(one, StageError) and isinstance(other, StageError)):
        return one is other
    is_same_error = one.error is other.error and type(one) is type(other)
    return is_same_error and (one.stage, one.worker) == (other.stage, other.worker)


class Judge:
    """
    Applies the ``on_error`` policy of a stage in one of its workers.

    What is no :class:`Exception` (``SystemExit``, ``KeyboardInterrupt``) fails
    the run whatever the policy says: it is not about the item.

    Args:
        spec: the stage.
        worker: the number of the worker.
        aborting: on when the run is over.
        most_waiting: how many items may wait for another attempt beside the one at hand.
        fail: called with the error that ends the run.
        note: called with an error that the run survives.
        stop: called when the stage's code wants the run to end well.
        keep: keeps dead letters; None if the run keeps none.
        limits: count the failures that the run survives, as long as it does.

    Attributes:
        retries_until: when the last of the items is due that are to be tried
            again, or were, on the monotonic clock.
    """

    def __init__(
        self,
        spec: StageSpec,
        worker: int,
        *,
        aborting: Switch,
        most_waiting: int,
        fail: Callable[[StageError], None],
        note: Callable[[StageError], None],
        stop: Callable[[], None],
        keep: KeepLetter | None = None,
        limits: Sequence[FailureLimit] = (),
    ) -> None:
        self.aborting = aborting
        self.most_waiting = most_waiting
        self.retries_until = 0.0
        self._spec = spec
        self._worker = worker
        self._fail = fail
        self._note = note
        self._stop = stop
        self._keep = keep
        self._limits = limits
        self._retry = spec.on_error if isinstance(spec.on_error, Retry) else None

    @property
    def is_all_or_nothing(self) -> bool:
        """Whether of an item that failed nothing may have gone on, for all of it will again."""
        policy = self._spec.on_error
        is_kept = policy == "dead_letter" or isinstance(policy, Retry)
        return is_kept or self._spec.timeout is not None

    def delay(self, error: BaseException, attempts: int, since: float) -> float | None:
        """
        Return in how many seconds to try the item again, or None to give it up.

        Args:
            error: what the stage's code raised.
            attempts: how often it was called with the item.
            since: when the first attempt failed, on the monotonic clock.
        """
        seconds = delay_before_next(self._retry, error, attempts, since)
        if seconds is not None:
            self.retries_until = max(self.retries_until, time.monotonic() + seconds)
        return seconds

    def __call__(
        self,
        error: BaseException,
        item: Any,
        position: Any,
        positions: Sequence[Any] | None = None,
        attempts: int = 1,
    ) -> int:
        """
        Return FAILED, DROPPED or DEAD_LETTERED, or FATAL when the run is over.

        Args:
            error: what the stage's code raised.
            item: the item, or the list of items, that it was called with.
            position: where the first of them came from.
            positions: where each item of a list came from; None for a single one.
            attempts: how often the stage's code was called with it.
        """
        if isinstance(error, StopPipeline):
            self._stop()
            return DROPPED
        with suppress(AttributeError, TypeError):  # of a class that takes none
            setattr(error, STAGE, self._spec.name)
        if isinstance(error, CrashError):
            attempts = error.deaths
        failure = self._failure(error, item, position, attempts)
        verdict: object = "fail"
        if isinstance(error, Exception):
            try:
                verdict = self._verdict(failure)
            except BaseException as second:
                self._fail(self._failure(second, item, position, attempts))
        if verdict == "fail":
            self._fail(failure)
            return FATAL
        if verdict is DROP:
            return DROPPED
        pairs = [(item, position)] if positions is None else list(zip(item, positions, strict=True))
        if verdict == "dead_letter" and not self._is_kept(failure, pairs):
            return FATAL
        self._note(failure)
        if self._are_too_many(failure, len(pairs)):
            return FATAL
        return DEAD_LETTERED if verdict == "dead_letter" else FAILED

    def _is_kept(self, failure: StageError, pairs: list[tuple[Any, Any]]) -> bool:
        """Keep the items as dead letters; where that fails, the run does."""
        error: Exception | None = None
        if self._keep is None:
            error = PlanError("there is no place for dead letters: give dead_letters or state")
        else:
            try:
                self._keep(failure, pairs, self._spec.kind)
                failure.is_kept = True
            except Exception as raised:
                error = raised
        if error is not None:
            self._fail(failure)
            cause = DeadLetterError(f"the item could not be kept as a dead letter: {error}")
            cause.__cause__ = error
            self._fail(self._failure(cause, failure.item, failure.position, failure.attempts))
        return error is None

    def _are_too_many(self, failure: StageError, count: int) -> bool:
        excesses = [limit.add(failure, count) for limit in self._limits]
        excess = next(filter(None, excesses), None)
        if excess is not None:
            self._fail(excess)
        return excess is not None

    def _failure(self, error: BaseException, item: Any, position: Any, attempts: int) -> StageError:
        return StageError(
            error,
            stage=self._spec.name,
            worker=self._worker,
            item=item,
            position=position,
            attempts=attempts,
        )

    def _verdict(self, failure: StageError) -> object:
        policy = final_verdict(self._spec)
        if isinstance(failure.error, CrashError):
            return "dead_letter"
        if callable(policy):
            verdict = self._checked(policy(failure))
        elif isinstance(failure.error, Reject):
            verdict = "skip" if self._keep is None else "dead_letter"
        else:
            verdict = policy
        return verdict

    def _checked(self, verdict: object) -> object:
        if verdict is None:
            return "skip"
        if not any(verdict is known or verdict == known for known in VERDICTS):
            raise ConfigError(
                f"on_error of stage {self._spec.name!r} returned {abridged(verdict)}; "
                "it returns 'fail', 'skip', 'dead_letter', None or m3.DROP"
            )
        return verdict
