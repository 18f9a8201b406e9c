from m3._edge cimport Edge
from m3._parking cimport PyThread_type_lock


# `tail` and `head` are counts of records.  Who holds `put_side` is the only one
# to write the ring and `tail`, who holds `get_side` the only one to write `head`.
cdef class RecordQueue(Edge):
    cdef char* ring
    cdef size_t record_size
    cdef PyThread_type_lock put_side
    cdef PyThread_type_lock get_side
    cdef object numpy
    cdef readonly object dtype

    cdef object as_records(self, object array)
    cdef int put_all(
        self, const char* source, size_t total, double deadline, size_t* accepted) except -1
    cdef size_t copy_in(self, const char* source, size_t most) noexcept
    cdef size_t publish(self, size_t count) noexcept
    cdef size_t copy_out(self, char* target, size_t need, size_t most) noexcept
    cdef int fill(self, char* target, size_t total, double deadline, size_t* taken) except -1
