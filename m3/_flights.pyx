# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
The items of an async stage that are in flight, from its queue to where they end.

Their way leads through coroutines, callbacks and several threads, any of which
may be cut short.  So an item is in the list of those in flight before anybody
can lose it, and whoever settles it or passes it on closes its flight in the
same step: what is left in the list at the end is exactly what nobody has.
"""

from cpython.object cimport PyObject

from m3._order cimport Sequencer
from m3._queue cimport BoundedQueue
from m3._steps cimport Step
from m3._sync cimport m3_lock, m3_mutex_init, m3_own, m3_unlock
from m3._tokens cimport ABANDONED, DROPPED, FAILED, Tally, Token, blame, settle
from m3._waiting cimport Attempt

from m3._steps import FATAL as _FATAL, Aborted


cdef int FATAL = _FATAL


cdef class Flight(Attempt):
    """
    One item in flight, with how often the stage's code has failed on it.

    Attributes:
        is_open: it has not ended, and was not passed on.
    """

    def __cinit__(self):
        m3_mutex_init(&self.mutex)
        self.is_open = True
        self.kept = []

    def put_off(self, double now):
        """Take note that an attempt has failed, and another one is to be made."""
        self.failures += 1
        self.since = self.since or now

    cdef bint close(self) noexcept:
        """End the flight; false if that was done before."""
        cdef bint was_open
        m3_lock(&self.mutex)
        was_open = self.is_open
        self.is_open = False
        m3_unlock(&self.mutex)
        return was_open

    cdef bint hold(self, bint is_last) noexcept:
        """Take the item, or one thing more that is made from it; false if it has ended before."""
        cdef bint was_open
        if is_last:
            return self.close()
        m3_lock(&self.mutex)
        was_open = self.is_open
        if was_open:
            (<Token> self.token).hold(1)
        m3_unlock(&self.mutex)
        return was_open

    cdef list take_kept(self):
        cdef list kept = self.kept
        self.kept = []
        return kept


cdef class Flights(Step):
    """
    The step of an async stage: counts its items and settles those that end in it.

    Args:
        tally: of the event loop's thread.
        policy: as for every step.
    """

    def __init__(self, Tally tally, policy=None):
        super().__init__(tally, None, policy)
        self.flights = set()

    # -- in the thread that feeds the loop

    def feed(self, BoundedQueue inbox, BoundedQueue slots, Sequencer sequencer, arrived):
        """
        Call *arrived* with each item of *inbox*, as soon as there is room in *slots*.

        Returns when the run is over.

        Raises:
            ShutDown: at the end of the input, or when *slots* is shut down.
        """
        cdef Flight flight
        while True:
            slots.put(None)
            flight = self.take(inbox)
            if sequencer is not None and not sequencer.admit(flight.place):
                return
            arrived(flight)
            flight = None

    cdef Flight take(self, BoundedQueue inbox):
        cdef PyObject* mark
        cdef size_t place
        value = inbox.await_item(&mark, &place)
        cdef Token token = None if mark == NULL else m3_own(mark)
        cdef Flight flight = Flight(value, token, 0, 0.0, place)
        self.flights.add(flight)
        return flight

    # -- in the loop's thread

    def begin(self):
        """Count an item that the stage begins to work on."""
        self.items_in += 1

    def produced(self):
        """Count a result."""
        self.items_out += 1

    def retried(self):
        """Count another attempt."""
        self.retries += 1

    def end(self, int outcome, Flight flight, bint is_expanded=False):
        """
        Settle an item, unless it has ended or gone on before.

        Args:
            outcome: how it has ended.
            flight: the item's.
            is_expanded: all its results have gone on, and it ends with the last of them.
        """
        if not flight.close():
            return
        if outcome == DROPPED and not is_expanded:
            self.dropped += 1
        settle(flight.token, outcome, self.tally)
        self.forget(flight)

    def reject(self, error, Flight flight):
        """Settle an item on which the stage's code raised *error* for good."""
        cdef int outcome = FATAL
        if not flight.close():  # it has gone on: the error is not about the item
            raise error
        self.attempt = flight
        try:
            outcome = self.judge(error, flight.item, flight.token)
        finally:
            self.attempt = None
            blame(flight.token, error)
            settle(flight.token, FAILED if outcome == FATAL else outcome, self.tally)
            self.forget(flight)
        if outcome == FATAL:
            raise Aborted

    def keep(self, Flight flight, result, bint is_last):
        """Keep a result of an ordered stage until all of the item's are there."""
        if flight.hold(is_last):
            flight.kept.append(result)
            flight.kept.append(flight.token)

    # -- where it may block

    def pass_on(self, Flight flight, result, bint is_last, Step following):
        """Push a result; the item itself goes on with it, if it is the last."""
        if not flight.hold(is_last):
            return
        self.forget(flight)
        following.push(result, flight.token)

    def hand_in(self, Flight flight, Sequencer sequencer, Step following):
        """Complete the place of an item in the order, with the results that it keeps."""
        self.flights.discard(flight)
        sequencer.complete(flight.place, flight.take_kept(), following)

    # -- at the end

    cdef int forget(self, Flight flight) except -1:
        """Take a flight off the list, if nothing of it is left."""
        if not flight.is_open and not flight.kept:
            self.flights.discard(flight)
        return 0

    cdef int abandon(self) except -1:
        """Settle all that is still in flight; no other thread may have to do with it any more."""
        cdef Flight flight
        while self.flights:
            flight = self.flights.pop()
            if flight.close():
                settle(flight.token, ABANDONED, self.tally)
            for token in flight.take_kept()[1::2]:
                settle(token, ABANDONED, self.tally)
        return Step.abandon(self)
