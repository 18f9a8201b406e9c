"""
Calls that take longer than the ``timeout`` of their stage.

A thread cannot be stopped from outside.  So the call is given up: another
worker takes the place of the one that makes it, together with its item, which
goes the way of the stage's policy as if the call had raised.  The thread that
is left behind ends when its call returns, if it does, and what it returns is
discarded.
"""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from m3._loops import settle_attempt
from m3._stacks import formatted, frames_of
from m3._tokens import ABANDONED, Tally
from m3.engine.delivery import commits
from m3.engine.plan import StageSpec
from m3.engine.succession import Succession
from m3.engine.workers import Worker
from m3.errors import ItemTimeoutError, ShutDown, StageError

if TYPE_CHECKING:
    from m3.engine.engine import Engine

__all__ = ("Watchdog",)

ENGINE = str(Path(__file__).resolve().parent) + os.sep

MOST_LEFT_BEHIND = 64
"""So many calls of a stage may be left behind at a time; one more fails the run."""


class Watchdog:
    """
    Looks after the workers of all stages that have a timeout, in a thread of its own.

    It sleeps for as long as no call can be over its time, and needs no word from
    the workers about it.
    """

    def __init__(self, run: "Engine") -> None:
        self._run = run
        self._ended = run.runtime.switch()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, if there is a stage to look after."""
        if any(spec.timeout is not None for spec in self._run.plan):
            self._thread = self._run.runtime.spawn(self._look, "m3-timeouts", self._ended_with)

    def end(self) -> None:
        """Stop looking."""
        self._ended.turn_on()

    def join(self) -> None:
        """Block until its thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(self._look_once()):
            pass

    def _ended_with(self, error: BaseException | None) -> None:
        """Take note of how the thread has ended: its last act."""
        if error is None:
            return
        self._run.fail(StageError(error, stage="timeouts", worker=0))
        for worker in list(self._run.workers):
            worker.fate.turn_on()
            worker.go.turn_on()
            if worker.is_replaced:
                self._run.strike_off(worker)
            elif worker.thread is None:
                self._dismiss(worker)

    def _look_once(self) -> float:
        """Give up what is over its time; return after how long to look again."""
        patience = min(spec.timeout for spec in self._run.plan if spec.timeout is not None)
        for worker in list(self._run.workers):
            spec, watch = worker.pool.head, worker.work.watch
            began = watch.since() if watch is not None else None
            if began is None or spec.timeout is None:
                continue
            left = began + spec.timeout - self._run.runtime.monotonic()
            if left <= 0:
                self._give_up(worker, began, spec.timeout)
            else:
                patience = min(patience, left)
        return patience

    def _give_up(self, worker: Worker, began: float, seconds: float) -> None:
        stack = _stack_of(worker.thread)
        watch = worker.work.watch
        attempt = watch.take(began) if watch is not None else None
        if attempt is None:  # it has just returned
            return
        succession = Succession(worker, attempt, ItemTimeoutError(seconds=seconds, stack=stack))
        try:
            self._hand_over(succession)
        finally:
            worker.fate.turn_on()

    def _hand_over(self, succession: Succession) -> None:
        """Have another worker take over; where there can be none, the run fails."""
        spec = succession.former.pool.head
        is_replaceable = not commits(spec.target) and self._left_behind(spec) < MOST_LEFT_BEHIND
        try:
            if is_replaceable:
                self._replace(succession)
                return
        except (ShutDown, RuntimeError):  # the run is over, or there can be no further thread
            pass
        tally = Tally()
        self._run.books.count_in(tally)
        if self._run.aborting.is_on():  # its worker settles the rest, when it ends
            settle_attempt(succession.attempt, ABANDONED, tally)
        else:
            succession.refuse(tally, self._run.fail)

    def _replace(self, succession: Succession) -> None:
        """
        Have another worker take over from one whose call was given up.

        Raises:
            ShutDown: the run is over.
            RuntimeError: there can be no further thread.
        """
        former = succession.former
        successor = Worker(former.pool, former.number, self._run, succession)
        successor.opening.release()
        self._run.workers.append(successor)  # its counts are the run's, however it ends
        self._run.stores.take_in(successor)
        self._run.enlist(successor)  # before it can end
        try:
            successor.start()
            successor.may_work = True
            self._run.strike_off(former)
        except RuntimeError:
            self._dismiss(successor)
            raise
        finally:
            successor.go.turn_on()

    def _dismiss(self, worker: Worker) -> None:
        """Count no more on *worker*, which has no thread."""
        worker.close()
        self._run.all_passed_on(worker)
        self._run.ended(worker)

    def _left_behind(self, spec: StageSpec) -> int:
        return sum(
            worker.is_replaced and not worker.has_ended
            for worker in list(self._run.workers)
            if worker.pool.head is spec
        )


def _stack_of(thread: threading.Thread | None) -> str:
    """Return where a thread is, below the frames of m3, as lines of a traceback."""
    frames = frames_of(thread)
    own = [at for at, frame in enumerate(frames) if frame.code.co_filename.startswith(ENGINE)]
    return formatted(frames[own[-1] + 1 if own else 0 :])
