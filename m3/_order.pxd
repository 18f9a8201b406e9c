from cpython.object cimport PyObject

from m3._parking cimport ParkingLot, Switch
from m3._steps cimport Step
from m3._sync cimport m3_mutex
from m3._tokens cimport Tally


cdef enum Turn:
    OVER
    ADMITTED
    LATE


cdef class Collect(Step):
    cdef list results

    cdef list take(self)


cdef class Sequencer:
    cdef m3_mutex mutex
    cdef ParkingLot lot
    cdef PyObject** entries
    cdef size_t window
    cdef size_t following
    cdef bint emitting
    cdef Switch aborting

    cdef bint is_ahead(self, size_t position) noexcept
    cdef Turn await_window(self, size_t position, double deadline) except *
    cdef int complete(self, size_t position, list results, Step after) except -1
    cdef list take_following(self)
    cdef int emit(self, Step after) except -1
