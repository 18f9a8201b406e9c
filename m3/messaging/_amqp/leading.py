"""
Who waits for something of a connection reads it, while the connection's thread stands by.

A thread that is woken by another one, with what that has read, has cost two changes of
threads; one that reads for itself costs one.  So whoever waits alone takes the *lead*: it waits for
the socket, and handles all that comes, until it has what it waits for.  Where several wait
at once, the thread reads for all of them.

The thread is not woken by what a leader reads: it *stands by*, and looks after a tick whether there
still is one.  Nothing is unread for longer than that, whatever has happened to a leader.  As
soon as nobody leads, or one leads for long, there are no ticks any more.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from math import ceil, inf
from select import POLLIN, poll
from threading import get_ident, main_thread
from time import monotonic
from typing import NamedTuple, Protocol

from m3.messaging._amqp.connection import Connection
from m3.messaging.awaited import Awaited

__all__ = ("Lead", "Source", "Watch")

TICK = 0.01
"""Seconds after which a thread that stands by looks whether somebody has led meanwhile."""

FIRST_LOOK = 0.01
"""Seconds until the main thread looks for a signal that has come just before it slept."""

LONGEST_SLEEP = 3600.0


class Source(NamedTuple):
    """A connection, and what a leader waits for it with."""

    connection: Connection
    inlets: "poll"


class Led(Protocol):
    """What is led: a link."""

    def source(self) -> Source | None:
        """Return what can be read by who waits for it; None if its thread alone may read."""

    def read(self, connection: Connection) -> bool:
        """Handle what has arrived; return whether the thread that calls may lead on."""

    def ring(self) -> None:
        """Wake its thread."""


class Lead:
    """Which thread reads what arrives on *link*, of those that wait for something of it."""

    def __init__(self, link: Led) -> None:
        self._link = link
        self._waiting: set[object] = set()
        self._leaders: dict[None, object] = {}  # one at most
        self._deposed: object = None
        self._last_crowd = -inf
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._is_closed = False
        self._alarm: Callable[[], None] = self.ring
        self.sockets = (self._ear, self._bell)
        self.times = 0
        """How often somebody has taken the lead."""
        self.stands_by = False
        """Whether the thread leaves it to others to read."""
        self.asks_back = False
        """Whether the thread wants to be woken when who leads does so no longer."""
        self.gives_back = False
        """Whether the thread is to read again at once."""

    # -- for who waits

    def wait(self, awaited: Awaited, timeout: float | None) -> bool:
        """Wait until something is on, and perhaps read what turns it on; return whether it is."""
        now = monotonic()
        until = inf if timeout is None else now + timeout
        me, source = object(), self._link.source()
        try:
            self._waiting.add(me)
            if len(self._waiting) > 1:
                self._last_crowd = now
            if source is None or self.was_crowded(now):
                self._follow()
            else:
                self._take(me, source, awaited, until)
            if awaited.is_on():
                return True
            return awaited.wait(None if timeout is None else max(0.0, until - monotonic()))
        finally:
            self._waiting.discard(me)

    def was_crowded(self, now: float) -> bool:
        """Return whether several waited at once a short time ago, as they will again."""
        return now - self._last_crowd < TICK

    def _follow(self) -> None:
        """See to it that somebody reads."""
        if self.asks_back:
            self._link.ring()
        elif self.stands_by and self.leader() is None:
            self.gives_back = True
            self._link.ring()

    def _take(self, me: object, source: Source, awaited: Awaited, until: float) -> None:
        # An exception of another thread, or of a signal, may come between any two steps.
        try:
            if self._leaders.setdefault(None, me) is me:
                self.times += 1
                self._lead(me, source, awaited, until)
        finally:
            # Exceptions come after calls, so there is none before the lead is given up.
            try:
                leads = self._leaders[None] is me
            except KeyError:
                leads = False
            if leads:
                awaited.alarm = None
                self._leaders.clear()
                self._leave(me, awaited)

    def _lead(self, me: object, source: Source | None, awaited: Awaited, until: float) -> None:
        look = FIRST_LOOK if get_ident() == main_thread().ident else inf
        while source is not None and self._deposed is not me:
            awaited.alarm = self._alarm
            if awaited.wait(0):  # who turns it on from now on sees that there is an alarm
                return
            seconds = until - monotonic()
            ready = source.inlets.poll(milliseconds(min(seconds, look)))
            awaited.alarm = None
            if ready:
                may_lead_on = self._heed(ready, source.connection)
                if not may_lead_on or awaited.is_on():
                    return
            elif seconds <= look:
                return
            else:
                look *= 2
            source = self._link.source()

    def _heed(self, ready: list[tuple[int, int]], connection: Connection) -> bool:
        own = self._ear.fileno()
        for number, _ in ready:
            if number != own:
                return self._link.read(connection)
        with suppress(OSError):
            self._ear.recv(64)
        return True

    def _leave(self, me: object, awaited: Awaited) -> None:
        if self._is_closed:
            self.close()
        elif self._deposed is not me and (
            len(self._waiting) > 1 or not awaited.is_on() or self._link.source() is None
        ):
            self.gives_back = True
            self._link.ring()
        elif self.asks_back:
            self._link.ring()

    # -- for the thread

    def leader(self) -> object:
        """Return who leads; None if nobody does who was not deposed."""
        leader = self._leaders.get(None)
        return None if leader is self._deposed else leader

    def has_followers(self, leader: object) -> bool:
        """Return whether others wait beside who leads, or it is gone without a word."""
        return len(self._waiting) > 1 or leader not in self._waiting

    def depose(self, leader: object) -> None:
        """Have a leader wait like anybody else."""
        self._deposed = leader
        self.ring()
        if leader not in self._waiting and self._leaders.get(None) is leader:
            self._leaders.clear()

    def ring(self) -> None:
        """Have who leads look about."""
        with suppress(OSError):  # it is closed, or full
            self._bell.send(b"\0")

    def inlets(self, connection: Connection) -> "poll":
        """Return what a leader waits with."""
        return polling(connection.sock, self._ear)

    def close(self) -> None:
        """Let go of the sockets; who still leads does that in the end."""
        self._is_closed = True
        if not self._leaders:
            for sock in self.sockets:
                sock.close()


class Watch:
    """
    What the thread of a link waits for: its connection, and its *ear*.

    While it stands by, for its ear only.
    """

    def __init__(self, connection: Connection, ear: socket.socket, lead: Lead) -> None:
        self._both = polling(connection.sock, ear)
        self._ear_only = polling(ear)
        self._own = ear.fileno()
        self._lead = lead
        lead.stands_by = lead.asks_back = lead.gives_back = False
        self._next_look = inf
        self._times = 0
        self.is_rung = False
        """Whether it was the ear that the last wait has ended with."""

    def wait(self, until: float) -> bool:
        """
        Wait until something has arrived, something is to be done, or *until*.

        Returns:
            Whether there is something to read.
        """
        while True:
            if self._lead.gives_back:
                self._lead.gives_back = self._lead.stands_by = self._lead.asks_back = False
            wait = self._wait_standing_by if self._lead.stands_by else self._wait_for_both
            has_arrived = wait(until)
            if has_arrived or self.is_rung or monotonic() >= until:
                return has_arrived

    def _wait_for_both(self, until: float) -> bool:
        ready = self._both.poll(milliseconds(until - monotonic()))
        self.is_rung = any(number == self._own for number, _ in ready)
        has_arrived = len(ready) > self.is_rung
        if has_arrived and self._lead.leader() is not None:
            self._lead.stands_by = True
            self._times = self._lead.times
            self._next_look = monotonic() + TICK
            return False
        return has_arrived

    def _wait_standing_by(self, until: float) -> bool:
        left = min(until, self._next_look) - monotonic()
        self.is_rung = bool(self._ear_only.poll(milliseconds(left)))
        now = monotonic()
        if self.is_rung and self._next_look == inf:
            self._lead.asks_back = False
            self._next_look = now + TICK
        elif now >= self._next_look:
            return self._look()
        return now >= until and self._has_arrived()

    def _look(self) -> bool:
        """Find out whether to stand by any longer; return whether there is something to read."""
        leader, times = self._lead.leader(), self._lead.times
        has_led, self._times = times != self._times, times
        self._next_look = monotonic() + TICK
        self._lead.asks_back = False
        if leader is None:
            self._lead.stands_by = has_led
            return self._has_arrived()
        if self._lead.has_followers(leader):
            self._lead.stands_by = False
            self._lead.depose(leader)
        elif not has_led:
            self._lead.asks_back = True
            if self._lead.leader() is leader:
                self._next_look = inf
        return False

    def _has_arrived(self) -> bool:
        return any(number != self._own for number, _ in self._both.poll(0))


def polling(*sockets: socket.socket) -> "poll":
    """Return what waits until there is something to read."""
    inlets = poll()
    for sock in sockets:
        inlets.register(sock, POLLIN)
    return inlets


def milliseconds(seconds: float) -> int:
    """Return a time as the system takes it, rounded up."""
    return ceil(min(max(0.0, seconds), LONGEST_SLEEP) * 1000)
