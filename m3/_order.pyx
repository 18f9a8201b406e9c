# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""Input order: the results of a stage with several workers, put back in order."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.math cimport INFINITY
from libc.stdlib cimport calloc, free

from m3._parking cimport ParkingLot, Switch, Waiter
from m3._steps cimport Step
from m3._sync cimport m3_fence, m3_load, m3_lock, m3_mutex_init, m3_unlock
from m3._tokens cimport ABANDONED, Tally, Token, settle


cdef class Collect(Step):
    """The last step of an ordered stage: keeps the results of the item at hand."""

    def __init__(self, Tally tally):
        super().__init__(tally)
        self.results = []

    cdef int push(self, object item, Token token) except -1:
        self.results.append(item)
        self.results.append(token)
        return 0

    cdef list take(self):
        cdef list results = self.results
        self.results = []
        return results

    cdef int abandon(self) except -1:
        return abandon_results(self.take(), 0, self.tally)


cdef int abandon_results(list results, Py_ssize_t first, Tally tally) except -1:
    cdef Py_ssize_t index
    for index in range(first + 1, len(results), 2):
        settle(results[index], ABANDONED, tally)
    return 0


cdef class Sequencer:
    """
    Puts the results of an ordered stage back into the order of its input.

    The position of an item is its number in the stage's queue.  Whoever
    completes the oldest one missing passes on all that are complete from there
    on; the others go on with their next item, at most *window* ahead of it.
    """

    def __cinit__(self, size_t window, Switch aborting):
        m3_mutex_init(&self.mutex)
        self.lot = ParkingLot()
        self.window = window
        self.aborting = aborting
        self.entries = <PyObject**> calloc(window, sizeof(PyObject*))
        if self.entries == NULL:
            raise MemoryError(f"no memory for a window of {window} items")

    def __dealloc__(self):
        cdef size_t index
        if self.entries == NULL:
            return
        for index in range(self.window):
            Py_XDECREF(self.entries[index])
        free(self.entries)

    cdef bint is_ahead(self, size_t position) noexcept:
        cdef bint ahead
        m3_lock(&self.mutex)
        ahead = position - self.following >= self.window
        m3_unlock(&self.mutex)
        return ahead

    cdef Turn await_window(self, size_t position, double deadline) except *:
        """
        Wait until the item at *position* may be worked on: ADMITTED.

        LATE if that is not before *deadline*, OVER if the run is.
        """
        cdef Waiter waiter
        while self.is_ahead(position):
            if m3_load(&self.aborting.state):
                return OVER
            self.lot.enlist(&waiter, 0)
            if not self.is_ahead(position) or m3_load(&self.aborting.state):
                self.lot.delist(&waiter)
            elif not self.lot.park(&waiter, deadline):
                return LATE
        return ADMITTED

    def admit(self, size_t position):
        """Wait until the item at *position* may be worked on; false if the run is over."""
        return self.await_window(position, INFINITY) == ADMITTED

    cdef int complete(self, size_t position, list results, Step after) except -1:
        """Hand in the results of *position*; pass on what is next, through *after*."""
        cdef bint must_emit
        Py_INCREF(results)
        m3_lock(&self.mutex)
        self.entries[position % self.window] = <PyObject*> results
        must_emit = not self.emitting and position == self.following
        if must_emit:
            self.emitting = True
        m3_unlock(&self.mutex)
        if must_emit:
            self.emit(after)
        return 0

    cdef list take_following(self):
        """Return the next results and move on, or None and stop emitting."""
        cdef PyObject* entry
        m3_lock(&self.mutex)
        entry = self.entries[self.following % self.window]
        self.entries[self.following % self.window] = NULL
        if entry == NULL:
            self.emitting = False
        else:
            self.following += 1
        m3_unlock(&self.mutex)
        if entry == NULL:
            return None
        m3_fence()
        if m3_load(&self.lot.waiting):
            self.lot.unpark_all()
        results = <list> entry
        Py_DECREF(results)
        return results

    cdef int emit(self, Step after) except -1:
        cdef list results
        cdef Py_ssize_t index
        while True:
            results = self.take_following()
            if results is None:
                return 0
            for index in range(0, len(results), 2):
                try:
                    after.push(results[index], results[index + 1])
                except BaseException:
                    abandon_results(results, index + 2, after.tally)
                    raise

    def wake(self):
        """Wake the workers that wait for the window; the run is over."""
        self.lot.unpark_all()

    def discard(self, Tally tally):
        """Settle what was never passed on as abandoned."""
        cdef size_t index
        for index in range(self.window):
            if self.entries[index] != NULL:
                abandon_results(<list> self.entries[index], 0, tally)
                Py_DECREF(<object> self.entries[index])
                self.entries[index] = NULL

    def hand_in(self, size_t position, list results, Step after):
        """Complete *position* with *results*, each followed by its token."""
        self.complete(position, results, after)
