"""What happens when a stage's code raises on an item."""

from collections.abc import Callable
from typing import Any

from m3._steps import FATAL
from m3._tokens import DROPPED, FAILED
from m3._types import DROP
from m3.engine.plan import StageSpec
from m3.errors import ConfigError, StageError, abridged

__all__ = ("Judge",)

VERDICTS = ("fail", "skip", DROP)


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
    """

    def __init__(
        self,
        spec: StageSpec,
        worker: int,
        *,
        fail: Callable[[StageError], None],
        note: Callable[[StageError], None],
    ) -> None:
        self._spec = spec
        self._worker = worker
        self._fail = fail
        self._note = note

    def __call__(self, error: BaseException, item: Any, position: Any) -> int:
        """Return FAILED or DROPPED, or FATAL when the run is over."""
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
        return FAILED

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
