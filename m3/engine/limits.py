"""How many items may fail before the run does: ``max_failures``, of a stage and of the run."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from m3.engine.plan import Plan, StageSpec
from m3.engine.pools import Pool
from m3.errors import StageError, TooManyFailuresError
from m3.policies import MaxFailures

if TYPE_CHECKING:
    from m3.engine.workers import Worker

__all__ = ("FailureLimit", "FailureLimits")

PROBATION = 100
"""Of fewer items a fraction says little: it is judged from then on, and at the end."""


class FailureLimit:
    """
    Counts the items that failed, at one stage or in the whole run.

    Args:
        most: more failures than this number, or than this fraction of the
            items, are too many.
        workers: how many will :meth:`leave`.
        seen: returns how many items there were so far.
    """

    def __init__(self, most: MaxFailures, *, workers: int, seen: Callable[[], int]) -> None:
        self._most = most
        self._workers = workers
        self._seen = seen
        self._failed = 0
        self._is_exceeded = False
        self._last: StageError | None = None
        self._lock = threading.Lock()

    def add(self, failure: StageError, count: int) -> TooManyFailuresError | None:
        """Count *failure*, of *count* items; the first time that it is too many, say so."""
        with self._lock:
            self._failed += count
            self._last = failure
            return self._excess(final=False)

    def leave(self) -> TooManyFailuresError | None:
        """Say that one worker has ended; after the last one a fraction is final."""
        with self._lock:
            self._workers -= 1
            return self._excess(final=True) if self._workers == 0 else None

    def _excess(self, *, final: bool) -> TooManyFailuresError | None:
        """Return the error of the limit if it is exceeded, once; the caller holds the lock."""
        if self._last is None or self._is_exceeded:
            return None
        seen = max(self._seen(), self._failed)
        is_fraction = isinstance(self._most, float)
        most = self._most * seen if is_fraction else self._most
        if self._failed <= most or (is_fraction and not final and seen < PROBATION):
            return None
        self._is_exceeded = True
        return TooManyFailuresError(self._last, failed=self._failed, seen=seen, most=self._most)


class FailureLimits:
    """
    The limits of a run.

    Args:
        plan: says what they are.
        pools: the threads that count.
        workers: whose counts are read; they may be added later.
    """

    def __init__(self, plan: Plan, pools: Iterable[Pool], workers: Sequence["Worker"]) -> None:
        threads = {spec.name: 0 for spec in plan}
        for pool in pools:
            for spec in pool.specs:
                threads[spec.name] += pool.head.workers
        self._of_stages = {
            spec.name: FailureLimit(
                spec.max_failures,
                workers=threads[spec.name],
                seen=lambda spec=spec: items_of(spec, workers),  # type: ignore[misc]
            )
            for spec in plan
            if spec.max_failures is not None
        }
        self._of_run: FailureLimit | None = None
        if plan.max_failures is not None:
            self._of_run = FailureLimit(
                plan.max_failures,
                workers=sum(threads.values()),
                seen=lambda: sum(items_of(spec, workers) for spec in plan.frontends),
            )

    def of(self, spec: StageSpec) -> tuple[FailureLimit, ...]:
        """Return the limits that a failure at the stage counts for."""
        found = (self._of_stages.get(spec.name), self._of_run)
        return tuple(limit for limit in found if limit is not None)

    def leave(self, specs: Iterable[StageSpec]) -> Iterator[TooManyFailuresError]:
        """Say that a worker of these stages has ended; yield what is too much at the end."""
        for spec in specs:
            for limit in self.of(spec):
                if error := limit.leave():
                    yield error


def items_of(spec: StageSpec, workers: Iterable["Worker"]) -> int:
    """Return how many items the stage began to work on; those it produced, of a frontend."""
    if spec.kind == "frontend":
        return sum(worker.work.tally.produced for worker in workers if worker.pool.head is spec)
    steps = (worker.work.steps.get(spec.name) for worker in workers)
    return sum(step.items_in for step in steps if step is not None)
