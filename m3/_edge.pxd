from m3._parking cimport ParkingLot
from m3._sync cimport m3_load, m3_mutex, m3_size


cdef enum Outcome:
    DONE
    BLOCKED
    CLOSED


# Producers write `tail` under `tail_mutex`, consumers `head` under
# `head_mutex`; each side reads the other's count without a lock.  Both are
# counts since the beginning, so they are also the numbers of puts and gets.
# The padding keeps the two sides on cache lines of their own.
cdef class Edge:
    cdef m3_size limit
    cdef m3_size closed
    cdef bint patient
    cdef size_t ordinary
    cdef size_t stretch
    cdef double naps
    cdef size_t prompt
    cdef size_t caution

    cdef char _padding_before_tail[64]
    cdef m3_mutex tail_mutex
    cdef m3_size tail
    cdef m3_size high_water

    cdef char _padding_before_head[64]
    cdef m3_mutex head_mutex
    cdef m3_size head

    cdef char _padding_before_waits[64]
    cdef ParkingLot getters
    cdef ParkingLot putters
    cdef m3_mutex count_mutex
    cdef size_t discarded
    cdef size_t producers
    cdef double put_wait
    cdef double get_wait
    cdef object __weakref__

    cdef Outcome wait_to_put(self, double deadline) except *
    cdef Outcome wait_to_get(self, double deadline, m3_size* asked) except *
    cdef Outcome wait_for(self, size_t need, double deadline, m3_size* asked) except *
    cdef void adapt(self, bint is_drained) noexcept
    cdef bint nap(self, double deadline, m3_size* asked) except *
    cdef bint await_room(self, size_t need, double deadline) except *
    cdef bint await_items(self, size_t need, double deadline, m3_size* asked) except *
    cdef void add_wait(self, double* total, double began) noexcept
    cdef void close(self) noexcept
    cdef int empty_out(self) except -1


cdef inline size_t count_items(Edge edge) noexcept:
    """Return how many items there were at one moment of the call."""
    cdef size_t head = m3_load(&edge.head)
    cdef size_t tail = m3_load(&edge.tail)
    cdef size_t again = m3_load(&edge.head)
    while head != again:
        head = again
        tail = m3_load(&edge.tail)
        again = m3_load(&edge.head)
    return tail - head


cdef inline size_t count_room(Edge edge) noexcept:
    """Return for how many items there was room at one moment of the call."""
    cdef size_t size = count_items(edge)
    cdef size_t limit = m3_load(&edge.limit)
    return limit - size if size < limit else 0


cdef inline void offer_room(Edge edge) noexcept:
    """Wake the producer whose turn it is, if there is room enough."""
    cdef size_t room = count_room(edge)
    if m3_load(&edge.putters.wanted) <= room:
        edge.putters.unpark(room)


cdef size_t UNBOUNDED
cdef object outcome_error(Outcome outcome, object otherwise)
cdef double deadline_of(object block, object timeout) except? -1
