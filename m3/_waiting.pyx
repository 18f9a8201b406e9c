# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
Items that wait for another attempt.

They wait in the worker whose stage has raised on them, ordered by when they
are due, and cost it nothing but their memory: it goes on with other items and
takes one from here when its time has come.
"""

from heapq import heappop, heappush
from time import monotonic

from libc.math cimport INFINITY

from m3._parking cimport Switch, Waiter
from m3._sync cimport m3_load


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

    cdef int add(self, Attempt attempt, double due) except -1:
        """Keep *attempt* until *due*; of those due at the same time the first one goes first."""
        self.added += 1
        heappush(self.heap, (due, self.added, attempt))
        return 0

    cdef double due(self) except? -1:
        """Return when the next one is due, on the monotonic clock; infinity for none."""
        return self.heap[0][0] if self.heap else INFINITY

    cdef Attempt take_due(self):
        """Take the next one, if it is due."""
        if not self.heap or self.due() > <double> monotonic():
            return None
        return heappop(self.heap)[2]

    def take_all(self):
        """Take all of them, due or not, as a list."""
        cdef list attempts = [entry[2] for entry in sorted(self.heap)]
        self.heap = []
        return attempts

    cdef int sleep(self, double until) except -1:
        """Wait until then, the end of the run, or until something may want a look."""
        cdef Waiter waiter
        if m3_load(&self.aborting.state):
            return 0
        self.aborting.lot.enlist(&waiter, 0)
        if m3_load(&self.aborting.state):
            self.aborting.lot.delist(&waiter)
        else:
            self.aborting.lot.park(&waiter, until)
        return 0

    # -- for tests and for stages whose code is called from Python

    def put(self, item, token, int failures, double since, double due):
        """Keep an item until *due*."""
        self.add(Attempt(item, token, failures, since), due)

    def pop_due(self):
        """Take the next attempt if it is due, else None."""
        return self.take_due()

    def next_due(self):
        """Return when the next one is due."""
        return self.due()
