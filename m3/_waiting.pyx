# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
Items that wait for another attempt, and calls that may take too long.

They wait in the worker whose stage has raised on them, ordered by when they
are due, and cost it nothing but their memory: it goes on with other items and
takes one from here when its time has come.
"""

from heapq import heappop, heappush
from time import monotonic

from libc.math cimport INFINITY

from m3._parking cimport Switch, Waiter
from m3._sync cimport m3_add, m3_load, m3_lock, m3_mutex_init, m3_size, m3_unlock


cdef class Attempt:
    """
    One item, or the items of one batch, between two attempts.

    Attributes:
        item: the item, or the list of a batch.
        token: its token, or the list of theirs.
        failures: how many attempts have failed.
        since: when the first of them did, on the monotonic clock.
        place: the item's number in the queue of an ordered stage.
    """

    def __init__(self, item, token, int failures, double since, size_t place=0):
        self.item = item
        self.token = token
        self.failures = failures
        self.since = since
        self.place = place

    cdef bint claim(self) noexcept:
        """Return whether the caller is the first who wants to have what was given up."""
        return m3_add(&self.claims, 1) == 1


cdef class Waiting:
    """
    The attempts that are to be made, the earliest first; for one thread.

    Args:
        aborting: on when the run is over; ends a :meth:`sleep`.
        most: while more than so many wait, nothing else may be begun.
    """

    def __init__(self, Switch aborting, size_t most):
        self.aborting = aborting
        self.most = most
        self.heap = []

    def __len__(self):
        return len(self.heap)

    cdef size_t count(self) noexcept:
        return len(self.heap)

    cpdef int add(self, Attempt attempt, double due) except -1:
        """Keep *attempt* until *due*; of those due at the same time the first one goes first."""
        self.added += 1
        heappush(self.heap, (due, self.added, attempt))
        return 0

    cpdef double due(self) except? -1:
        """Return when the next one is due, on the monotonic clock; infinity for none."""
        return self.heap[0][0] if self.heap else INFINITY

    cpdef Attempt take_due(self):
        """Take the next one, if it is due."""
        if not self.heap or self.due() > <double> monotonic():
            return None
        return heappop(self.heap)[2]

    def take_all(self):
        """Take all of them, due or not, as a list."""
        cdef list attempts = [entry[2] for entry in sorted(self.heap)]
        self.heap = []
        return attempts

    cdef int sleep(self, double until, m3_size* asked) except -1:
        """
        Wait until then, the end of the run, or until something may want a look.

        If *asked* is not NULL, whoever sets it unparks all who wait for the end
        of the run afterwards.
        """
        cdef Waiter waiter
        if m3_load(&self.aborting.state):
            return 0
        self.aborting.lot.enlist(&waiter, 0)
        if m3_load(&self.aborting.state) or (asked != NULL and m3_load(asked)):
            self.aborting.lot.delist(&waiter)
        else:
            self.aborting.lot.park(&waiter, until)
        return 0


cdef class Watch:
    """
    The call that a worker is making, for somebody else to give it up.

    One side makes calls between :meth:`begin` and :meth:`end`; the other may
    :meth:`take` the one at hand.  Only one of the two has the item afterwards.

    Attributes:
        taken: what :meth:`take` has returned.
    """

    def __cinit__(self):
        m3_mutex_init(&self.mutex)

    cdef void begin(self, object item, object token, Attempt attempt, size_t place) noexcept:
        """Say that a call with *item* begins now."""
        cdef double now = monotonic()
        self.item = item
        self.token = token
        self.attempt = attempt
        self.place = place
        m3_lock(&self.mutex)
        self.began = now
        m3_unlock(&self.mutex)

    cdef bint end(self) noexcept:
        """Say that the call has ended; false if somebody has taken it before."""
        cdef bint is_own
        m3_lock(&self.mutex)
        is_own = not self.is_given_up
        if is_own:
            self.began = 0
        m3_unlock(&self.mutex)
        if is_own:
            self.item = self.token = self.attempt = None
        return is_own

    def since(self):
        """Return when the call at hand began, on the monotonic clock; None between two calls."""
        cdef double began
        m3_lock(&self.mutex)
        began = 0 if self.is_given_up else self.began
        m3_unlock(&self.mutex)
        return began or None

    def take(self, double began):
        """
        Give up the call that began then, if it is still at hand.

        Returns:
            An attempt that has failed once more than before, or None.
        """
        cdef bint is_taken
        cdef int failures
        m3_lock(&self.mutex)
        is_taken = self.began == began and not self.is_given_up
        if is_taken:
            self.is_given_up = True
        m3_unlock(&self.mutex)
        if not is_taken:
            return None
        failures = 0 if self.attempt is None else self.attempt.failures
        since = began if self.attempt is None else self.attempt.since
        self.taken = Attempt(self.item, self.token, failures, since, self.place)
        return self.taken
