"""
One worker: a thread with its own instances of the stages.

The life of a worker: make the instances and call ``setup`` on each; wait until
every worker of the pipeline has done so; work until the end of the input, the
stop or the end of the run.  Its end, whatever has cut its life short: say
downstream that nothing more comes; ``cleanup`` what was set up, in reverse.
"""

import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from m3._queue import Producer
from m3._stacks import formatted, frames_of
from m3._steps import Aborted, GivenUp
from m3.engine.errands import Errands
from m3.engine.plan import StageSpec
from m3.engine.pools import Pool
from m3.engine.shape import make_instance
from m3.engine.succession import Succession
from m3.engine.work import Run, Work
from m3.errors import CleanupError, HungWorkerError, SetupError, StageError
from m3.stages import Frontend, Stage

__all__ = ("Worker", "are_prepared", "dismiss", "let_work", "staff")


class Worker:
    """
    A worker of a pool.

    Attributes:
        pool: the pool it belongs to.
        number: its number in the pool, from 0.
        work: what it does with items, and the counts of that.
        opening: what is to be done in its thread after all setups and before the work.
        go: on when it may work, or must clean up.
        may_work: which of the two.
        is_prepared: its setup is over, well or not.
        is_answering: it has ended its work and waits until its frontend was
            told what became of the items.
        fate: on when it is known who goes on after a call of it was given up.
        is_replaced: another worker has taken its place; what its thread still
            does is to end.
        has_ended: nothing of it runs any more.
        setup_error: what its setup raised.
        busy_since: when it began to work, on the monotonic clock.
        wall: seconds between the beginning and the end of its work.
        cpu: CPU seconds of its thread, once it has ended.
    """

    def __init__(
        self, pool: Pool, number: int, run: Run, succession: Succession | None = None
    ) -> None:
        self.pool = pool
        self.number = number
        self.work = Work(self.name, pool, number, run, succession)
        self.fate = run.runtime.switch()
        self.is_replaced = False
        self.opening = Errands(run.runtime)
        self.go = run.runtime.switch()
        self.may_work = False
        self.is_prepared = False
        self.is_answering = False
        self.has_ended = False
        self.setup_error: SetupError | None = None
        self.busy_since: float | None = None
        self.wall: float | None = None
        self.cpu = 0.0
        self.thread: threading.Thread | None = None
        self._run = run
        self._set_up: list[tuple[StageSpec, Any]] = []
        self._producers: list[Producer] = [queue.producer() for queue in pool.outlets]

    @property
    def errands(self) -> Errands:
        """What is to be done in its thread between two items, and at the end."""
        return self.work.errands

    @property
    def name(self) -> str:
        """The name of its thread."""
        return f"m3-{self.pool.head.name}-{self.number}"

    def start(self) -> None:
        """Start its thread."""
        self.thread = self._run.runtime.spawn(self._live, self.name, self._end)

    def is_in(self, thread: threading.Thread) -> bool:
        """Return whether *thread* is one of those that have to end before it has."""
        return thread is self.thread or thread in self.work.threads_beside()

    def _live(self) -> None:
        """Set up, go back to the last checkpoint, wait for the others, and work."""
        # Here, for Ctrl-C may come before the one who started the thread knows it.
        self.thread = threading.current_thread()
        is_to_work = not self._run.aborting.is_on()
        if is_to_work:
            self._prepare()
        self._tell_prepared()
        if self._run.stores.has_rounds:
            self.opening.serve()
        self.go.wait()
        if self.may_work and is_to_work:
            self._work()

    def _end(self, error: BaseException | None) -> None:
        """
        Do what is to be done in its thread in any case: its last act.

        It may be cut short and called again: what is done needs no more, or
        does no harm when it is done again.
        """
        if error is not None:
            self._run.fail(self._stage_error(error))
            self.errands.give_up()
        self.opening.close()
        self._tell_prepared()
        if not self.is_replaced:
            self.work.abandon()
        self.close()
        self._run.all_passed_on(self)
        if not self.is_replaced:
            self._await_end()
        self.errands.close()
        self._clean_up()
        self.cpu = self._run.runtime.thread_time()
        self.has_ended = True
        self._run.ended(self)

    def _tell_prepared(self) -> None:
        self.is_prepared = True
        self._run.prepared()

    def _await_end(self) -> None:
        """Wait until nothing that its stages have passed on can need them any more."""
        self.is_answering = True
        if self._run.stores.has_rounds:
            self.errands.serve()
        self.work.await_answers()
        self.is_answering = False

    def let_go(self) -> None:
        """Have it clean up, if it was set up, for the run does not begin."""
        self.opening.release()
        self.errands.release()
        self.go.turn_on()

    def hangs(self) -> bool:
        """Return whether it should have ended, or be set up, and is not."""
        is_waiting = self.is_prepared and not self.go.is_on()
        is_waiting = is_waiting and (self.opening.is_idle or not self._run.stores.has_rounds)
        is_ending = self.errands.is_idle or self.work.has_open_items()
        is_waiting = is_waiting or (self.is_answering and is_ending)
        may_hang = self.thread is not None and not self.has_ended and not self.is_replaced
        return may_hang and not is_waiting

    def hung_error(self) -> HungWorkerError:
        """Return the error that says where it hangs."""
        thread = (self.is_answering and self.work.answering) or self.thread
        stack = formatted(frames_of(thread)) or "  (it has just ended)\n"
        return HungWorkerError(stage=self.pool.head.name, worker=self.number, stack=stack)

    def close(self) -> None:
        """Say downstream that nothing more comes from here."""
        for producer in self._producers:
            producer.close()

    # -- setup and cleanup

    def _prepare(self) -> None:
        for spec in self.pool.specs:
            try:
                instance = self._run.resources.supply(make_instance(spec))
                if isinstance(instance, Frontend):
                    instance.wants_positions = self._run.stores.wants_positions
                    _call_if_there(instance, "watch_run", self._run)
                _call_if_there(instance, "setup")
            except BaseException as error:
                self.setup_error = SetupError(error, stage=spec.name, worker=self.number)
                return
            self.work.instances[spec.name] = instance
            self._set_up.append((spec, instance))

    def _clean_up(self) -> None:
        failed = self._run.has_failed() or not self.may_work
        while self._set_up:
            spec, instance = self._set_up[-1]
            try:
                _tell_outcome(instance, failed=failed)
                _call_if_there(instance, "cleanup")
            except BaseException as error:
                self._run.failures.add(CleanupError(error, stage=spec.name, worker=self.number))
                failed = True
            self._set_up.pop()
        self.work.instances.clear()

    # -- work

    def _work(self) -> None:
        self.busy_since = self._run.runtime.monotonic()
        try:
            if self.setup_error is not None:  # and it was to take over from another
                self._run.fail(self.setup_error)
                return
            self.work.do()
        except GivenUp:
            self.fate.wait()
        except Aborted:
            pass
        finally:
            self.wall = self._run.runtime.monotonic() - self.busy_since

    def _stage_error(self, error: BaseException) -> StageError:
        return StageError(error, stage=self.pool.head.name, worker=self.number)


def _call_if_there(instance: Any, method: str, *arguments: Any) -> None:
    function: Callable[..., object] | None = getattr(instance, method, None)
    if callable(function) and not inspect.isclass(instance):
        function(*arguments)


def _tell_outcome(instance: Any, *, failed: bool) -> None:
    if isinstance(instance, Stage):
        instance.failed = failed


def are_prepared(workers: Iterable[Worker]) -> bool:
    """Return whether the setups of all *workers* are over."""
    return all(worker.is_prepared for worker in workers)


def staff(pool: Pool, run: Run) -> list[Worker]:
    """Return the workers of *pool*, not started."""
    return [Worker(pool, number, run) for number in range(pool.head.workers)]


def let_work(workers: Iterable[Worker]) -> None:
    """Have *workers*, which are set up, begin."""
    for worker in workers:
        worker.may_work = True
        worker.go.turn_on()


def dismiss(workers: Sequence[Worker], patience: Callable[[], float | None]) -> None:
    """Have *workers* clean up, the last one first, each within the seconds of *patience*."""
    try:
        for worker in reversed(workers):
            worker.let_go()
            if worker.thread is not None:
                left = patience()
                worker.thread.join(None if left is None else min(left, threading.TIMEOUT_MAX))
    finally:
        for worker in workers:
            worker.let_go()
            worker.close()
