"""One connection to a broker, kept up by a thread."""

import heapq
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from ssl import SSLSocket
from threading import get_ident
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from amqp.exceptions import AMQPError, FrameSyntaxError

from m3.errors import BusError, BusTimeoutError, describe
from m3.messaging._amqp.brokers import LOST, Brokers, hang_up, is_verdict, reason
from m3.messaging._amqp.connection import Connection, Plain
from m3.messaging._amqp.leading import Lead, Source, Watch
from m3.messaging.awaited import Awaited
from m3.messaging.every import taken_from
from m3.policies import Backoff

__all__ = ("MOST_LOSSES", "Duty", "Link")

MOST_LOSSES = 3
"""How many connections may be lost over one thing; with the next one, it counts as the cause."""

Result = TypeVar("Result")

_links: "WeakSet[Link]" = WeakSet()

_busy: set[int] = set()
"""The threads that have the turn of a link that is not theirs; they wait for no other turn."""


class Duty(Protocol):
    """What a connection is used for; it learns in the link's thread what becomes of that."""

    def begin(self, connection: Connection) -> None:
        """Open what is needed on a new connection."""

    def interrupt(self) -> None:
        """Learn that the connection is lost."""

    def end(self, error: BusError) -> None:
        """Learn that there will be no other; *error* is for whoever still waits."""

    def may_be_led(self) -> bool:
        """Return whether all who need what arrives wait for it with :meth:`Link.wait`."""


class Call(Generic[Result]):
    """Work that another thread wants done with a connection, and waits for."""

    def __init__(self, work: Callable[[Connection], Result], *, again: bool) -> None:
        self._work = work
        self.again = again
        self._over = threading.Event()
        self._result: Any = None
        self._error: Exception | None = None
        self._is_wanted = True
        self._losses = 0

    def __call__(self, connection: Connection) -> None:
        """Do it; a connection that is lost meanwhile is for the link, which begins it again."""
        if not self._is_wanted:
            return
        try:
            self._result = self._work(connection)
        except FrameSyntaxError as error:
            self._error = BusError(f"AMQP cannot carry this: {describe(error)}")
        except LOST as error:
            self._losses += 1
            if is_verdict(error) or self._losses > MOST_LOSSES:
                self.give_up(BusError(f"RabbitMQ closes the connection: {reason(error)}"))
            raise
        except AMQPError as error:
            self._error = BusError(f"RabbitMQ refuses: {reason(error)}")
        except Exception as error:
            self._error = error
        self._over.set()

    def give_up(self, error: Exception) -> None:
        """Raise *error* where it is waited for, and do nothing more."""
        self._is_wanted = False
        self._error = error
        self._over.set()

    def wait(self, timeout: float) -> bool:
        """Wait for its end; return whether it came in time.  Otherwise it is not done any more."""
        is_over = self._over.wait(timeout)
        if not is_over:
            self._is_wanted = False
        return is_over

    def result(self) -> Result:
        """Return its result, or raise its error."""
        if self._error is not None:
            raise self._error
        result: Result = self._result
        return result


class Link:
    """
    A connection to one of *brokers*, and another one when it is lost, until it is closed.

    Its thread reads, connects, and ticks the heartbeats, so these do not depend on anybody's
    code.  Whoever touches the connection has the *turn*; while the thread sleeps, it does not,
    and others may write without having to wake it.

    Args:
        brokers: where to connect to.
        duty: what the connection is for.
        purpose: the same, in a word, as the broker lists it.
        backoff: how long to wait before each attempt to connect again.
        logger: what is told of connections lost and made.
    """

    def __init__(
        self, brokers: Brokers, duty: Duty, purpose: str, backoff: Backoff, logger: logging.Logger
    ) -> None:
        self._brokers = brokers
        self._duty = duty
        self._purpose = purpose
        self._backoff = backoff
        self._logger = logger
        self._errands: deque[Callable[[Connection], object]] = deque()
        self._timers: list[tuple[float, int, Callable[[Connection], object]]] = []
        self._order = count()
        self._closing = threading.Event()
        self._is_rung = False
        self._is_finished = False
        self._process = os.getpid()
        self._is_inherited = False
        self._sockets: tuple[socket.socket, ...] = ()
        self._turn = threading.Lock()
        self._is_asleep = False
        self._is_in_use = False
        self._connection: Connection | None = None
        self._outlet: Plain | None = None
        self._source: Source | None = None
        self._failure: Exception | None = None
        _links.add(self)
        self.trouble: BaseException | None = None
        """Why there is no connection just now; None while there is one."""

    # -- for any thread

    def open(self) -> None:
        """
        Connect; the duty begins in the link's thread.

        Raises:
            BusError: no broker can be connected to.
        """
        connection = self._brokers.connect(self._purpose)
        with ExitStack() as undo:
            undo.callback(hang_up, connection, politely=True)
            self._ear, self._bell = socket.socketpair()
            undo.callback(self._ear.close)
            undo.callback(self._bell.close)
            self._ear.setblocking(False)
            self._lead = Lead(self)
            undo.callback(self._lead.close)
            self._own = (self._ear, self._bell, *self._lead.sockets)
            self._sockets = (connection.sock, *self._own)
            self._start(connection)
            undo.pop_all()

    def _start(self, connection: Connection) -> None:
        name, run = f"m3-amqp-{self._purpose}", partial(self._run, connection)
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:  # it may have begun all the same, and a signal have come just then
            self._closing.set()
            raise

    def is_inherited(self) -> bool:
        """Return whether it belongs to the process from which this one was forked."""
        return self._is_inherited

    def check_process(self) -> None:
        """Raise :exc:`~m3.errors.BusError` if it belongs to another process."""
        if self.is_inherited():
            raise BusError(
                f"the bus at {self._brokers} was connected in process {self._process}, from which "
                "this one was forked; connect another one here"
            )

    def abandon(self) -> None:
        """Let go of all sockets, in the child of a fork, and leave the parent's as they are."""
        self._is_inherited = True
        for sock in self._sockets:
            if (file := sock.detach()) >= 0:
                os.close(file)

    def close(self) -> None:
        """Close the connection; returns when its thread has ended."""
        if self.is_inherited():
            return
        self._closing.set()
        self.ring()
        self._thread.join()
        self._ear.close()
        self._bell.close()
        self._lead.close()

    def post(self, errand: Callable[[Connection], object]) -> None:
        """Have the thread do something with the connection, soon; it may have to do it twice."""
        if self.is_inherited():
            return
        self._errands.append(errand)
        if self._is_finished:
            self._drop_errands()
        self.ring()

    def soon(self, errand: Callable[[Connection], object]) -> None:
        """Do something short with the connection here, if its thread sleeps; else have it do it."""
        if self.is_inherited():
            return
        is_done = False
        if self._is_asleep and not self._errands and get_ident() not in _busy:
            with self._turn:
                is_done = self._do_here(errand)
        if not is_done:
            self.post(errand)

    def _do_here(self, errand: Callable[[Connection], object]) -> bool:
        """Return whether it is done; if it fails, or is interrupted, the connection is lost."""
        connection, outlet = self._connection, self._outlet
        if connection is None or outlet is None or self._is_in_use or outlet.unsent:
            return False
        return self._do(connection, outlet, errand)

    def _do(
        self, connection: Connection, outlet: Plain, act: Callable[[Connection], object]
    ) -> bool:
        me = get_ident()
        self._is_in_use = outlet.is_hurried = True
        try:
            _busy.add(me)
            act(connection)
            self._is_in_use = outlet.is_hurried = False
        except Exception as error:
            self._failure = error
            return False
        finally:
            if self._is_in_use or outlet.unsent:
                self.ring()
            _busy.discard(me)
        return True

    def wait(self, awaited: Awaited, timeout: float | None) -> bool:
        """Wait until something is on that is turned on by what arrives; return whether it is."""
        if awaited.is_on():
            return True
        return self._lead.wait(awaited, timeout)

    def source(self) -> Source | None:
        """See :class:`~m3.messaging._amqp.leading.Led`."""
        return self._source if self._duty.may_be_led() and not self._is_inherited else None

    def read(self, connection: Connection) -> bool:
        """Handle what has arrived, here; what goes wrong is for the thread, as ever."""
        if not self._is_asleep:
            return False
        with self._turn:
            outlet = self._outlet
            if self._is_in_use or outlet is None or self._connection is not connection:
                return False
            return self._do(connection, outlet, self._receive)

    def _receive(self, connection: Connection) -> None:
        connection.receive()
        self._pulse.hear()
        connection.handle_frames()

    def call(
        self, work: Callable[[Connection], Result], timeout: float, *, again: bool = True
    ) -> Result:
        """
        Have the thread do something with the connection, and return its result.

        Args:
            work: what to do.
            timeout: seconds that it may take.
            again: whether it is begun again on another connection when this one is lost.

        Raises:
            BusError: the broker refuses it, or the connection is lost.
            BusTimeoutError: it has taken too long.
        """
        self.check_process()
        call = Call(work, again=again)
        self.post(call)
        if not call.wait(timeout):
            raise self.overdue(timeout)
        return call.result()

    def overdue(self, timeout: float) -> BusTimeoutError:
        """Return the error of something that has taken too long, with what is known of why."""
        problem = f"RabbitMQ at {self._brokers} has not answered within {timeout:g} s"
        if self.trouble is not None:
            problem += f": there is no connection ({reason(self.trouble)})"
        return BusTimeoutError(problem)

    def ring(self) -> None:
        """Wake its thread."""
        if not self._is_rung:
            self._is_rung = True
            with suppress(OSError):  # it is closed
                self._bell.send(b"\0")

    # -- for its own thread

    def later(self, seconds: float, errand: Callable[[Connection], object]) -> None:
        """Do something with the connection after a time, in which it may become another."""
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._order), errand))
        if get_ident() != self._thread.ident:
            self.ring()

    def _run(self, connection: Connection | None) -> None:
        try:
            while connection is not None:
                self._serve_until_lost(connection)
                connection = self._connected_again()
        finally:
            self._is_finished = True
            self._drop_errands()

    def _serve_until_lost(self, connection: Connection) -> None:
        try:
            self._serve(connection)
        except Exception as error:
            self._lose((isinstance(error, OSError) and connection.last_words()) or error)
        hang_up(connection, politely=self.trouble is None)

    def _lose(self, error: Exception) -> None:
        self.trouble = error
        level = logging.WARNING if isinstance(error, (*LOST, AMQPError)) else logging.ERROR
        trace = error if level == logging.ERROR else None
        text = "the connection to RabbitMQ for %s is lost: %s"
        self._logger.log(level, text, self._purpose, reason(error), exc_info=trace)
        waiting = [self._errands.popleft() for _ in range(len(self._errands))]
        for errand in reversed(waiting):  # before those that others add meanwhile
            if isinstance(errand, Call) and not errand.again:
                errand.give_up(BusError(f"the connection to RabbitMQ is lost: {reason(error)}"))
            else:
                self._errands.appendleft(errand)
        try:
            self._duty.interrupt()
        except Exception:
            self._logger.exception("what the loss for %s leads to has failed", self._purpose)

    def _connected_again(self) -> Connection | None:
        attempts = 1
        while not self._closing.wait(self._backoff.delay_after(attempts)):
            try:
                connection = self._brokers.connect(self._purpose)
            except BusError as error:
                self.trouble = error
                attempts += 1
            else:
                self._sockets = (connection.sock, *self._own)
                self._logger.info("connected to RabbitMQ again, for %s", self._purpose)
                return connection
        return None

    def _drop_errands(self) -> None:
        error = BusError("the bus is closed")
        try:
            self._duty.end(error)
        finally:
            for errand in taken_from(self._errands):
                if isinstance(errand, Call):
                    errand.give_up(error)

    def _serve(self, connection: Connection) -> None:
        self._pulse = Pulse(connection)
        watch = Watch(connection, self._ear, self._lead)
        has_arrived = False
        try:
            self._duty.begin(connection)
            self.trouble = None
            # TLS cannot be written to by one thread while another one waits to read.
            if not isinstance(connection.sock, SSLSocket):
                self._connection, self._outlet = connection, connection.transport
                self._source = Source(connection, self._lead.inlets(connection))
            while not self._closing.is_set():
                until = self._attend(connection, has_arrived=has_arrived)
                has_arrived = self._await(watch, until)
        finally:
            with self._turn:
                self._connection = self._outlet = self._source = self._failure = None
                self._is_in_use = False
            self._lead.ring()

    def _attend(self, connection: Connection, *, has_arrived: bool) -> float:
        """
        Do what is to be done.

        What has arrived comes last: who is woken by it finds that nobody else wants to run.

        Returns:
            When there is something to do again, at the latest.
        """
        with self._turn:
            if self._is_in_use:
                problem = "whoever wrote, or read, something has not come to an end"
                raise self._failure or ConnectionAbortedError(problem)
            if has_arrived:
                connection.receive()
                self._pulse.hear()
            if self._outlet is not None and self._outlet.unsent:
                self._outlet.write_rest()
            self._pulse.beat()
            self._run_errands(connection)
            until = self._pulse.next_beat()
            connection.handle_frames()
            return min(until, self._timers[0][0]) if self._timers else until

    def _await(self, watch: Watch, until: float) -> bool:
        """Wait; return whether something has arrived that is not read yet."""
        self._is_asleep = True
        has_arrived = watch.wait(until)
        self._is_asleep = False
        if watch.is_rung:
            self._ear.recv(64)
            self._is_rung = False
        return has_arrived

    def _run_errands(self, connection: Connection) -> None:
        while self._timers and self._timers[0][0] <= monotonic():
            self._errands.append(heapq.heappop(self._timers)[2])
        for _ in range(len(self._errands)):
            errand = self._errands.popleft()
            try:
                errand(connection)
            except LOST:
                self._errands.appendleft(errand)  # for the next connection
                raise


class Pulse:
    """
    The heartbeats of a connection.

    Each side sends one after half of the interval that was agreed on.  After two intervals
    without any, the connection counts as lost.  Bytes that arrive are as good as one,
    so that a long message on a slow line is no silence.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._interval = connection.heartbeat or float("inf")
        self._heard = self._sent = monotonic()
        self._frames = connection.bytes_recv

    def next_beat(self) -> float:
        """Return when :meth:`beat` is to be called next, at the latest."""
        return min(self._sent + self._interval / 2, self._heard + 2 * self._interval)

    def hear(self) -> None:
        """Something has arrived."""
        self._heard = monotonic()

    def beat(self) -> None:
        """
        Send a heartbeat if it is time for one.

        Raises:
            TimeoutError: the broker has been silent for too long.
        """
        if self._connection.bytes_recv != self._frames:  # also while an answer was waited for
            self._frames = self._connection.bytes_recv
            self.hear()
        now = monotonic()
        if now - self._heard >= 2 * self._interval:
            raise TimeoutError(f"nothing was heard for {now - self._heard:.1f} s")
        if now - self._sent >= self._interval / 2:
            self._connection.send_heartbeat()
            self._sent = now


def _abandon_all() -> None:
    """Keep no connection of the parent open in the child of a fork, and never write on it."""
    for link in list(_links):
        link.abandon()


os.register_at_fork(after_in_child=_abandon_all)
