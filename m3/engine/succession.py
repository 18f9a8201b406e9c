"""What a worker inherits from the one whose call was given up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3._loops import abandon, settle_attempt, take_over
from m3._steps import Step
from m3._tokens import ABANDONED, FAILED, Tally
from m3._waiting import Attempt
from m3.errors import ItemTimeoutError, StageError

if TYPE_CHECKING:
    from m3.engine.workers import Worker

__all__ = ("Succession",)


@dataclass(frozen=True, slots=True)
class Succession:
    """
    The item of a call that was given up, and what else waits for another attempt.

    Attributes:
        former: the worker that made the call.
        attempt: the item, with how often it had failed before.
        error: what it has failed with now.
    """

    former: "Worker"
    attempt: Attempt
    error: ItemTimeoutError

    def begin(self, first: Step, *ordered: Any) -> None:
        """
        Take over, with the chain of the successor; in its thread.

        Args:
            first: the first step of the chain.
            ordered: for a stage that keeps the order of its input, what else
                :func:`~m3._loops.serve_ordered` takes.
        """
        first.adopt(self._step())
        take_over(first, self.error, self.attempt, *ordered)

    def abandon(self, tally: Tally) -> None:
        """Settle what a successor that cannot begin has not taken over."""
        settle_attempt(self.attempt, ABANDONED, tally)
        abandon(self._step())

    def _step(self) -> Step:
        return self.former.work.steps[self.former.pool.head.name]

    def refuse(self, tally: Tally, fail: Callable[[StageError], None]) -> None:
        """Settle the item without a successor: the run fails with it."""
        fail(
            StageError(
                self.error,
                stage=self.former.pool.head.name,
                worker=self.former.number,
                item=self.attempt.item,
                attempts=self.attempt.failures + 1,
            )
        )
        settle_attempt(self.attempt, FAILED, tally)
