from m3._edge cimport Edge
from m3._parking cimport ParkingLot
from m3._sync cimport m3_mutex, m3_size


cdef class Sized:
    cdef object item
    cdef Py_ssize_t size


cdef class Budget:
    cdef readonly Py_ssize_t limit
    cdef object measure
    cdef m3_mutex mutex
    cdef Py_ssize_t used
    cdef ParkingLot lot

    cdef Sized pack(self, object item)
    cdef bint take(self, Py_ssize_t size) noexcept
    cdef bint await_room(self, Py_ssize_t size, Edge edge) except -1
    cdef object unpack(self, object sized)
    cdef int give_back(self, Py_ssize_t size) except -1


cdef Py_ssize_t size_of(object item) except -1
