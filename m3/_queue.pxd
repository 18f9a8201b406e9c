from cpython.object cimport PyObject

from m3._budget cimport Budget
from m3._edge cimport BLOCKED, CLOSED, DONE, Edge, Outcome, offer_room
from m3._parking cimport ParkingLot
from m3._sync cimport (
    m3_fence,
    m3_prefetch,
    m3_share,
    m3_load,
    m3_load_relaxed,
    m3_lock,
    m3_size,
    m3_store,
    m3_unlock,
)


cdef struct Slot:
    PyObject* item
    PyObject* token


cdef class BoundedQueue(Edge):
    cdef Slot* slots
    cdef size_t mask
    cdef ParkingLot joiners
    cdef m3_size tasks_done
    cdef public Budget budget

    cdef int put_slowly(self, object item, object block, object timeout) except -1
    cdef object get_slowly(self, object block, object timeout)
    cdef object await_item(self, PyObject** token, size_t* position)
    cdef Outcome put_owned(self, PyObject* item, PyObject* token, double deadline) except *
    cdef size_t put_some(self, PyObject** items, size_t count) noexcept
    cdef size_t take_some(
        self, PyObject** items, PyObject** tokens, size_t most, size_t* position) noexcept
    cdef list take(self, size_t most)
    cdef list discard(self)
    cdef void count_discarded(self, size_t count) noexcept
    cdef size_t full_capacity(self) noexcept
    cdef bint grow(self) except -1
    cdef Slot* move_ring(self, Slot* slots) noexcept


# No `offer(queue.getters, ...)` on the fast paths: Cython would count a reference.
cdef inline Outcome try_put(BoundedQueue queue, PyObject* item, PyObject* token) noexcept:
    """Append *item* and *token* (which may be NULL), taking a new reference to each."""
    cdef size_t tail, size
    cdef Slot* slot
    m3_lock(&queue.tail_mutex)
    if m3_load_relaxed(&queue.closed):
        m3_unlock(&queue.tail_mutex)
        return CLOSED
    tail = m3_load_relaxed(&queue.tail)
    size = tail - m3_load(&queue.head)
    if size >= m3_load_relaxed(&queue.limit) or size > queue.mask:
        m3_unlock(&queue.tail_mutex)
        return BLOCKED
    slot = &queue.slots[tail & queue.mask]
    m3_share(item)
    slot.item = item
    if token != NULL:
        m3_share(token)
    slot.token = token
    size += 1
    m3_store(&queue.tail, tail + 1)
    if size > m3_load_relaxed(&queue.high_water):
        m3_store(&queue.high_water, size)
    m3_unlock(&queue.tail_mutex)
    m3_fence()
    if m3_load(&queue.getters.wanted) <= size:
        queue.getters.unpark(size)
    return DONE


cdef inline Outcome try_get(
    BoundedQueue queue, PyObject** item, PyObject** token, size_t* position
) noexcept:
    """Take the oldest item and its token; the caller owns the references."""
    cdef size_t head
    cdef Slot* slot
    m3_lock(&queue.head_mutex)
    head = m3_load_relaxed(&queue.head)
    if head == m3_load(&queue.tail):
        m3_unlock(&queue.head_mutex)
        return BLOCKED
    slot = &queue.slots[head & queue.mask]
    item[0] = slot.item
    token[0] = slot.token
    position[0] = head
    m3_store(&queue.head, head + 1)
    m3_prefetch(queue.slots[(head + 4) & queue.mask].item)
    m3_unlock(&queue.head_mutex)
    m3_fence()
    if m3_load(&queue.putters.waiting):
        offer_room(queue)
    return DONE
