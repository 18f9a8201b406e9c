from m3._sync cimport m3_load, m3_mutex, m3_size


cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock


cdef struct Waiter:
    Waiter* previous
    Waiter* next
    PyThread_type_lock lock
    size_t need
    bint parked


cdef class ParkingLot:
    cdef m3_mutex mutex
    cdef Waiter* first
    cdef Waiter* last
    cdef size_t promised
    cdef m3_size waiting
    cdef m3_size wanted

    cdef int enlist(self, Waiter* waiter, size_t need) except -1
    cdef void remove(self, Waiter* waiter) noexcept
    cdef void aim(self) noexcept
    cdef void release(self, Waiter* waiter) noexcept
    cdef bint delist(self, Waiter* waiter) noexcept
    cdef int park(self, Waiter* waiter, double deadline) except -1
    cdef void unpark(self, size_t available) noexcept
    cdef void unpark_all(self) noexcept


cdef class Switch:
    cdef m3_size state
    cdef ParkingLot lot


cdef class Bell(Switch):
    pass


cdef class Gate:
    cdef m3_size closed
    cdef ParkingLot lot

    cdef int await_opening(self) except -1


cdef inline void offer(ParkingLot lot, size_t available) noexcept:
    """Unpark whom *available* units are enough for; cheap when there is nobody."""
    if m3_load(&lot.wanted) <= available:
        lot.unpark(available)
