from m3._parking cimport Switch
from m3._sync cimport m3_mutex, m3_size


cdef class Attempt:
    cdef readonly object item
    cdef readonly object token
    cdef readonly int failures
    cdef readonly double since
    cdef readonly size_t place
    cdef m3_size claims

    cdef bint claim(self) noexcept


cdef class Waiting:
    cdef readonly Switch aborting
    cdef readonly size_t most
    cdef list heap
    cdef unsigned long long added

    cdef size_t count(self) noexcept
    cpdef int add(self, Attempt attempt, double due) except -1
    cpdef double due(self) except? -1
    cpdef Attempt take_due(self)
    cdef int sleep(self, double until, m3_size* asked) except -1


cdef class Watch:
    cdef m3_mutex mutex
    cdef double began
    cdef bint is_given_up
    cdef readonly Attempt taken
    cdef object item
    cdef object token
    cdef Attempt attempt
    cdef size_t place

    cdef void begin(self, object item, object token, Attempt attempt, size_t place) noexcept
    cdef bint end(self) noexcept
