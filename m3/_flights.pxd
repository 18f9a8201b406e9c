from m3._queue cimport BoundedQueue
from m3._steps cimport Step
from m3._sync cimport m3_mutex
from m3._waiting cimport Attempt


cdef class Flight(Attempt):
    cdef m3_mutex mutex
    cdef readonly bint is_open
    cdef list kept

    cdef bint close(self) noexcept
    cdef bint hold(self, bint is_last) noexcept
    cdef list take_kept(self)


cdef class Flights(Step):
    cdef set flights

    cdef Flight take(self, BoundedQueue inbox)
    cdef int forget(self, Flight flight) except -1
