"""
The plan running: build, set up, run, drain, stop.

What a signal handler may call (``request_stop``, ``abandon``, ``stop``) turns
on switches and wakes whoever waits; no user code runs in it, and it waits for
nobody if it has interrupted who holds the one lock.  The states, in order::

    created -> running -> stopping -> finished | failed
"""

import threading
from functools import partial
from typing import Any, Self

from m3._threads import Among, Held
from m3.engine.at_exit import forget, watch
from m3.engine.books import Books
from m3.engine.callbacks import Callbacks
from m3.engine.deadline import Deadline
from m3.engine.failures import Failures
from m3.engine.last_out import CLOSING
from m3.engine.limits import FailureLimits
from m3.engine.plan import Plan
from m3.engine.pools import Layout, lay_out, needs_tokens
from m3.engine.report import Report, State
from m3.engine.resources import Resources
from m3.engine.results import Results
from m3.engine.runtime import Runtime
from m3.engine.stopwatch import Stopwatch
from m3.engine.stores import Stores
from m3.engine.summary import summarize
from m3.engine.timeouts import Watchdog
from m3.engine.untold import keep_untold, take_untold, tell
from m3.engine.validation import validate
from m3.engine.waits import Waits
from m3.engine.workers import Worker, are_prepared, dismiss, let_work, staff
from m3.errors import EngineStateError, M3Error, PlanError, ShutDown, StageError

__all__ = ("Engine",)

TAKER = "taker"
"""Stands for who takes the results, among the workers that live."""


class Engine:
    """
    Runs a plan, once.

    Args:
        plan: what to run.
        runtime: makes the threads, queues and clocks.

    Raises:
        PlanError: the plan cannot work; the message has every mistake.

    All methods may be called from any thread, and ``stop``, ``request_stop``
    and ``abandon`` from a signal handler.  ``with engine:`` starts it and stops
    it at the end of the block.
    """

    def __init__(self, plan: Plan, *, runtime: Runtime | None = None) -> None:
        validate(plan)
        self.plan = plan
        self.runtime = runtime or Runtime()
        self.stopping = self.runtime.switch()
        self.aborting = self.runtime.switch()
        self.tracking = needs_tokens(plan)
        self.stores = Stores(plan)
        self._layout = Layout()
        self.workers: list[Worker] = []
        self._live: set[object] = set()
        self._finishing: list[object] = []
        self._at_work: set[object] = set()
        self._lock = threading.RLock()
        self._state: State = "created"
        self.failures = Failures()
        self._at_abort = Callbacks(self.aborting)
        self.at_abort = self._at_abort.add
        self._watchdog = Watchdog(self)
        self.books = Books(self.workers)
        self._stop_requested = self._may_end = self._is_given_up = self._has_ended = False
        self._deadline = Deadline(self.runtime, plan.stop_timeout)
        self._waits = Waits(self._deadline)
        self.resources = Resources(plan, self.runtime, self.failures.errors, self.fail, self._waits)
        self._stopwatch = Stopwatch(self.runtime)

    # -- running it

    def start(self, block: bool = True) -> Report | None:
        """
        Set up all workers, let them work, and wait for the end.

        Args:
            block: if false, return as soon as all workers are set up.

        Returns:
            The report of the run, or None if not *block*.

        Raises:
            EngineStateError: it was started before.
            SetupError: a ``setup`` raised; all that were set up are cleaned up.
            StageError: a stage failed; :exc:`PipelineError` if several did.
            HungWorkerError: a worker did not end by the deadline of a stop.

        An exception of a signal handler (Ctrl-C) stops the run before it comes
        out; a second one gives up what is queued.
        """
        self._claim()
        try:
            self._begin(collect=False)
            return self.wait() if block else None
        except BaseException:
            self._end_early()
            raise

    def wait(self, timeout: float | None = None) -> Report:
        """
        Wait for the end of the run and return its report.

        Raises:
            TimeoutError: it is still running after *timeout* seconds.
            StageError: a stage failed; :exc:`PipelineError` if several did.
            HungWorkerError: a worker did not end by the deadline of the stop.
        """
        self._require_started()
        until = None if timeout is None else self.runtime.monotonic() + timeout
        if not self._settle(until):
            raise TimeoutError(f"pipeline {self.plan.name!r} still runs after {timeout} seconds")
        self.raise_failures()
        return self.report()

    def stop(self, timeout: float | None = None) -> Report:
        """
        Let the frontends end at their next item, drain the queues, clean up.

        Returns by its deadline, *timeout* seconds from now (by default, those
        of the plan; of several that were given, the earliest counts): shortly
        before it what is still queued is abandoned, and workers that do not end
        then are in the report's ``hung``, with their stacks.  Called by a
        stage's own code, or by a signal handler just when the run is being
        ended in its thread, it does not wait.

        Raises:
            EngineStateError: it was not started.
        """
        self.request_stop(timeout)
        this = threading.current_thread()
        if not self._holds_lock() and not any(worker.is_in(this) for worker in self.workers):
            self._settle()
            take_untold(self)
        return self.report()

    def request_stop(self, timeout: float | None = None) -> None:
        """Begin to stop, as :meth:`stop` does, and return at once."""
        self._require_started()
        self._stop_requested = True
        self._wind_down(timeout)

    def abandon(self) -> None:
        """Give up what is queued, let each worker end its item, and return at once."""
        self._require_started()
        self._stop_requested = True
        self._abort()

    def give_back(self) -> None:
        """Stop for a caller who is gone: results that nobody will take are abandoned."""
        if TAKER not in self._live:
            self.request_stop()
            return
        self.abandon()
        self.all_taken()

    def end_at_exit(self) -> None:
        """Stop, and tell what failed, because nobody else will be."""
        self.request_stop()
        self._settle()
        tell(take_untold(self))

    def raise_failures(self) -> None:
        """Raise what the run has failed with so far, if anything."""
        take_untold(self)
        self.failures.raise_all(self.plan.name)

    def patch(self, asked_for: type | str, replacement: Any) -> None:
        """
        Have stages and components get *replacement*, an instance or a class, as a resource.

        Args:
            asked_for: the class that they name by annotation, or the name of the attribute.
            replacement: what they get instead.

        Raises:
            EngineStateError: it was started already.
        """
        if self.started():
            raise EngineStateError("patch() comes before start(); the resources are in use")
        self.resources.patch(asked_for, replacement)

    def results(self) -> Results:
        """
        Start it and return an iterator over the results of the last transport.

        Raises:
            PlanError: the plan has a backend, which gets the results.
            EngineStateError, SetupError: as :meth:`start`.
        """
        if self.plan.backends:
            raise PlanError("results() is for a pipeline without a backend, which would get them")
        self._claim()
        self._begin(collect=True)
        assert self._layout.results is not None
        return Results(self, self._layout.results)

    def __enter__(self) -> Self:
        if not self.started():
            self.start(block=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self.stop()
        if kind is None:
            self.raise_failures()

    # -- looking at it

    @property
    def config(self) -> Any:
        """The configuration that the stages get, of the first that has one."""
        return next((spec.config for spec in self.plan if spec.config is not None), None)

    @property
    def state(self) -> State:
        """In which of its states it is; see the top of the module."""
        if self._state == "running" and self.stopping.is_on():
            return "stopping"
        return self._state

    def started(self) -> bool:
        """Return whether it was started."""
        return self._state != "created"

    def stopped(self) -> bool:
        """Return whether the run has ended: only hung workers are left, and no results to take."""
        return self._state in ("finished", "failed")

    def report(self) -> Report:
        """Return what the run has done so far."""
        return summarize(
            self.plan,
            workers=self.workers,
            counts=self.books.counts(),
            state=self.state,
            errors=tuple(self.failures.errors),
            item_errors=tuple(self.failures.item_errors),
            hung=tuple(self.failures.hung),
            stopped=self._stop_requested,
            undone=self.stores.undone(),
            elapsed=self._stopwatch.read(),
            now=self.runtime.monotonic(),
        )

    def __del__(self) -> None:
        tell(take_untold(self))

    def __repr__(self) -> str:
        return f"<Engine {self.plan.name!r} {self.state}>"

    # -- what the workers tell it (see m3.engine.work.Run)

    def prepared(self) -> None:
        """Take note that the setup of a worker is over, well or not."""
        self._waits.tell()

    def fail(self, failure: M3Error) -> None:
        """End the run because of *failure*: what is queued is abandoned."""
        self.failures.add(failure)
        self._abort()

    def frontend_failed(self, failure: StageError) -> None:
        """End the input because of *failure*; what was produced is delivered."""
        self.failures.add(failure)
        self._wind_down(None)

    def all_taken(self) -> None:
        """Take note that who takes the results, which is like a worker, has ended."""
        self.all_passed_on(TAKER)
        self.ended(TAKER)

    def all_passed_on(self, worker: object) -> None:
        """Take note that *worker* has passed on all that it will; after the last, nobody takes."""
        with self._lock:
            self._at_work.discard(worker)
            if not self._at_work:
                self._layout.discard(self.books.leftovers, but_ordered=bool(self.failures.hung))
                self.stores.end()

    def ended(self, worker: object) -> None:
        """Take note that nothing of *worker* runs any more; after the last, the run has ended."""
        with Among(self._finishing, worker):  # before nobody lives
            with self._lock:
                self._live.discard(worker)
                is_last = not self._live
            if is_last:
                self._finish()

    def enlist(self, worker: Worker) -> None:
        """Count on *worker*, which was made while the run lasts."""
        with self._lock:
            self._live.add(worker)
            self._at_work.add(worker)

    def strike_off(self, worker: Worker) -> None:
        """Count no more on *worker*: another one has taken its place."""
        worker.is_replaced = True
        worker.close()
        self.all_passed_on(worker)
        self.ended(worker)

    def has_failed(self) -> bool:
        """Return whether the run has failed or was given up."""
        return bool(self.failures.errors) or self.aborting.is_on()

    def has_stopped_early(self) -> bool:
        """Return whether the run ends before the end of its input."""
        return self.stopping.is_on()

    # -- the beginning

    def _claim(self) -> None:
        with self._lock:
            if self._state != "created":
                raise EngineStateError("an engine runs once; make another to run the plan again")
            self._state = "running"
        self._stopwatch.start()

    def _begin(self, *, collect: bool) -> None:
        """Set everything up and let the workers go, or undo it and raise."""
        try:
            watch(self)
            self.stores.open()
            self._layout = lay_out(self.plan, self.runtime, collect=collect, aborting=self.aborting)
            self.limits = FailureLimits(self.plan, self._layout.pools, self.workers)
            pools = [staff(pool, self) for pool in reversed(self._layout.pools)]
            self.resources.start(self._layout.pools)
            self.resources.settle()
            if self.resources.are_up and self._set_up(pools, (TAKER,) if collect else ()):
                self.stores.begin(self, self.workers)
                let_work(self.workers)
                self.stores.start()
                self._watchdog.start()
                return
        except ShutDown:  # the run was given up before there was anybody to work
            pass
        except BaseException as error:
            self._undo_setup()
            self._state = "failed"
            if isinstance(error, Exception):  # it may come of what has failed before
                self.raise_failures()
            raise
        self._undo_setup()
        self.raise_failures()

    def _set_up(self, pools: list[list[Worker]], takers: tuple[object, ...]) -> bool:
        """Start the workers, pool by pool from the last backend on; false if not all are set up."""
        self.workers += [worker for workers in pools for worker in workers]
        self._live, self._at_work = {*self.workers, *takers}, {*self.workers, *takers}
        self._may_end = True
        for workers in pools:
            for worker in workers:
                worker.start()
            self._waits.until(partial(are_prepared, workers))
            self.failures.note_hung(who.hung_error() for who in workers if not who.is_prepared)
            self.failures.errors += [worker.setup_error for worker in workers if worker.setup_error]
            if self.failures.errors or self.failures.hung or self.aborting.is_on():
                return False
        return True

    def _undo_setup(self) -> None:
        """Clean up, in reverse, what was set up."""
        self._may_end = True
        self._abort()
        try:
            dismiss(self.workers, self._deadline.left)
        finally:
            self.resources.shut_down()
            self._give_up()
            self._close_books()

    def _end_early(self) -> None:
        """Stop because something else than the run's own failure ends the wait for it."""
        try:
            if not self.stopped():
                self.stop()
        except BaseException:
            self.abandon()
            raise

    # -- the end

    def _wind_down(self, timeout: float | None) -> None:
        """End the input, and set the deadline for the rest."""
        self._deadline.set(timeout)
        self.stopping.turn_on()
        self.resources.halt()
        for worker in self.workers:
            worker.work.end_input()
        self._waits.tell()

    def _abort(self) -> None:
        """Give up what is queued: every worker ends after the item at hand."""
        self.aborting.turn_on()
        self._layout.close()
        self._at_abort.call()
        self._wind_down(None)

    def _settle(self, until: float | None = None) -> bool:
        """
        Wait for the workers to end, abandoning and giving up when it is time to.

        Returns:
            False if *until* came first.
        """
        if self._may_end and not (self._live or self._finishing):  # who did may be cut short
            self._finish()
        while not self._waits.until(
            lambda: self._has_ended,
            lambda: self._deadline.patience(until, self.aborting.is_on()),
        ):
            if self._deadline.is_over():
                self._give_up()
                break
            if until is not None and self.runtime.monotonic() >= until:
                return False
            if self._deadline.is_time_to_abort():
                self._abort()
        self._close_books()
        self._join_threads()
        return True

    def _give_up(self) -> None:
        """Note who hangs, and let nobody wait any longer."""
        self._is_given_up = True
        self._abort()
        self.failures.note_hung(who.hung_error() for who in self.workers if who.hangs())
        for worker in self.workers:
            worker.work.give_up_items()
        self.resources.give_up()
        self.resources.stop()
        self.stores.give_up()
        self._has_ended = True
        self._waits.tell()

    def _finish(self) -> None:
        """End the run, of which nobody lives any more; it does no harm to do so again."""
        self.resources.shut_down()
        self._close_books()
        self._has_ended = True
        self._waits.tell()

    def _close_books(self) -> None:
        """Count what is left, and close what is open, also what was opened after the end."""
        if self._holds_lock():
            return
        left = self._deadline.left()
        with Held(self._lock, -1.0 if left is None else max(left, CLOSING)) as is_mine:
            if not is_mine:
                return
            has_been = self.stopped()
            if not has_been:
                self._layout.discard(self.books.leftovers, but_ordered=bool(self.failures.hung))
            for failure in self.stores.close(self._deadline.left()):
                self.failures.add(failure)
            if not has_been:
                self._stopwatch.stop()
                failures = self.failures.all()
                keep_untold(self, self.plan.name, failures)
                self._state = "failed" if failures else "finished"
        self._watchdog.end()
        forget(self)

    def _holds_lock(self) -> bool:
        """Tell whether this is a signal handler that has interrupted who holds the lock."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001

    def _join_threads(self) -> None:
        if self._is_given_up:
            return
        for worker in self.workers:
            if worker.thread is not None and not worker.is_replaced:
                worker.thread.join()
        self.stores.join()
        self._watchdog.join()

    def _require_started(self) -> None:
        if not self.started():
            raise EngineStateError("the engine was not started")
