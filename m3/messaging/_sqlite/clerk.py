"""The one thread of a bus that uses its database."""

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from m3.errors import BusError, BusTimeoutError, describe
from m3.messaging._sqlite import messages, sessions, topology
from m3.messaging._sqlite.database import Database, is_busy
from m3.messaging._sqlite.jobs import Job
from m3.messaging._sqlite.whistle import Whistle
from m3.messaging.bus import PATIENCE
from m3.messaging.entities import Delivery, Queue
from m3.messaging.every import call_all

__all__ = ("Claimant", "Clerk")

TICK = 1.0
"""Seconds between two looks for what nobody has called out: its process was killed before."""

FULL_TICK = 0.05
"""The same while a publisher waits for room, which nobody calls out."""

MOST_JOBS = 500


class Claimant(Protocol):
    """A consumer, as its clerk sees it."""

    queues: tuple[Queue, ...]

    def wants(self) -> int:
        """Return how many messages it can take now; 0 if it does not wait for any."""

    def feed(self, deliveries: list[Delivery]) -> None:
        """Take what was found for it, perhaps nothing."""

    def fail(self, error: BusError) -> None:
        """Take note that nothing could be looked for."""

    def forget_all(self) -> None:
        """Take note that the messages that it has were given to others."""

    def lose(self, error: BusError) -> None:
        """Take note that another one has its queue, and that it gets nothing any more."""


class Clerk:
    """
    Does what others ask for in transactions, and hands out messages.

    Whatever has come together while one transaction was written is done in the
    next one: so one write to the disk serves many threads.

    Args:
        path: the database.
        lease: seconds after which others take the messages of a process that is
            stuck.  Of one that has ended, they take them at once.
        tell_failure: called if its thread has to end before it is closed.
    """

    def __init__(
        self, path: Path, lease: float, *, tell_failure: Callable[[BusError], object]
    ) -> None:
        self.path = path
        self._lease = lease
        self._tell_failure = tell_failure
        self._end_reason = "was closed"
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._full: list[Job] = []
        self._is_asleep = self._is_asked = self._is_closing = self._is_closed = False
        self._claimants: tuple[Claimant, ...] = ()
        self._process = os.getpid()
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="m3-sqlite-bus", daemon=True)

    # -- for all threads

    def start(self) -> None:
        """
        Begin a session; blocks until the database is open.

        Raises:
            BusError: it cannot be used.
        """
        self._thread.start()
        try:
            self._begun.result()
        except BaseException:
            self.close()
            raise

    def do(self, function: Callable[[Database], Any], *, timeout: float | None = None) -> Any:
        """
        Return what *function* returns, when it is committed.

        Raises:
            BusTimeoutError: it has taken too long.
            BusError: it cannot be done.
        """
        job = Job(function)
        self.begin(job)
        return self.finish(job, timeout)

    def begin(self, job: Job) -> None:
        """Do *job* as soon as that can be; :meth:`finish` waits for it."""
        try:
            self._take(job)
        except BusError as error:
            job.fail(error)

    def finish(self, job: Job, timeout: float | None) -> Any:
        """
        Return what the function of *job* returns, when it is committed.

        Raises:
            BusTimeoutError: it has taken too long.
            BusError: it cannot be done.
        """
        try:
            return job.future.result(timeout)
        except TimeoutError:
            raise self._late(job, timeout) from None

    def do_later(self, function: Callable[[Database], Any], then: Callable[[Any], object]) -> None:
        """Do *function* as soon as that can be, and call *then* with what it has returned."""
        job = Job(function, is_lasting=True, committed=then)
        with suppress(BusError):  # it is closed: all that its session had was given back
            self._take(job)

    def check_process(self) -> None:
        """Raise :exc:`~m3.errors.BusError` if it belongs to the process that was forked."""
        if self._process != os.getpid():
            raise BusError(
                f"sqlite bus {self.path} was connected in process {self._process}, from which this "
                "one was forked; connect another one here"
            )

    def look(self) -> None:
        """
        Let it look for messages; returns at once.

        Raises:
            BusError: it has ended.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if self._is_closed:
                raise self._ended()
            self._is_asked = True
            self._wake()

    def close(self) -> None:
        """End the session; blocks until the thread has ended."""
        if self._process != os.getpid():
            return
        with self._lock:
            self._is_closing = True
            self._wake()
        self._thread.join()

    def admit(self, claimant: Claimant) -> None:
        """Let a consumer get messages of its queues; whatever this raises, it gets none."""

        def add(database: Database) -> None:
            topology.add_consumer(database, self._session, claimant.queues)

        def committed(_: None) -> None:
            with self._lock:
                self._claimants += (claimant,)
            if job.is_cancelled:
                self._begin_dismissal(claimant)

        self.check_process()
        job = Job(add, committed=committed)
        try:
            self.begin(job)
            self.finish(job, PATIENCE)
        except BaseException:
            job.is_cancelled = True
            self._begin_dismissal(claimant)
            raise

    def dismiss(self, claimant: Claimant) -> None:
        """Let it get no more; blocks until that is written."""
        self.check_process()
        if (job := self._begin_dismissal(claimant)) is not None:
            self.finish(job, PATIENCE)

    def _begin_dismissal(self, claimant: Claimant) -> Job | None:
        def remove(database: Database) -> None:
            for queue in claimant.queues:
                topology.remove_consumer(database, self._session, queue.name)

        job = Job(remove, is_lasting=True)
        with self._lock:
            others = tuple(one for one in self._claimants if one is not claimant)
            if len(others) == len(self._claimants):
                return None
            self._claimants = others
            self._jobs.append(job)
            self._wake()
        return job

    def _take(self, job: Job) -> None:
        self.check_process()
        with self._lock:
            if self._is_closing or self._is_closed:
                raise self._ended()
            self._jobs.append(job)
            self._wake()

    def _wake(self) -> None:
        if self._is_asleep and not self._is_closed:
            self._whistle.blow()
            self._is_asleep = False

    def _late(self, job: Job, timeout: float | None) -> BusTimeoutError:
        with self._lock:
            full, is_undone = job.hindrance, not job.is_taken
            job.is_cancelled = not job.is_lasting
        why = "another process is writing to it" if full is None else f"queue {full!r} is full"
        what = "nothing was done" if is_undone else "it may have been done"
        return BusTimeoutError(f"sqlite bus {self.path}: not done in {timeout:g} s, {what}: {why}")

    def _ended(self) -> BusError:
        return BusError(f"sqlite bus {self.path} {self._end_reason}")

    # -- the thread

    def _run(self) -> None:
        try:
            self._begin()
        except Exception as error:
            self._is_closed = True
            self._begun.set_exception(_told(self.path, error))
            return
        self._begun.set_result(None)
        try:
            while not self._is_closing or self._jobs:
                self._turn()
        except Exception as error:
            self._end_reason = f"has failed: {describe(error)}"
            failures = [partial(each.fail, self._ended()) for each in self._shut()]
            call_all([partial(self._tell_failure, _told(self.path, error)), *failures])
        finally:
            self._end()

    def _begin(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._open()
            except sqlite3.Error as error:
                if self._is_closing or not is_busy(error) or time.monotonic() > deadline:
                    raise
            time.sleep(FULL_TICK)  # where two wait for each other, SQLite gives up at once

    def _open(self) -> None:
        self._database = Database(self.path)
        try:
            self._whistle = Whistle(self.path.with_name(self.path.name + "-bus"))
        except BaseException:
            self._database.close()
            raise
        try:
            self._enter()
        except BaseException:
            self._whistle.close()
            self._database.close()
            raise

    def _enter(self) -> None:
        with self._database.transaction(durable=False):
            self._session = sessions.enter(self._database, self._whistle.name, self._lease)
            self._alarm = messages.next_alarm(self._database)
        self._renewal = time.monotonic() + self._lease / 3
        self._meet()
        self._whistle.greet(sessions.whistles(self._database))

    def _shut(self) -> tuple[Claimant, ...]:
        """Take nothing more; return those who are to be told, and whom nothing is found for."""
        with self._lock:
            self._is_closed = True
            claimants, self._claimants = self._claimants, ()
        return claimants

    def _end(self) -> None:
        self._shut()
        leave = partial(sessions.end, whistle=self._whistle.name)
        with suppress(Exception):  # others see on its whistle that it is gone
            self._write([Job(leave)])
        call_all([self._whistle.close, self._database.close, self._give_up_jobs])

    def _give_up_jobs(self) -> None:
        for job in (*self._jobs, *self._full):
            job.fail(self._ended())

    def _turn(self) -> None:
        try:
            self._work()
            self._sleep()
        except sqlite3.Error as error:  # nothing was written, and what is asked for is still there
            if is_busy(error):
                self._is_asked = True
            else:
                self._fail([], error)

    def _sleep(self) -> None:
        with self._lock:
            if self._jobs or self._is_asked or self._is_closing:
                return
            self._is_asleep = True
        gone = self._whistle.wait(self._patience())
        with self._lock:
            self._is_asleep = False
        self._bury(gone)
        if self._database.has_changed():
            self._is_asked = True
            self._meet()
            self._alarm = messages.next_alarm(self._database)

    def _patience(self) -> float:
        """Return for how many seconds nothing is to be done."""
        left = self._renewal - time.monotonic()
        if self._alarm is not None:
            left = min(left, self._alarm - time.time())
        if self._full:
            return min(left, FULL_TICK)
        return min(left, TICK) if self._claimants else left

    def _meet(self) -> None:
        """Have the whistles of all others open, and bury those that are gone."""
        self._bury(self._whistle.know(sessions.whistles(self._database)))

    def _bury(self, gone: set[str]) -> None:
        for name in gone:
            job = Job(partial(sessions.end, whistle=name), is_lasting=True)
            job.future.add_done_callback(partial(self._clear_away, name))
            self._jobs.append(job)

    def _clear_away(self, name: str, ended: "Future[None]") -> None:
        if ended.exception() is None:
            self._whistle.clear_away(name)

    # -- transactions

    def _work(self) -> None:
        jobs = self._next_jobs()
        hungry = [claimant for claimant in self._claimants if claimant.wants()]
        if jobs or self._is_due() or self._has_food(hungry):
            self._write_or_fail(jobs)
        else:
            for claimant in hungry:
                claimant.feed([])

    def _next_jobs(self) -> list[Job]:
        with self._lock:
            self._is_asked = False
            jobs, self._full = self._full, []
            while self._jobs and len(jobs) < MOST_JOBS:
                jobs.append(self._jobs.popleft())
        return jobs

    def _still_wanted(self, jobs: list[Job]) -> list[Job]:
        """Return those that nobody has given up; from now on they are done."""
        with self._lock:
            jobs = [job for job in jobs if not job.is_cancelled]
            for job in jobs:
                job.is_taken = True
        return jobs

    def _put_off(self, *jobs: Job) -> None:
        """Try them again a little later."""
        with self._lock:
            self._full += jobs
            for job in jobs:
                job.is_taken = False

    def _is_due(self) -> bool:
        alarm = self._alarm is not None and self._alarm <= time.time()
        return alarm or self._renewal <= time.monotonic()

    def _has_food(self, hungry: list[Claimant]) -> bool:
        names = {queue.name for claimant in hungry for queue in claimant.queues}
        return any(messages.has_waiting(self._database, name) for name in names)

    def _write_or_fail(self, jobs: list[Job]) -> None:
        try:
            self._write(jobs)
        except sqlite3.Error as error:
            if is_busy(error) and not self._is_closing:
                self._put_off(*jobs)
                self._is_asked = True
                for claimant in self._claimants:
                    claimant.feed([])
            elif len(jobs) > 1:
                for job in jobs:
                    self._write_or_fail([job])
            else:
                self._fail(jobs, error)
        except Exception as error:
            for job in jobs:
                job.fail(_told(self.path, error))
            raise

    def _fail(self, jobs: list[Job], error: sqlite3.Error) -> None:
        told = _told(self.path, error)
        for job in jobs:
            if job.is_lasting:
                self._put_off(job)
            else:
                job.fail(told)
        for claimant in () if jobs else self._claimants:
            claimant.fail(told)
        self._alarm, self._renewal = None, time.monotonic() + TICK

    def _write(self, jobs: list[Job]) -> None:
        database = self._database
        with database.transaction(durable=any(job.is_durable for job in jobs)):
            self._stay()
            jobs = self._still_wanted(jobs)
            for job in jobs:
                job.attempt(database)
            if self._is_due():
                messages.look_after(database)
            food = [
                (claimant, self._claim(claimant.queues, wanted))
                for claimant in self._claimants
                if (wanted := claimant.wants())
            ]
            others = self._others_to_wake()
            self._alarm = messages.next_alarm(database)
        for job in jobs:
            self._tell(job)
        for claimant, deliveries in food:
            claimant.feed(deliveries)
        self._whistle.call(others)

    def _others_to_wake(self) -> set[str]:
        """Return the whistles of those who may want what this transaction leaves in the queues."""
        database = self._database
        left = [name for name in database.touched if messages.has_waiting(database, name)]
        return {other for name in left for other in sessions.listeners(database, name)}

    def _tell(self, job: Job) -> None:
        if job.hindrance is not None:
            self._put_off(job)
        else:
            job.tell()

    def _claim(self, queues: tuple[Queue, ...], wanted: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for queue in queues:
            most = wanted - len(deliveries)
            if most:
                deliveries += messages.claim(self._database, self._session, queue.name, most)
        return deliveries

    def _stay(self) -> None:
        """Renew the lease when it is time; begin another session if it was ended."""
        database = self._database
        if sessions.has_ended(database, self._session):
            self._session = sessions.enter(database, self._whistle.name, self._lease)
            for claimant in self._claimants:
                claimant.forget_all()
                self._admit_again(claimant)
        if self._renewal <= time.monotonic():
            self._renewal = time.monotonic() + self._lease / 3
            sessions.renew(database, self._session, self._lease)
            for name in sessions.overdue(database):
                sessions.end(database, name)

    def _admit_again(self, claimant: Claimant) -> None:
        """Let a consumer go on in a new session, unless another has its exclusive queue."""
        try:
            topology.add_consumer(self._database, self._session, claimant.queues)
        except BusError as error:
            with self._lock:
                self._claimants = tuple(one for one in self._claimants if one is not claimant)
            claimant.lose(error)


def _told(path: Path, error: Exception) -> BusError:
    if isinstance(error, BusError):
        return error
    told = BusError(f"sqlite bus {path}: {error}")
    told.__cause__ = error
    return told
