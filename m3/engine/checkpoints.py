"""
Checkpoints: when they are made, and in which order things become durable.

A *round* is, in this order:

1. every backend commits, in its worker's thread, and says where it stands;
2. the checkpoint, with the positions of the frontends and those marks, is
   committed by a transactional backend together with its data, if there is
   one, and written into the state;
3. the frontends are told what became of their items.

Where all backends can go back to a mark, the round is *aligned*: before it the
frontends are held at a gate until nothing is in flight, so that what the
backends hold is exactly what the positions say.  Elsewhere the positions are
the lowest below which everything is done, taken before the backends commit.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from m3._parking import Bell, Gate, Switch
from m3.engine.amendments import Amendments, store_of
from m3.engine.books import Books
from m3.engine.delivery import (
    LEVELS,
    can_go_back,
    commits,
    is_told,
    is_transactional,
    levels,
    lowest,
    overrides,
    resumes,
)
from m3.engine.errands import Errand
from m3.engine.ledgers import Ledgers, Member, Reached
from m3.engine.plan import Plan
from m3.engine.runtime import Runtime
from m3.engine.state import LETTERS, Checkpoint, StateStore, ends_of
from m3.engine.workers import Worker
from m3.errors import AbandonedError, PlanError, StageError
from m3.stages import Backend

if TYPE_CHECKING:
    from m3.engine.crash_guard import CrashGuard
    from m3.engine.stores import Stores

__all__ = ("Checkpoints", "needs_rounds")

SHARE = 10
"""A round that took so long is followed by no other for so many times as long."""

CROWDED_PAUSE = 0.05
"""Seconds to the next round while a frontend may soon have to wait for one."""

FIRST_PAUSE, LONGEST_PAUSE = 0.0002, 0.005
"""Seconds between two looks at what is still in flight, in an aligned round."""


def needs_rounds(plan: Plan) -> bool:
    """Return whether a run of *plan* has to have its backends commit while it lasts."""
    is_one_told = any(is_told(spec.target) for spec in plan.frontends)
    return plan.state is not None or (
        is_one_told and any(commits(spec.target) for spec in plan.backends)
    )


class Run(Protocol):
    """What checkpoints need of the engine that makes them."""

    plan: Plan
    runtime: Runtime
    aborting: Switch
    books: Books
    stores: "Stores"

    def fail(self, failure: StageError) -> None:
        """End the run because of *failure*."""

    def has_stopped_early(self) -> bool:
        """Return whether the run ends before the end of its input."""


class Checkpoints:
    """
    Makes checkpoints while a run lasts, in a thread of its own.

    Args:
        run: the engine.
        workers: all of its workers, set up.

    Raises:
        StateError: the state cannot be gone on from.
    """

    def __init__(self, run: Run, workers: list[Worker]) -> None:
        self._run = run
        self._workers = workers
        self._letters = run.stores.letters
        self._gate = Gate()
        self._store: StateStore | Amendments | None = None
        self._guard: CrashGuard | None = None
        self._base = Checkpoint()
        self._last = Checkpoint()
        self._bell = Bell()
        self._ledgers = Ledgers(run.books, hurry=self._bell.ring, aborting=run.aborting)
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._begun = self._completed = 0
        self._error: Exception | None = None
        self._is_ending = False
        self._over = run.runtime.switch()
        self._errands: list[Errand] = []
        self._thread: threading.Thread | None = None
        self._is_begun = self._is_aligned = False
        self._settled = -1
        self._delivered = 0
        self._ended = run.runtime.monotonic()

    # -- the beginning

    def begin(self) -> None:
        """
        Have all stages go back to the last checkpoint, and write the first one.

        Blocks until that is done, in the workers' threads.
        """
        plan = self._run.plan
        self._frontends = self._members("frontend")
        self._backends = self._members("backend")
        self._transactional = [each for each in self._backends if is_transactional(each.instance)]
        self._committing = [
            each
            for each in self._backends
            if commits(each.instance) and not is_transactional(each.instance)
        ]
        instances = {name: it for each in self._workers for name, it in each.work.instances.items()}
        found = levels(plan, instances)
        is_replayed = all(each.level != LEVELS[0] for each in found[: len(plan.frontends)])
        if plan.state is not None and is_replayed:
            self._store = store_of(plan)
            self._is_aligned = bool(self._backends) and all(
                each.level == LEVELS[-1] for each in found[len(plan.frontends) :]
            )
            self._go_back()
        elif plan.crash_guard is not None:
            raise PlanError(f"crash_guard: no checkpoints are kept, since {lowest(found).reason}")
        gate = self._gate if self._is_aligned else None
        self._ledgers.open(self._frontends, gate=gate, is_kept=self._store is not None)
        if self._store is not None:
            self._write(self._ledgers.reached(self._last.sources), self._commit_all())
        for worker in self._workers:
            worker.opening.release()

    def start(self) -> None:
        """Begin to make rounds."""
        self._is_begun = True
        self._thread = self._run.runtime.spawn(self._live, "m3-checkpoints", self._end)

    def _members(self, kind: str) -> list[Member]:
        return [
            Member(f"{spec.name}/{worker.number}", worker, worker.work.instances[spec.name])
            for worker in self._workers
            for spec in worker.pool.specs
            if spec.kind == kind
        ]

    def _go_back(self) -> None:
        """Have every stage go back to where the last checkpoint is."""
        assert self._store is not None
        self._base = self._last = self._latest(self._store)
        if (most := self._run.plan.crash_guard) is not None:
            from m3.engine.crash_guard import CrashGuard

            assert isinstance(self._store, StateStore)  # nothing guards a redrive
            self._guard = CrashGuard(self._store, most, self.confirm)
            self._guard.begin(self._base, self._frontends)
        has_begun = self._base.number > 0
        if has_begun:
            self._base.check_parts(
                sources={each.key for each in self._frontends if resumes(each.instance)},
                sinks={each.key for each in self._committing},
                stages=ends_of(self._run.plan),
            )
        if self._letters is not None:
            self._letters.commits_itself = False
            if has_begun:
                self._letters.resume(self._base.sinks.get(LETTERS))
        for each in self._frontends:
            if resumes(each.instance):
                self._ask(each, partial(each.instance.resume, self._base.sources.get(each.key)))
        for each in self._backends:
            if not is_transactional(each.instance) and can_go_back(each.instance):
                self._ask(each, partial(each.instance.resume, self._base.sinks.get(each.key)))

    def _latest(self, store: StateStore | Amendments) -> Checkpoint:
        """Return the last checkpoint: that of the state, or the one that all data stand at."""
        committed = []
        for each in self._transactional:
            text = self._ask(each, partial(each.instance.committed, f"{store.key}/{each.key}"))
            committed.append(Checkpoint() if text is None else Checkpoint.from_text(text))
        return store.latest(committed)

    # -- what others ask of it

    def confirm(self) -> Exception | None:
        """
        Block until what was settled before the call is durable; return why it is not.

        It then is in the sinks and, in a run with state, below a checkpoint.
        """
        with self._lock:
            wanted = self._begun + 1
            self._bell.ring()
            self._turn.wait_for(lambda: self._completed >= wanted or self._over.is_on())
            return self._error

    def undone(self) -> int:
        """Return how many items the sinks have got since the last checkpoint, and will go back."""
        if not (self._is_aligned and self._over.is_on()):
            return 0
        return self._run.books.counts()["delivered"] - self._delivered

    def end(self) -> None:
        """Take note that all workers have passed on all that they will."""
        self._is_ending = True
        self._bell.ring()
        if self._over.is_on():  # something may have ended while that was turned on
            self._ledgers.answer_rest()

    def give_up(self) -> None:
        """Wait for nothing any more: the time of the stop is over."""
        self._close(AbandonedError("the run was given up before it was durable"))

    def join(self) -> None:
        """Block until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def close(self, seconds: float | None = None) -> None:
        """
        Let another run use the state; wait about so many *seconds* for a write under way.

        Raises:
            StateError: it is still under way, and the state stays in use until it is over.
        """
        if self._guard is not None:
            self._guard.end(seconds)
        if self._store is not None:
            self._store.close(seconds)

    # -- the thread

    def _live(self) -> None:
        self._make_rounds()
        if self._may_make_last():
            self._round(is_last=True)
        elif not self._over.is_on():
            raise AbandonedError("the run was given up before it was durable")

    def _end(self, error: BaseException | None) -> None:
        """Let nobody wait for the thread, which has ended with *error*: its last act."""
        if error is not None and not isinstance(error, AbandonedError):
            self._run.fail(_failure_of(error))
        if error is not None and not isinstance(error, Exception):
            error = AbandonedError(f"the thread that makes checkpoints has died: {error!r}")
        self._close(error)

    def _make_rounds(self) -> None:
        """Make rounds when it is time for one, and when somebody asks, until the end."""
        now = self._run.runtime.monotonic
        not_before, due = 0.0, now() + self._run.plan.checkpoint_interval
        while True:
            self._bell.wait(max(0.0, due - now()) if self._store is not None else None)
            if self._has_ended():
                return
            began = now()
            not_before = max(not_before, self._bearable())
            if began < not_before:
                due = min(not_before, began + self._run.plan.checkpoint_interval)
                continue
            self._round()
            rest = SHARE * (now() - began)
            not_before = now() + rest if self._is_aligned and not self._is_careful() else 0.0
            due = now() + max(rest, self._interval())

    def _bearable(self) -> float:
        """
        Return from when on a round may wait for what waits for another attempt.

        It then holds the frontends for no more than a tenth of the time since the last one.
        """
        if not self._is_aligned or self._is_careful():
            return 0.0
        until = max(worker.work.retries_until for worker in self._workers)
        return (SHARE * until + self._ended) / (SHARE + 1)

    def _has_ended(self) -> bool:
        return self._is_ending or self._over.is_on()

    def _is_careful(self) -> bool:
        return self._guard is not None and self._guard.is_careful

    def _interval(self) -> float:
        """Return after how long another round is due."""
        interval = self._run.plan.checkpoint_interval
        return min(CROWDED_PAUSE, interval) if self._ledgers.are_crowded() else interval

    def _may_make_last(self) -> bool:
        """Tell whether what the backends hold now may be kept."""
        if self._over.is_on():
            return False
        return not (self._is_aligned and self._run.aborting.is_on())

    def take_in(self, worker: Worker) -> None:
        """Have *worker*, one of those of the run by now, wait for no round if all are over."""
        if self._over.is_on():
            worker.errands.release()

    def _close(self, error: Exception | None) -> None:
        """Make no further round; those who wait for one are told *error*."""
        with self._lock:
            if not self._over.is_on():
                self._error = error
                self._over.turn_on()
            self._turn.notify_all()
        self._bell.ring()
        self._gate.open()
        if self._guard is not None:
            self._guard.give_up()
        for errand in self._errands:
            errand.give_up()
        self._ledgers.answer_rest()
        for worker in self._workers:
            worker.opening.release()
            worker.errands.release()

    def _round(self, *, is_last: bool = False) -> None:
        """Make one round, unless it is put off; what fails fails the run."""
        with self._lock:
            self._begun += 1
            number = self._begun
        try:
            if not self._make_durable(is_last=is_last):
                return
        except AbandonedError:
            raise
        except Exception as error:
            self._run.fail(_failure_of(error))
            raise
        with self._lock:
            self._completed = number
            self._turn.notify_all()

    def _make_durable(self, *, is_last: bool) -> bool:
        """Do what a round is made of; false if it is put off."""
        try:
            if self._is_careful():
                with suppress(AbandonedError):  # no reason to keep less of what is done
                    self._is_quiet()
            settled = sum(self._run.books.ended().values())
            has_moved = self._ledgers.advance()
            if settled == self._settled and not has_moved and not is_last:
                return True
            if self._is_aligned and not self._is_quiet():
                return False
            reached = self._ledgers.reached(self._last.sources)
            marks = self._commit_all()
            if self._store is not None:
                finished = is_last and not self._run.has_stopped_early()
                self._write(reached, marks, finished=finished)
        finally:
            self._gate.open()
        self._settled = settled
        self._ended = self._run.runtime.monotonic()
        return True

    # -- one round

    def _is_quiet(self) -> bool:
        """
        Hold the frontends until nothing is in flight; false if a retry would take too long.

        Raises:
            AbandonedError: the run is over.
        """
        self._gate.close()
        pause = FIRST_PAUSE
        while self._run.books.in_flight():
            if self._run.aborting.wait(pause) or self._over.is_on():
                break
            if self._run.runtime.monotonic() < self._bearable():
                return False
            if pause == LONGEST_PAUSE or self._is_careful():
                self._hasten()
            pause = min(2 * pause, LONGEST_PAUSE)
        if self._run.aborting.is_on() or self._over.is_on():
            raise AbandonedError("the run is over")
        return True

    def _hasten(self) -> None:
        """Have the workers hand over the batches that still wait for more items."""
        for worker in self._workers:
            if worker.work.holds_batches():
                worker.errands.post(worker.work.hand_over_batches)

    def _commit_all(self) -> dict[str, Any]:
        """Have all backends commit but the transactional ones; return their marks."""
        posted = [(each.key, self._post(each, each.instance.commit)) for each in self._committing]
        marks = {key: errand.wait() for key, errand in posted}
        if self._letters is not None:
            marks[LETTERS] = self._letters.mark()
        if self._store is None:
            for each in self._transactional:
                if overrides(each.instance, "commit", Backend):
                    self._ask(each, each.instance.commit)
        return marks

    def _ask(self, member: Member, function: Callable[[], Any]) -> Any:
        """Have *function* called in the thread of *member*; return what it returns."""
        return self._post(member, function).wait()

    def _post(self, member: Member, function: Callable[[], Any]) -> Errand:
        errands = member.worker.errands if self._is_begun else member.worker.opening
        errand = errands.post(function)
        self._errands = [errand, *(each for each in self._errands if not each.is_over())]
        if self._over.is_on():
            errand.give_up()
        return errand

    def _write(self, reached: Reached, marks: dict[str, Any], *, finished: bool = False) -> None:
        assert self._store is not None
        sources, ended = reached
        over_all = {name: it + self._base.counts.get(name, 0) for name, it in ended.items()}
        checkpoint = Checkpoint(
            number=self._last.number + 1,
            sources=sources,
            sinks=marks,
            counts={"produced": sum(over_all.values()), **over_all},
            finished=finished,
            stages=ends_of(self._run.plan),
        )
        text = checkpoint.to_text()
        for each in self._transactional:
            key = f"{self._store.key}/{each.key}"
            self._ask(each, partial(each.instance.commit_with, key, text))
        (self._guard or self._store).write(checkpoint)
        self._last = checkpoint
        self._delivered = ended["delivered"]
        self._ledgers.release()


def _failure_of(error: BaseException) -> StageError:
    return StageError(error, stage="checkpoint", worker=0)
