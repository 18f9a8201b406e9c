"""From the plan to thread pools and the queues that join them."""

from dataclasses import dataclass, field
from typing import Any

from m3._budget import Budget
from m3._loops import close, discard
from m3._order import Sequencer
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._tokens import Tally
from m3.engine.plan import QUEUE_SIZE, Plan, StageSpec
from m3.engine.runtime import Runtime
from m3.engine.shape import Shape, shape_of
from m3.policies import Retry

__all__ = ("Pool", "lay_out", "needs_tokens")

Branch = BoundedQueue[Any] | StageSpec
"""Where results go: the queue of another pool, or a backend in the same threads."""


@dataclass(slots=True)
class Pool:
    """
    The threads of a stage, which also run the stages chained to it.

    Attributes:
        head: the stage that takes the items.
        chained: transports with ``workers=0`` right behind it.
        inbox: the queue in front; None for a frontend.
        branches: where results go; empty to discard them.
        sequencer: restores the order of the input, for an ordered stage whose
            items may overtake each other.
    """

    head: StageSpec
    chained: tuple[StageSpec, ...]
    inbox: BoundedQueue[Any] | None
    branches: tuple[Branch, ...]
    sequencer: Sequencer | None = None

    @property
    def specs(self) -> tuple[StageSpec, ...]:
        """All stages that run in its threads, in the direction of the items."""
        last = tuple(branch for branch in self.branches if isinstance(branch, StageSpec))
        return (self.head, *self.chained, *last)

    @property
    def outlets(self) -> tuple[BoundedQueue[Any], ...]:
        """The queues that it puts into."""
        return tuple(branch for branch in self.branches if isinstance(branch, BoundedQueue))


@dataclass(slots=True)
class Layout:
    """The pools of a plan, frontends first, and the queue of its results."""

    pools: list[Pool] = field(default_factory=list)
    results: BoundedQueue[Any] | None = None

    @property
    def queues(self) -> list[BoundedQueue[Any]]:
        """Every queue between two pools or in front of the caller."""
        queues = [pool.inbox for pool in self.pools if pool.inbox is not None]
        return queues if self.results is None else [*queues, self.results]

    @property
    def sequencers(self) -> list[Sequencer]:
        """What keeps the order of the stages that have one."""
        return [pool.sequencer for pool in self.pools if pool.sequencer is not None]

    def close(self) -> None:
        """Let nothing through any more, for the run is over."""
        for queue in self.queues:
            close(queue)
        for sequencer in self.sequencers:
            sequencer.wake()

    def discard(self, tally: Tally, *, but_ordered: bool) -> None:
        """Count as abandoned what is queued, and what waits for its turn if not *but_ordered*."""
        for queue in self.queues:
            discard(queue, tally)
        for sequencer in () if but_ordered else self.sequencers:
            sequencer.discard(tally)


def lay_out(plan: Plan, runtime: Runtime, *, collect: bool, aborting: Switch) -> Layout:
    """
    Return the pools of *plan*, not started.

    Args:
        plan: what to lay out.
        runtime: makes the queues.
        collect: keep the results of the last transport for the caller.
        aborting: on when the run is over.
    """
    layout = Layout()
    backends = [
        Pool(spec, (), inbox_of(spec, runtime), ()) for spec in plan.backends if spec.workers
    ]
    inboxes = {pool.head.name: pool.inbox for pool in backends}
    branches: tuple[Branch, ...] = tuple(inboxes.get(spec.name) or spec for spec in plan.backends)
    if collect:
        last = (*plan.frontends, *plan.transports)[-1]
        layout.results = runtime.queue(last.queue_size, naps=True)
        branches = (layout.results,)
    transports: list[Pool] = []
    chained: tuple[StageSpec, ...] = ()
    for spec in reversed(plan.transports):
        if spec.workers == 0:
            chained = (spec, *chained)
            continue
        inbox = inbox_of(spec, runtime)
        sequencer = Sequencer(window_of(spec), aborting) if reorders(spec) else None
        transports.insert(0, Pool(spec, chained, inbox, branches, sequencer))
        branches, chained = (inbox,), ()
    frontends = [Pool(spec, chained, None, branches) for spec in plan.frontends]
    layout.pools = [*frontends, *transports, *backends]
    return layout


def inbox_of(spec: StageSpec, runtime: Runtime) -> BoundedQueue[Any]:
    """Return the queue in front of a stage, with naps if the stage has one worker for it."""
    queue = runtime.queue(spec.queue_size, naps=spec.workers == 1)
    if spec.queue_bytes is not None:
        queue.budget = Budget(spec.queue_bytes, spec.sizeof)
    return queue


def reorders(spec: StageSpec) -> bool:
    """Return whether the stage's items may overtake each other and must not."""
    if spec.ordering != "input" or spec.kind != "transport":
        return False
    is_parallel = spec.workers > 1 or (shape_of(spec).is_async and spec.concurrency > 1)
    return is_parallel or isinstance(spec.on_error, Retry)


def window_of(spec: StageSpec) -> int:
    """Return how far an ordered stage may run ahead of its oldest item."""
    in_hand = spec.workers * (spec.concurrency if shape_of(spec).is_async else 1)
    return max(spec.queue_size or QUEUE_SIZE, 2 * in_hand)


def needs_tokens(plan: Plan) -> bool:
    """Return whether one item of a frontend may end in several places."""
    splitting = (Shape.EXPAND, Shape.ASYNC_EXPAND, Shape.BATCH)
    return len(plan.backends) > 1 or any(shape_of(spec) in splitting for spec in plan.transports)
