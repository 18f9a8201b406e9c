"""What a worker does with items: the chain of steps, and the loop that feeds it."""

import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from m3._flights import Flights
from m3._loops import (
    Intake,
    abandon,
    end,
    hand_over,
    is_way_in,
    pump,
    serve,
    serve_ordered,
    settle_attempt,
    wake,
)
from m3._order import Collect
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import (
    Aborted,
    Broadcast,
    Call,
    Consume,
    Deliver,
    Expand,
    Gather,
    Send,
    Step,
)
from m3._tokens import ABANDONED, Ledger, Tally
from m3._waiting import Watch
from m3.engine.answers import MOST_UNANSWERED, Answers
from m3.engine.delivery import is_told
from m3.engine.errands import Errands
from m3.engine.failures import Failures, Judge
from m3.engine.limits import FailureLimits
from m3.engine.plan import Plan, StageSpec
from m3.engine.pools import Branch, Pool
from m3.engine.retries import MOST_WAITING
from m3.engine.runtime import Runtime
from m3.engine.shape import Shape, entry_point, iterate, shape_of
from m3.engine.succession import Succession
from m3.errors import StageError, StopPipeline
from m3.policies import Batch
from m3.stages import Frontend

if TYPE_CHECKING:
    from m3.engine.async_worker import AsyncWork
    from m3.engine.report import Report
    from m3.engine.resources import Resources
    from m3.engine.stores import Stores

__all__ = ("Run", "Work")


class Run(Protocol):
    """What a worker needs of the engine that runs it."""

    plan: Plan
    runtime: Runtime
    stopping: Switch
    aborting: Switch
    limits: FailureLimits
    failures: Failures
    stores: "Stores"
    resources: "Resources"
    tracking: bool

    def report(self) -> "Report":
        """Return what the run has done so far."""

    def prepared(self) -> None:
        """Take note that the setup of a worker is over, well or not."""

    def fail(self, failure: StageError) -> None:
        """End the run because of *failure*."""

    def request_stop(self, timeout: float | None = None) -> None:
        """Begin to stop."""

    def frontend_failed(self, failure: StageError) -> None:
        """End the input because of *failure*, and deliver what was produced."""

    def all_passed_on(self, worker: Any) -> None:
        """Take note that *worker* has passed on all that it will."""

    def ended(self, worker: Any) -> None:
        """Take note that nothing of *worker* runs any more."""

    def at_abort(self, function: Callable[[], object]) -> None:
        """Call *function* when the run is over, perhaps again; at once if it is."""

    def has_failed(self) -> bool:
        """Return whether the run has failed or was given up."""


class Work:
    """
    The work of one worker.

    Attributes:
        instances: the worker's stages by name; filled by its setup.
        steps: the steps of the stages by name, for their counts.
        tally: what became of items in the chain.
        tallies: that one, and a further one of an async stage.
        interrupt: on when a frontend is to end; wakes it.
        errands: calls that others want made in the worker's thread.
        ledger: the items of a frontend that it is to be told about, or that are
            to be done again by a later run; None if there is no need for one.
        watch: the call at hand, of a stage with a timeout.
        succession: what it takes over from a worker before it; None for the first.
        carefully: yields what a frontend produces, as long as the run has to be
            careful with it; None if it has not.
        answers: tell a frontend what became of its items; None if it does not care.
        answering: the thread in which they are given.
        stopper: the thread in which a frontend's own ``stop`` is called.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        number: int,
        run: Run,
        succession: Succession | None = None,
    ) -> None:
        self.instances: dict[str, Any] = {}
        self.steps: dict[str, Step] = {}
        self.tally = Tally()
        self.tallies = [self.tally]
        self.interrupt = run.runtime.switch()
        self.errands = Errands(run.runtime)
        self.ledger: Ledger | None = None
        self.watch: Watch | None = None
        self.succession = succession
        self.carefully: Callable[[Iterator[Any]], Generator[Any]] | None = None
        self.answers: Answers | None = None
        self.answering: threading.Thread | None = None
        self.stopper: threading.Thread | None = None
        self._judges: list[Judge] = []
        self._chains: list[Step] = []
        self._async: AsyncWork | None = None
        self._may_be_stopped = False
        self._name = name
        self._pool = pool
        self._number = number
        self._run = run

    def do(self) -> None:
        """
        Work until the end of the input, the stop, or the end of the run.

        Raises:
            Aborted: the run is over.
        """
        after = self._steps_behind_head()
        work: Callable[[Step], None]
        if self._pool.inbox is None:
            first, work = after, self._produce
        elif shape_of(self._pool.head).is_async:
            first, work = after, self._serve_async
        elif self._pool.sequencer is None:
            first, work = self._step(self._pool.head, after), self._serve
        else:
            first, work = after, self._serve_ordered
        self._chains = [first]
        work(first)
        end(first, self.tally, self._run.aborting)
        for excess in self._run.limits.leave(self._pool.specs):
            self._run.fail(excess)

    def abandon(self) -> None:
        """Settle what it still holds as abandoned; nothing, if it has come to its end."""
        self.end_input()
        if self._async is not None:
            self._async.close()
        for first in self._chains:
            abandon(first)
        if self.watch is not None and self.watch.taken is not None:
            settle_attempt(self.watch.taken, ABANDONED, self.tally)
        if self.succession is not None:
            self.succession.abandon(self.tally)

    def end_input(self) -> None:
        """Wake a frontend, for it is to end."""
        self.interrupt.turn_on()
        if self.ledger is not None:
            self.ledger.wake()

    def holds_batches(self) -> bool:
        """Return whether some of its steps gather batches."""
        return any(isinstance(step, Gather) for step in list(self.steps.values()))

    def hand_over_batches(self) -> None:
        """Hand over the batches that still wait for more items; for the worker's own thread."""
        hand_over(self._chains[-1])

    @property
    def retries_until(self) -> float:
        """When the last of the items is due that wait for another attempt; in the past if none."""
        return max((judge.retries_until for judge in self._judges), default=0.0)

    def await_answers(self) -> None:
        """Wait until a frontend was told what became of all of its items."""
        if self.answers is not None:
            self.answers.close()
        if self.answering is not None:
            self.answering.join()

    def threads_beside(self) -> list[threading.Thread | None]:
        """Return the threads in which the worker calls its frontend, and which it waits for."""
        return [self.answering, self.stopper]

    def has_open_items(self) -> bool:
        """Return whether what became of some items of a frontend is not known yet."""
        return self.ledger is not None and self.ledger.is_open

    def give_up_items(self) -> None:
        """Answer for the items of a frontend that are still on their way as abandoned."""
        if self.ledger is not None:
            self.ledger.give_up()

    # -- the chain

    def _steps_behind_head(self) -> Step:
        following = self._last_step()
        for spec in reversed(self._pool.chained):
            following = self._step(spec, following)
        return following

    def _last_step(self) -> Step:
        branches = [self._branch(branch) for branch in self._pool.branches]
        if not branches:
            return Deliver(self.tally)
        return branches[0] if len(branches) == 1 else Broadcast(self.tally, branches)

    def _branch(self, branch: Branch) -> Step:
        if isinstance(branch, BoundedQueue):
            return Send(self.tally, branch, self._judge(self._pool.head))
        return self._step(branch, None)

    def _step(self, spec: StageSpec, following: Step | None) -> Step:
        """Return the step of a stage, whose results go to *following*, unless it is a backend."""
        function = self._function(spec)
        judge = self._judge(spec)
        step: Step
        match shape_of(spec):
            case Shape.BATCH:
                to = None if spec.kind == "backend" else following
                step = Gather(self.tally, to, judge, function, self._batch(spec))
            case Shape.EXPAND:
                step = Expand(self.tally, following, judge, function, judge.is_all_or_nothing)
            case _ if spec.kind == "backend":
                step = Consume(self.tally, judge, function)
            case _:
                step = Call(self.tally, following, judge, function)
        self.steps[spec.name] = step
        if spec.timeout is not None:
            step.watch = self.watch = Watch()
        return step

    def _function(self, spec: StageSpec) -> Callable[..., Any]:
        return entry_point(self.instances[spec.name], spec.kind)

    def _batch(self, spec: StageSpec) -> Batch:
        return spec.batch or getattr(self.instances[spec.name], "batch", None) or Batch()

    def _judge(self, spec: StageSpec) -> Judge:
        judge = Judge(
            spec,
            self._number,
            aborting=self._run.aborting,
            most_waiting=self._most_waiting(spec),
            fail=self._run.fail,
            note=self._run.failures.note,
            stop=self._run.request_stop,
            keep=self._run.stores.keep_letter,
            limits=self._run.limits.of(spec),
        )
        self._judges.append(judge)
        return judge

    def _most_waiting(self, spec: StageSpec) -> int:
        """Return how many items of the stage may wait while the worker goes on with others."""
        if self._pool.inbox is None or (spec.workers == 0 and spec.ordering == "input"):
            return 0
        is_ordered = self._pool.sequencer is not None and spec is self._pool.head
        return sys.maxsize if is_ordered else MOST_WAITING

    # -- the loops

    @property
    def _inbox(self) -> BoundedQueue[Any]:
        assert self._pool.inbox is not None
        return self._pool.inbox

    def _produce(self, first: Step) -> None:
        frontend = self.instances[self._pool.head.name]
        if is_told(frontend):
            self.ledger = self.ledger or Ledger(MOST_UNANSWERED)
            confirm = self._run.stores.confirm
            self.answers = Answers(frontend, self.ledger, confirm=confirm, fail=self._fail)
            name = f"{self._name}-answers"
            answers = self.answers
            self.answering = self._run.runtime.spawn(answers.give, name, answers.give_rest)
        stop = getattr(frontend, "stop", None)
        if not callable(stop) or getattr(stop, "__func__", None) is Frontend.stop:
            self._pump(frontend, first)
            return
        if self._run.stopping.is_on():
            self.interrupt.turn_on()
        # A thread of its own, for a stop() that blocks must not keep the engine
        # from stopping the others; and it has ended before the cleanup begins.
        self._may_be_stopped = True
        call_stop, name = partial(self._call_stop, stop), f"{self._name}-stop"
        stop_called = partial(self._stop_called, call_stop)
        self.stopper = caller = self._run.runtime.spawn(call_stop, name, stop_called)
        try:
            self._pump(frontend, first)
        finally:
            self._may_be_stopped = False
            self.interrupt.turn_on()
            caller.join()

    def _fail(self, error: BaseException) -> None:
        self._run.fail(self._stage_error(error))

    def _call_stop(self, stop: Callable[[], object]) -> None:
        """Have the frontend's own code end its input, when it is time to; once."""
        self.interrupt.wait()
        if self._may_be_stopped:
            self._may_be_stopped = False
            stop()

    def _stop_called(self, call_stop: Callable[[], None], error: BaseException | None) -> None:
        if error is not None:
            self._run.failures.add(self._stage_error(error))
        call_stop()

    def _pump(self, frontend: Any, first: Step) -> None:
        """Push what the frontend produces; what it raises ends the input."""
        run, judge = self._run, self._judge(self._pool.head)
        try:
            items = _as_iterator(frontend)
            careful = None if self.carefully is None else self.carefully(items)
            intake = self._intake(frontend, first)
            try:
                for source in (items,) if careful is None else (careful, items):
                    pump(
                        source,
                        first,
                        self.tally,
                        judge,
                        run.stopping,
                        run.tracking,
                        self.ledger,
                        intake,
                    )
            finally:
                if careful is not None:
                    careful.close()
                if inspect.isgenerator(items) and items is not frontend:
                    items.close()
        except Aborted:
            raise
        except StopPipeline:
            run.request_stop()
        except BaseException as error:
            run.frontend_failed(self._stage_error(error))

    def _intake(self, frontend: Any, first: Step) -> Intake | None:
        """Give a frontend that is told of its items a way for them beside its iterator."""
        if self.ledger is None or self.answers is None:
            return None
        if self.carefully is not None or self._run.stores.has_rounds:
            return None
        is_wanted = isinstance(frontend, Frontend) and type(frontend).offer is None
        if not is_wanted or not is_way_in(first):
            return None
        intake = Intake(first, self.tally, self._run.stopping, self.ledger)
        frontend.offer = intake.offer
        return intake

    def _stage_error(self, error: BaseException) -> StageError:
        return StageError(error, stage=self._pool.head.name, worker=self._number)

    def _serve(self, first: Step) -> None:
        self._take_errands()
        if self.succession is not None:
            self.succession.begin(first)
        serve(self._inbox, first, self.tally, self._run.aborting)

    def _serve_ordered(self, after: Step) -> None:
        collected = Collect(self.tally)
        first = self._step(self._pool.head, collected)
        sequencer = self._pool.sequencer
        assert sequencer is not None
        self._chains.append(first)
        self._take_errands()
        if self.succession is not None:
            self.succession.begin(first, sequencer, collected, after)
        serve_ordered(
            self._inbox, first, self.tally, self._run.aborting, sequencer, collected, after
        )
        end(first, self.tally, self._run.aborting)

    def _take_errands(self) -> None:
        self.tally.errand = self.errands.do
        self.errands.wake = partial(wake, self._inbox, self.tally, self._run.aborting)
        self.tally.ask()

    def _serve_async(self, following: Step) -> None:
        from m3.engine.async_worker import AsyncWork

        spec = self._pool.head
        # The sender's thread counts in the tally of the chain, the loop in this one.
        tally = Tally()
        self.tallies.append(tally)
        judge = self._judge(spec)
        flights = Flights(tally, judge)
        self.steps[spec.name] = flights
        self._chains.append(flights)
        self._async = AsyncWork(
            self._pool,
            self._function(spec),
            self._run.runtime,
            flights=flights,
            judge=judge,
            following=None if spec.kind == "backend" else following,
            errands=self.errands,
            name=self._name,
        )
        self._async.run(self._run.at_abort)


def _as_iterator(frontend: Any) -> Iterator[Any]:
    items = iterate(frontend)
    if not isinstance(items, AsyncIterator):
        return items
    from m3.engine.async_worker import in_step

    return in_step(items)
