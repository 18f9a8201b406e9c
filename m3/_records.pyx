# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
RecordQueue: numpy records of a fixed size through a ring of bytes.

A copy runs without the GIL, so one producer and one consumer copy at the same
time.  Each side has a lock of its own that is held while copying, never while
waiting.  Records count as put, or as taken, after they were copied.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.string cimport memcpy

from m3._edge cimport (
    BLOCKED,
    CLOSED,
    DONE,
    Outcome,
    count_items,
    deadline_of,
    offer_room,
    outcome_error,
)
from m3._sync cimport (
    m3_fence,
    m3_load,
    m3_load_relaxed,
    m3_lock,
    m3_store,
    m3_unlock,
)

from m3.errors import Empty, Full, ShutDown


cdef extern from "pythread.h":
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    void PyThread_release_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) nogil


# Copying so few bytes takes less time than giving up the GIL and getting it back.
cdef size_t FEW_BYTES = 8192


@cython.no_gc_clear
cdef class RecordQueue(Edge):
    """
    A first-in, first-out queue of numpy records for threads.

    Args:
        dtype: the type of one record, structured or plain; without Python objects.
        capacity: the most records it holds; their memory is taken at once.

    Blocks of any size go in and come out.  Blocking, closing (``shutdown`` and
    ``producer()``) and ``statistics()`` are those of
    :class:`~m3._queue.BoundedQueue`, counted in records.  When several threads
    put, their blocks may be split and mixed, but never a record.
    """

    def __cinit__(self, *args, **kwargs):
        self.put_side = new_lock()
        self.get_side = new_lock()

    def __init__(self, dtype, capacity):
        import numpy

        if self.ring != NULL:
            raise RuntimeError("a RecordQueue is made once")
        self.numpy = numpy
        self.dtype = checked_dtype(numpy.dtype(dtype))
        if capacity < 1:
            raise ValueError(f"RecordQueue(capacity={capacity}): it holds at least 1 record")
        self.record_size = self.dtype.itemsize
        self.ring = new_ring(capacity * self.dtype.itemsize)
        self.limit = capacity
        # Who waits for room had better wait for much: see `wait_to_put`.
        self.patient = True

    def __dealloc__(self):
        PyMem_RawFree(self.ring)
        if self.put_side != NULL:
            PyThread_free_lock(self.put_side)
        if self.get_side != NULL:
            PyThread_free_lock(self.get_side)

    @property
    def capacity(self):
        """The most records it holds."""
        return m3_load(&self.limit)

    def __repr__(self):
        return (
            f"<{type(self).__name__} of {self.dtype} size={self.qsize()}"
            f" capacity={self.capacity}{' shutdown' if self.is_shutdown else ''}>"
        )

    # -- put --------------------------------------------------------------

    def put(self, array, block=True, timeout=None):
        """
        Put the records of *array*, in order, waiting for room as often as it takes.

        Args:
            array: a one-dimensional array, or a single record, of this queue's
                dtype or one that converts to it safely.
            block: if false, do not wait.
            timeout: wait at most so many seconds in all.

        Raises:
            Full: not all found room in time.
            ShutDown: the queue was shut down.
            TypeError: a conversion to the queue's dtype could lose something.

            Any exception that comes out, one of a signal handler included,
            has an attribute ``accepted``: how many records are in the queue,
            from the first on.  The rest is not.
        """
        cdef Py_buffer view
        cdef size_t accepted = 0
        cdef double deadline
        try:
            deadline = deadline_of(block, timeout)
            records = self.as_records(array)
            if len(records) == 0:
                return
            PyObject_GetBuffer(records.view("u1"), &view, PyBUF_SIMPLE)
            try:
                self.put_all(<const char*> view.buf, len(records), deadline, &accepted)
            finally:
                PyBuffer_Release(&view)
        except BaseException as error:
            error.accepted = accepted
            raise

    cdef object as_records(self, object array):
        """Return *array* as a contiguous array of this queue's dtype."""
        array = self.numpy.asarray(array)
        if array.ndim > 1:
            raise ValueError(f"put() takes a one-dimensional array of records, not {array.shape}")
        if array.dtype != self.dtype and not (
            array.dtype.names == self.dtype.names
            and self.numpy.can_cast(array.dtype, self.dtype, "safe")
        ):
            raise TypeError(
                f"put() takes records of {self.dtype}; {array.dtype} does not convert to it "
                "safely: convert the array yourself with astype()"
            )
        return self.numpy.ascontiguousarray(array, self.dtype)

    cdef int put_all(
        self, const char* source, size_t total, double deadline, size_t* accepted
    ) except -1:
        cdef Outcome outcome
        cdef size_t count
        while accepted[0] < total:
            count = self.copy_in(source + accepted[0] * self.record_size, total - accepted[0])
            accepted[0] += count
            if count == 0:
                outcome = self.wait_to_put(deadline)
                if outcome != DONE:
                    raise outcome_error(outcome, Full)()
        return 0

    cdef size_t copy_in(self, const char* source, size_t most) noexcept:
        """Put up to *most* records, as many as there is room for, at most half a ring."""
        cdef size_t tail, count, first
        hold(self.put_side)
        tail = m3_load_relaxed(&self.tail)
        count = min(most, self.limit - (tail - m3_load(&self.head)), (self.limit + 1) // 2)
        first = min(count, self.limit - tail % self.limit)
        copy(self.ring + tail % self.limit * self.record_size, source, first * self.record_size)
        source += first * self.record_size
        copy(self.ring, source, (count - first) * self.record_size)
        count = self.publish(count)
        PyThread_release_lock(self.put_side)
        return count

    cdef size_t publish(self, size_t count) noexcept:
        """Make *count* more records visible, unless the queue was shut down; return how many."""
        cdef size_t size
        m3_lock(&self.tail_mutex)
        if m3_load_relaxed(&self.closed):
            count = 0
        m3_store(&self.tail, m3_load_relaxed(&self.tail) + count)
        size = m3_load_relaxed(&self.tail) - m3_load(&self.head)
        if size > m3_load_relaxed(&self.high_water):
            m3_store(&self.high_water, size)
        m3_unlock(&self.tail_mutex)
        m3_fence()
        if m3_load(&self.getters.wanted) <= size:
            self.getters.unpark(size)
        return count

    # -- get --------------------------------------------------------------

    def get(self, n, block=True, timeout=None):
        """
        Take exactly *n* records, the oldest; fewer only at the end of the stream.

        Args:
            n: how many; up to the capacity all are taken at once or none.
                More are taken piece by piece.
            block: if false, do not wait.
            timeout: wait at most so many seconds in all.

        Returns:
            A new array.

        Raises:
            Empty: there were not so many, in time.
            ShutDown: the queue is empty and was shut down, or its last
                producer is gone.

            Any exception that comes out while waiting, one of a signal handler
            included, has an attribute ``taken``: an array of the records that
            were taken before, empty unless *n* is more than the capacity.
        """
        cdef Py_buffer view
        cdef size_t taken = 0
        cdef double deadline = deadline_of(block, timeout)
        result = self.numpy.empty(at_least_one(n), self.dtype)
        PyObject_GetBuffer(result.view("u1"), &view, PyBUF_WRITABLE)
        try:
            self.fill(<char*> view.buf, len(result), deadline, &taken)
        except BaseException as error:
            error.taken = result[:taken]
            raise
        finally:
            PyBuffer_Release(&view)
        return result if taken == <size_t> len(result) else result[:taken]

    def get_available(self, max_records, block=True, timeout=None):
        """
        Wait for the first record, then take what is there, up to *max_records*.

        Returns:
            A new array of at least one record.

        Raises:
            Empty: there was no record, in time.
            ShutDown: as :meth:`get`.
        """
        cdef Py_buffer view
        cdef size_t taken = 0
        cdef Outcome outcome
        cdef double deadline = deadline_of(block, timeout)
        cdef size_t most = at_least_one(max_records)
        while True:
            outcome = self.wait_to_get(deadline, NULL)
            if outcome != DONE:
                raise outcome_error(outcome, Empty)
            result = self.numpy.empty(min(most, max(<size_t> 1, count_items(self))), self.dtype)
            PyObject_GetBuffer(result.view("u1"), &view, PyBUF_WRITABLE)
            taken = self.copy_out(<char*> view.buf, 1, len(result))
            PyBuffer_Release(&view)
            if taken:
                return result if taken == <size_t> len(result) else result[:taken]

    cdef int fill(self, char* target, size_t total, double deadline, size_t* taken) except -1:
        """Take *total* records, or what there is at the end; count them in *taken*."""
        cdef Outcome outcome = DONE
        cdef size_t need, count
        while taken[0] < total:
            need = total if total <= self.limit else min(total - taken[0], (self.limit + 3) // 4)
            count = self.copy_out(
                target + taken[0] * self.record_size,
                1 if outcome == CLOSED else need,
                total - taken[0],
            )
            taken[0] += count
            if count == 0:
                if outcome == CLOSED:
                    break
                outcome = self.wait_for(need, deadline, NULL)
                if outcome == BLOCKED:
                    raise Empty()
        if taken[0] == 0:
            raise ShutDown()
        return 0

    cdef size_t copy_out(self, char* target, size_t need, size_t most) noexcept:
        """Take up to *most* records; none if there are fewer than *need*."""
        cdef size_t head, count, first
        hold(self.get_side)
        head = m3_load_relaxed(&self.head)
        count = min(most, m3_load(&self.tail) - head)
        if count < need:
            count = 0
        first = min(count, self.limit - head % self.limit)
        copy(target, self.ring + head % self.limit * self.record_size, first * self.record_size)
        target += first * self.record_size
        copy(target, self.ring, (count - first) * self.record_size)
        m3_store(&self.head, head + count)
        PyThread_release_lock(self.get_side)
        m3_fence()
        if m3_load(&self.putters.waiting):
            offer_room(self)
        return count

    cdef int empty_out(self) except -1:
        cdef size_t head
        hold(self.get_side)
        head = m3_load_relaxed(&self.head)
        m3_lock(&self.count_mutex)
        m3_store(&self.head, m3_load(&self.tail))
        self.discarded += m3_load_relaxed(&self.head) - head
        m3_unlock(&self.count_mutex)
        PyThread_release_lock(self.get_side)
        return 0


cdef void hold(PyThread_type_lock lock) noexcept:
    if not PyThread_acquire_lock(lock, 0):
        with nogil:
            PyThread_acquire_lock(lock, 1)


cdef void copy(char* target, const char* source, size_t size) noexcept:
    if size <= FEW_BYTES:
        memcpy(target, source, size)
    else:
        with nogil:
            memcpy(target, source, size)


cdef object checked_dtype(object dtype):
    if dtype.hasobject:
        raise TypeError(
            f"RecordQueue({dtype}): it copies bytes, so a record cannot hold Python objects; "
            "use a BoundedQueue for those"
        )
    if dtype.subdtype is not None or dtype.itemsize == 0:
        raise TypeError(
            f"RecordQueue({dtype}): a record needs a size of its own; name it as a field, "
            "as in [('value', 'f4', (3,))]"
        )
    return dtype


cdef size_t at_least_one(object n) except 0:
    if n < 1:
        raise ValueError(f"at least 1 record can be taken, not {n}")
    return n


cdef PyThread_type_lock new_lock() except NULL:
    cdef PyThread_type_lock lock = PyThread_allocate_lock()
    if lock == NULL:
        raise MemoryError("no memory for a lock")
    return lock


cdef char* new_ring(size_t size) except NULL:
    cdef char* ring = <char*> PyMem_RawMalloc(size)
    if ring == NULL:
        raise MemoryError(f"no memory for a queue of {size} bytes")
    return ring
