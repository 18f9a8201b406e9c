"""What happens when a stage's code raises on an item."""

from collections.abc import Callable, Sequence
from typing import Any

from m3._steps import FATAL
from m3._tokens import DROPPED, FAILED
from m3._types import DROP
from m3.engine.limits import FailureLimit
from m3.engine.plan import StageSpec
from m3.errors import (
    ConfigError,
    HungWorkerError,
    M3Error,
    PipelineError,
    StageError,
    StopPipeline,
    abridged,
)

__all__ = ("Failures", "Judge")

MOST_ITEM_ERRORS = 10

VERDICTS = ("fail", "skip", DROP)


class Failures:
    """
    What a run has failed with, and what it has survived.

    Attributes:
        errors: why it failed.
        item_errors: the first errors of items that were skipped.
        hung: workers that did not end by the deadline.
    """

    def __init__(self) -> None:
        self.errors: list[StageError] = []
        self.item_errors: list[StageError] = []
        self.hung: list[HungWorkerError] = []

    def add(self, failure: StageError) -> None:
        """Make *failure* one of those that the run fails with."""
        self.errors.append(failure)

    def note(self, failure: StageError) -> None:
        """Keep *failure*, of an item that was skipped, if it is one of the first."""
        if len(self.item_errors) < MOST_ITEM_ERRORS:
            self.item_errors.append(failure)

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


class Judge:
    """
    Applies the ``on_error`` policy of a stage in one of its workers.

    What is no :class:`Exception` (``SystemExit``, ``KeyboardInterrupt``) fails
    the run whatever the policy says: it is not about the item.

    Args:
        spec: the stage.
        worker: the number of the worker.
        fail: called with the error that ends the run.
        note: called with an error that the run survives.
        stop: called when the stage's code wants the run to end well.
        limits: count the failures that the run survives, as long as it does.
    """

    def __init__(
        self,
        spec: StageSpec,
        worker: int,
        *,
        fail: Callable[[StageError], None],
        note: Callable[[StageError], None],
        stop: Callable[[], None],
        limits: Sequence[FailureLimit] = (),
    ) -> None:
        self._spec = spec
        self._worker = worker
        self._fail = fail
        self._note = note
        self._stop = stop
        self._limits = limits

    def __call__(self, error: BaseException, item: Any, position: Any, count: int = 1) -> int:
        """
        Return FAILED or DROPPED, or FATAL when the run is over.

        Args:
            error: what the stage's code raised.
            item: the item, or the list of items, that it was called with.
            position: where the first of them came from.
            count: how many items these are.
        """
        if isinstance(error, StopPipeline):
            self._stop()
            return DROPPED
        failure = self._failure(error, item, position)
        verdict: object = "fail"
        if isinstance(error, Exception):
            try:
                verdict = self._verdict(failure)
            except BaseException as second:
                self._fail(self._failure(second, item, position))
        if verdict == "fail":
            self._fail(failure)
            return FATAL
        if verdict is DROP:
            return DROPPED
        self._note(failure)
        return FATAL if self._are_too_many(failure, count) else FAILED

    def _are_too_many(self, failure: StageError, count: int) -> bool:
        excesses = [limit.add(failure, count) for limit in self._limits]
        excess = next(filter(None, excesses), None)
        if excess is not None:
            self._fail(excess)
        return excess is not None

    def _failure(self, error: BaseException, item: Any, position: Any) -> StageError:
        return StageError(
            error, stage=self._spec.name, worker=self._worker, item=item, position=position
        )

    def _verdict(self, failure: StageError) -> object:
        policy = self._spec.on_error
        if not callable(policy):
            return policy
        verdict = policy(failure)
        if verdict is None:
            return "skip"
        if not any(verdict is known or verdict == known for known in VERDICTS):
            raise ConfigError(
                f"on_error of stage {self._spec.name!r} returned {abridged(verdict)}; "
                "it returns 'fail', 'skip', None or m3.DROP"
            )
        return verdict
