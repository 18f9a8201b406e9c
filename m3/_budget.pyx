# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""A bound in bytes for a queue, beside that in items."""

cimport cython
from libc.math cimport INFINITY

from m3._edge cimport Edge
from m3._parking cimport ParkingLot, Waiter
from m3._sync cimport m3_fence, m3_load, m3_lock, m3_mutex_init, m3_unlock


@cython.freelist(64)
@cython.final
cdef class Sized:
    """An item in a queue with a budget, and the bytes that it was counted with."""


cdef class Budget:
    """
    How many bytes may be in a queue.

    An item larger than the budget goes in when nothing else is.

    Args:
        limit: the most bytes.
        measure: returns the bytes of an item; None for the length of bytes and
            strings, the ``nbytes`` of arrays, and 0 for anything else.
    """

    def __cinit__(self, Py_ssize_t limit, measure=None):
        m3_mutex_init(&self.mutex)
        self.lot = ParkingLot()
        self.limit = limit
        self.measure = measure

    @property
    def bytes(self):
        """The bytes in the queue now."""
        return self.used

    cdef Sized pack(self, object item):
        """Return *item* with its size; raises what measuring does."""
        cdef Sized sized = Sized()
        sized.item = item
        sized.size = size_of(item) if self.measure is None else self.measure(item)
        if sized.size < 0:
            raise ValueError(f"sizeof returned {sized.size}; a size is not negative")
        return sized

    cdef bint take(self, Py_ssize_t size) noexcept:
        """Count *size* bytes in if there is room for them."""
        cdef bint is_taken
        m3_lock(&self.mutex)
        is_taken = self.used == 0 or self.used + size <= self.limit
        if is_taken:
            self.used += size
        m3_unlock(&self.mutex)
        return is_taken

    cdef bint await_room(self, Py_ssize_t size, Edge edge) except -1:
        """Wait until *size* bytes are counted in; false if the queue is closed before."""
        cdef Waiter waiter
        while not self.take(size):
            if m3_load(&edge.closed):
                return False
            self.lot.enlist(&waiter, 0)
            if self.take(size):
                self.lot.delist(&waiter)
                return True
            if m3_load(&edge.closed):
                self.lot.delist(&waiter)
                return False
            self.lot.park(&waiter, INFINITY)
        return True

    cdef object unpack(self, object sized):
        """Return the item, which has left the queue, and give its bytes back."""
        self.give_back((<Sized> sized).size)
        return (<Sized> sized).item

    cdef int give_back(self, Py_ssize_t size) except -1:
        m3_lock(&self.mutex)
        self.used -= size
        m3_unlock(&self.mutex)
        m3_fence()
        if m3_load(&self.lot.waiting):
            self.lot.unpark_all()
        return 0

    def wake(self):
        """Wake those who wait for room, for the queue is closed."""
        self.lot.unpark_all()


cdef Py_ssize_t size_of(object item) except -1:
    """Return the bytes of *item* as :class:`m3.Batch` counts them."""
    if isinstance(item, (bytes, bytearray, str)):
        return len(item)
    return getattr(item, "nbytes", 0)
