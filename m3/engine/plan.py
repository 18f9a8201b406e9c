"""
The pipeline as data: what is to run, before anything runs.

A :class:`Plan` can be printed, compared and checked without a thread.  The
engine runs it; :class:`m3.Pipeline`, :func:`m3.create` and the configuration
file each make one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m3.policies import Batch, ErrorPolicy, MaxFailures, Ordering
from m3.registry import Kind

if TYPE_CHECKING:
    from m3.engine.amendments import Amendments
    from m3.engine.letters import DeadLetters

__all__ = ("Plan", "StageSpec", "grace_of")

QUEUE_SIZE = 1024
STRETCHED_QUEUE_SIZE = 8192
DEFAULT_STOP_TIMEOUT = 30.0
DEFAULT_CHECKPOINT_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class StageSpec:
    """
    One stage, as its user described it.

    Attributes:
        kind: which of the three it is.
        target: a class or an instance with the methods of a stage, a callable,
            or (for a frontend) an iterable.
        name: unique in its plan; it appears in errors, reports and thread names.
        workers: the number of threads; 0 runs the stage inside the thread of
            the stage before it (not for a frontend).
        queue_size: the bound of the queue in front of the stage, in items; None
            for 1,024, and up to 8,192 while half of them are gone within 2 ms.
        queue_bytes: the bound of the same queue in bytes; None for any number.
        sizeof: returns the bytes of an item for it; None for the length of
            bytes and strings, the ``nbytes`` of arrays, and 0 for anything else.
        ordering: ``"completion"`` or ``"input"``.
        on_error: what happens when it raises on an item.
        timeout: seconds that one call for an item may take; None for any time.
        max_failures: how many of its items may fail before the run does; None
            for any number.
        batch: how items are gathered, for a stage with ``process_batch``; a number, given
            here or by the class, becomes a :class:`~m3.policies.Batch` of at most so many.
        concurrency: the most items in flight in each worker of an async stage.
        config: becomes ``self.config`` of the instances made from a class.
        options: keyword arguments for the class.
        context: further attributes for those instances.
    """

    kind: Kind
    target: Any
    name: str
    workers: int = 1
    queue_size: int | None = None
    queue_bytes: int | None = None
    sizeof: Callable[[Any], int] | None = None
    ordering: Ordering = "completion"
    on_error: ErrorPolicy = "fail"
    max_failures: MaxFailures | None = None
    timeout: float | None = None
    batch: Batch | None = None
    concurrency: int = 64
    config: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        most: object = self.batch
        if most is None and hasattr(self.target, "process_batch"):
            most = getattr(self.target, "batch", None)
        if type(most) is int and most > 0:
            object.__setattr__(self, "batch", Batch(most))


@dataclass(frozen=True, slots=True)
class Plan:
    """
    A whole pipeline: merged frontends, a chain of transports, and backends.

    Attributes:
        frontends: at least one; their items are merged.
        transports: in the order of the chain.
        backends: each gets every item; none leaves the results to
            :meth:`m3.Engine.results`, or discards them.
        name: of the pipeline, for reports and messages.
        stop_timeout: seconds that a stop, or the end after a failure, may take
            when the caller names no other time.
        max_failures: how many items may fail, at any stage, before the run
            does; None for any number.
        state: a folder for checkpoints, from which the next run goes on; None
            to keep none.
        dead_letters: a file for the items of the policy ``"dead_letter"``:
            JSON lines if its name ends in ``.jsonl``, else SQLite; or an open
            store, which the run closes; None for ``dead-letters.db`` in the
            folder of the state.
        checkpoint_interval: seconds between two checkpoints, as a rule.
        crash_guard: after so many runs in a row that ended by the death of the
            process at the same mark, the next one looks for the item that
            kills it, and makes it a dead letter; None to run into it again.
        resources: what the stages are given where they ask for it by
            annotation: by its class, or by the name of the attribute.
    """

    frontends: tuple[StageSpec, ...]
    transports: tuple[StageSpec, ...] = ()
    backends: tuple[StageSpec, ...] = ()
    name: str = "pipeline"
    stop_timeout: float = DEFAULT_STOP_TIMEOUT
    max_failures: MaxFailures | None = None
    state: "str | os.PathLike[str] | Amendments | None" = None
    dead_letters: "str | os.PathLike[str] | DeadLetters | None" = None
    checkpoint_interval: float = DEFAULT_CHECKPOINT_INTERVAL
    crash_guard: int | None = None
    resources: Mapping[type | str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[StageSpec]:
        """Iterate over all stages, in the direction of the items."""
        yield from self.frontends
        yield from self.transports
        yield from self.backends


def grace_of(seconds: float) -> float:
    """
    Return how much of the *seconds* for a stop is kept for the time after the queues were given up.

    In it workers end their item and clean up: a tenth, but no more than two
    seconds, and where that is little, up to half of the time.
    """
    return min(2.0, max(seconds / 10, min(0.5, seconds / 2)))
