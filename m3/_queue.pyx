# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
BoundedQueue: ``queue.Queue`` in C, with batches, producers and statistics.

Items that leave the queue unseen are collected under the mutex and freed
after it; see `_edge.pyx` for what may not happen under one.

The ring holds pairs of an item and a token; the token is the engine's, who
follows items through the pipeline with it, and NULL for everybody else.
"""

cimport cython
from cpython.list cimport PyList_New
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyTypeObject, inquiry, traverseproc, visitproc
from cpython.ref cimport Py_DECREF, Py_XDECREF
from libc.math cimport INFINITY

from m3._edge cimport UNBOUNDED, count_items, deadline_of, outcome_error
from m3._parking cimport Waiter
from m3._sync cimport m3_own

from types import GenericAlias

from m3._edge import Producer, QueueStatistics  # no-cython-lint: part of this module
from m3.errors import Empty, Full, ShutDown


cdef extern from "Python.h":
    ctypedef void (*PyCFunction)()
    ctypedef struct PyMethodDef:
        PyCFunction ml_meth
    ctypedef struct PyMethodDescrObject:
        PyMethodDef* d_method
    PyObject** PySequence_Fast_ITEMS(object sequence)
    void Py_SET_SIZE(object sequence, Py_ssize_t size)


cdef size_t FIRST_CAPACITY = 64

# How many items a batch moves under one hold of the mutex.
cdef enum:
    STRIDE = 128


@cython.no_gc_clear
cdef class BoundedQueue(Edge):
    """
    A first-in, first-out queue for threads, in place of :class:`queue.Queue`.

    Args:
        maxsize: the most items it holds; 0 or less for no bound.
        patient: a blocked put waits up to 2 ms for half of the queue to drain
            before it takes the next free place.
        stretch: the bound may grow to so many items, for as long as half of
            them are gone within that time; only for a patient queue.
        naps: so many seconds a blocked get may wait for half of the queue to
            fill, while at least four items come in that time; for one consumer.

    It has the methods of CPython 3.13's ``queue.Queue`` with their meaning and
    exceptions, and adds batches (:meth:`put_many`, :meth:`get_many`), producers
    (:meth:`producer`) and :meth:`statistics`.  It does not call ``_put`` and
    ``_get``, and has no ``mutex``: nothing of Python runs inside of it.

    Any number of threads may use it.  A blocked call has released the GIL,
    wakes as soon as it can go on, and in the main thread runs signal handlers:
    what they raise comes out, and the call then has had no effect.

    >>> queue = BoundedQueue(2)
    >>> queue.put("a")
    >>> queue.get()
    'a'
    """

    def __cinit__(self, *args, **kwargs):
        self.joiners = ParkingLot()
        self.slots = new_slots(FIRST_CAPACITY)
        self.mask = FIRST_CAPACITY - 1

    def __init__(self, maxsize=0, *, bint patient=False, size_t stretch=0, double naps=0):
        self.maxsize = maxsize
        self.patient = patient
        self.ordinary = m3_load(&self.limit)
        self.stretch = stretch
        self.naps = naps

    def __dealloc__(self):
        if self.slots != NULL:
            clear_ring(self)
            PyMem_RawFree(self.slots)

    __class_getitem__ = classmethod(GenericAlias)

    @property
    def maxsize(self):
        """The most items it holds, 0 for no bound; may be set at any time."""
        cdef size_t limit = m3_load(&self.limit)
        return 0 if limit == UNBOUNDED else limit

    @maxsize.setter
    def maxsize(self, value):
        m3_store(&self.limit, UNBOUNDED if value <= 0 else min(<size_t> value, UNBOUNDED))
        m3_fence()
        offer_room(self)

    @property
    def unfinished_tasks(self):
        """Items put for which :meth:`task_done` was not called yet."""
        cdef size_t done = m3_load(&self.tasks_done)
        return m3_load(&self.tail) - done

    def __repr__(self):
        return (
            f"<{type(self).__name__} size={self.qsize()} maxsize={self.maxsize}"
            f"{' shutdown' if self.is_shutdown else ''}>"
        )

    # -- one item ---------------------------------------------------------

    def put(self, item, block=True, timeout=None):
        """
        Put *item* at the end; wait while the queue is full.

        Args:
            block: if false, do not wait.
            timeout: wait at most so many seconds.

        Raises:
            Full: there was no room, in time.
            ShutDown: the queue was shut down, before or during the wait.
        """
        if timeout is not None or try_put(self, <PyObject*> item, NULL) != DONE:
            self.put_slowly(item, block, timeout)

    def get(self, block=True, timeout=None):
        """
        Take the oldest item; wait while the queue is empty.

        Args:
            block: if false, do not wait.
            timeout: wait at most so many seconds.

        Raises:
            Empty: there was no item, in time.
            ShutDown: the queue is empty and was shut down, or its last
                producer is gone.
        """
        cdef PyObject* item
        cdef PyObject* token
        cdef size_t position
        if timeout is not None or try_get(self, &item, &token, &position) != DONE:
            return self.get_slowly(block, timeout)
        Py_XDECREF(token)
        return m3_own(item)

    def put_nowait(self, item):
        """Put *item* if there is room now, else raise :exc:`Full`."""
        if try_put(self, <PyObject*> item, NULL) != DONE:
            self.put_slowly(item, False, None)

    def get_nowait(self):
        """Take the oldest item if there is one now, else raise :exc:`Empty`."""
        return self.get_slowly(False, None)

    # -- many items -------------------------------------------------------

    def put_many(self, items, block=True, timeout=None):
        """
        Put all *items*, in order, waiting for room as often as it takes.

        Args:
            items: any iterable; it is read to its end before the first put.
            block: if false, do not wait.
            timeout: wait at most so many seconds in all.

        Raises:
            Full: not all found room in time.
            ShutDown: the queue was shut down.

            Any exception that comes out, one of a signal handler included,
            has an attribute ``accepted``: how many items are in the queue,
            from the first on.  The rest is not.
        """
        cdef size_t accepted = 0
        cdef size_t total
        cdef tuple batch
        cdef Outcome outcome
        cdef double deadline
        try:
            deadline = deadline_of(block, timeout)
            # Another thread may change a list while this one waits.
            batch = tuple(items)
            total = len(batch)
            while True:
                accepted += self.put_some(PySequence_Fast_ITEMS(batch) + accepted, total - accepted)
                if accepted == total:
                    return
                outcome = self.wait_to_put(deadline)
                if outcome != DONE:
                    raise outcome_error(outcome, Full)()
        except BaseException as error:
            error.accepted = accepted
            raise

    def get_many(self, max_items, block=True, timeout=None):
        """
        Wait for the first item, then take what is there, up to *max_items*.

        Returns:
            A list of at least one item.

        Raises:
            Empty: there was no item, in time.
            ShutDown: as :meth:`get`.
            ValueError: *max_items* is less than one.
        """
        cdef list items
        cdef Outcome outcome
        cdef double deadline = deadline_of(block, timeout)
        if max_items < 1:
            raise ValueError(f"get_many() takes at least 1 item, not {max_items}")
        while True:
            items = self.take(max_items)
            if items:
                return items
            outcome = self.wait_to_get(deadline, NULL)
            if outcome != DONE:
                raise outcome_error(outcome, Empty)

    # -- tasks ------------------------------------------------------------

    def task_done(self):
        """
        Say that the work on one item taken is complete.

        Raises:
            ValueError: it was called more often than there were items.
        """
        cdef size_t unfinished
        m3_lock(&self.count_mutex)
        unfinished = m3_load(&self.tail) - self.tasks_done
        if unfinished:
            m3_store(&self.tasks_done, self.tasks_done + 1)
        m3_unlock(&self.count_mutex)
        if unfinished == 0:
            raise ValueError("task_done() called too many times")
        if unfinished == 1:
            self.joiners.unpark_all()

    def join(self):
        """Wait until :meth:`task_done` was called for every item ever put."""
        cdef Waiter waiter
        while self.unfinished_tasks:
            self.joiners.enlist(&waiter, 0)
            if self.unfinished_tasks:
                self.joiners.park(&waiter, INFINITY)
            else:
                self.joiners.delist(&waiter)

    # -- the slow paths ---------------------------------------------------

    cdef int put_slowly(self, object item, object block, object timeout) except -1:
        cdef double deadline = deadline_of(block, timeout)
        cdef Outcome outcome = self.put_owned(<PyObject*> item, NULL, deadline)
        if outcome != DONE:
            raise outcome_error(outcome, Full)
        return 0

    cdef object get_slowly(self, object block, object timeout):
        cdef PyObject* item
        cdef PyObject* token
        cdef size_t position
        cdef Outcome outcome
        cdef double deadline = deadline_of(block, timeout)
        while try_get(self, &item, &token, &position) != DONE:
            outcome = self.wait_to_get(deadline, NULL)
            if outcome != DONE:
                raise outcome_error(outcome, Empty)
        Py_XDECREF(token)
        return m3_own(item)

    cdef object await_item(self, PyObject** token, size_t* position):
        """
        Wait for an item; the caller owns the reference to its token, which may be NULL.

        Raises:
            ShutDown: at the end of the input.
        """
        cdef PyObject* item
        while try_get(self, &item, token, position) != DONE:
            if self.wait_to_get(INFINITY, NULL) == CLOSED:
                raise ShutDown
        value = m3_own(item)
        return value if self.budget is None else self.budget.unpack(value)

    cdef Outcome put_owned(self, PyObject* item, PyObject* token, double deadline) except *:
        """Put as soon as there is room; BLOCKED if there is none by *deadline*."""
        cdef Outcome outcome
        while True:
            outcome = try_put(self, item, token)
            if outcome != BLOCKED:
                return outcome
            outcome = self.wait_to_put(deadline)
            if outcome != DONE:
                return outcome

    cdef Outcome wait_to_put(self, double deadline) except *:
        if self.grow():
            return DONE
        return Edge.wait_to_put(self, deadline)

    # -- the ring ---------------------------------------------------------

    cdef size_t put_some(self, PyObject** items, size_t count) noexcept:
        """Put as many of *items* as find room at once; returns how many."""
        cdef size_t tail, size, room, index
        cdef Slot* slot
        m3_lock(&self.tail_mutex)
        tail = m3_load_relaxed(&self.tail)
        size = tail - m3_load(&self.head)
        room = min(m3_load_relaxed(&self.limit), self.mask + 1)
        room = 0 if size >= room or m3_load_relaxed(&self.closed) else room - size
        count = min(count, room)
        for index in range(count):
            slot = &self.slots[(tail + index) & self.mask]
            m3_share(items[index])
            slot.item = items[index]
            slot.token = NULL
        size += count
        m3_store(&self.tail, tail + count)
        if size > m3_load_relaxed(&self.high_water):
            m3_store(&self.high_water, size)
        m3_unlock(&self.tail_mutex)
        m3_fence()
        if m3_load(&self.getters.wanted) <= size:
            self.getters.unpark(size)
        return count

    cdef size_t take_some(
        self, PyObject** items, PyObject** tokens, size_t most, size_t* position
    ) noexcept:
        """Take up to *most* items at once, the first of which is number *position*."""
        cdef size_t head, count, index
        cdef Slot* slot
        m3_lock(&self.head_mutex)
        head = m3_load_relaxed(&self.head)
        count = min(most, m3_load(&self.tail) - head)
        for index in range(count):
            slot = &self.slots[(head + index) & self.mask]
            items[index] = slot.item
            tokens[index] = slot.token
        position[0] = head
        m3_store(&self.head, head + count)
        m3_unlock(&self.head_mutex)
        m3_fence()
        if m3_load(&self.putters.waiting):
            offer_room(self)
        return count

    cdef list take(self, size_t most):
        """Take what is there, up to *most* items."""
        cdef PyObject* tokens[STRIDE]
        cdef size_t position, count, index
        cdef size_t taken = 0
        cdef size_t space = min(most, count_items(self))
        # All the memory first: once an item is out of the queue nothing may fail.
        cdef list items = PyList_New(space)
        while taken < space:
            count = self.take_some(
                PySequence_Fast_ITEMS(items) + taken, tokens, min(space - taken, STRIDE), &position)
            if count == 0:
                break
            taken += count
            for index in range(count):
                Py_XDECREF(tokens[index])
        Py_SET_SIZE(items, taken)
        return items

    cdef list discard(self):
        """Empty the closed queue, mark its items done, return (item, token) pairs."""
        cdef list pairs = []
        cdef PyObject* item
        cdef PyObject* token
        cdef size_t position
        while try_get(self, &item, &token, &position) == DONE:
            value = m3_own(item)
            pairs.append((value, m3_own(token) if token != NULL else None))
        self.count_discarded(len(pairs))
        return pairs

    cdef int empty_out(self) except -1:
        self.count_discarded(clear_ring(self))
        return 0

    cdef void count_discarded(self, size_t count) noexcept:
        m3_lock(&self.count_mutex)
        self.discarded += count
        count += m3_load(&self.tasks_done)
        m3_store(&self.tasks_done, min(count, m3_load(&self.tail)))
        m3_unlock(&self.count_mutex)
        self.joiners.unpark_all()

    cdef size_t full_capacity(self) noexcept:
        """Return the size of the ring if it is full and short of the bound, else 0."""
        cdef size_t size, capacity
        m3_lock(&self.tail_mutex)
        capacity = self.mask + 1
        size = m3_load_relaxed(&self.tail) - m3_load(&self.head)
        m3_unlock(&self.tail_mutex)
        return capacity if size == capacity and capacity < m3_load(&self.limit) else 0

    cdef bint grow(self) except -1:
        """Double the ring if it is full and short of the bound; return whether it was."""
        cdef size_t capacity = self.full_capacity()
        cdef Slot* slots
        if capacity == 0:
            return False
        slots = new_slots(2 * capacity)
        m3_lock(&self.tail_mutex)
        m3_lock(&self.head_mutex)
        if self.mask + 1 == capacity:
            slots = self.move_ring(slots)
        m3_unlock(&self.head_mutex)
        m3_unlock(&self.tail_mutex)
        PyMem_RawFree(slots)
        return True

    cdef Slot* move_ring(self, Slot* slots) noexcept:
        """Move what is there to *slots*, twice the room, and return the old ones."""
        cdef Slot* old_slots = self.slots
        cdef size_t old_mask = self.mask
        cdef size_t index = m3_load(&self.head)
        self.slots = slots
        self.mask = 2 * old_mask + 1
        while index != m3_load(&self.tail):
            slots[index & self.mask] = old_slots[index & old_mask]
            index += 1
        return old_slots


cdef Slot* new_slots(size_t capacity) except NULL:
    cdef Slot* slots = <Slot*> PyMem_RawMalloc(capacity * sizeof(Slot))
    if slots == NULL:
        raise MemoryError(f"no memory for a queue of {capacity} items")
    return slots


cdef size_t clear_ring(BoundedQueue queue) noexcept:
    """Free what is in the ring, one by one, for that may run any code; return how many."""
    cdef PyObject* item
    cdef PyObject* token
    cdef size_t position
    cdef size_t count = 0
    while try_get(queue, &item, &token, &position) == DONE:
        Py_DECREF(<object> item)
        Py_XDECREF(token)
        count += 1
    return count


# -- garbage collection: Cython knows attributes, but not what is in the ring --

cdef int traverse_ring(BoundedQueue queue, visitproc visit, void* arg) noexcept:
    cdef size_t index = queue.head
    cdef Slot* slot
    cdef int result = traverse_attributes(<PyObject*> queue, visit, arg)
    while result == 0 and index != queue.tail:
        slot = &queue.slots[index & queue.mask]
        result = visit(slot.item, arg)
        if result == 0 and slot.token != NULL:
            result = visit(slot.token, arg)
        index += 1
    return result


cdef int clear_garbage(BoundedQueue queue) noexcept:
    clear_ring(queue)
    return 0


cdef traverseproc traverse_attributes = (<PyTypeObject*> BoundedQueue).tp_traverse
(<PyTypeObject*> BoundedQueue).tp_traverse = <traverseproc> traverse_ring
(<PyTypeObject*> BoundedQueue).tp_clear = <inquiry> clear_garbage


# -- shortcuts: the plain calls put(item) and get() come first to these, and all
# others, whatever their arguments, go on to the methods as Cython made them --

ctypedef object (*Method)(BoundedQueue, PyObject* const*, Py_ssize_t, PyObject*)


cdef object put_shortcut(
    BoundedQueue queue, PyObject* const* args, Py_ssize_t count, PyObject* names
):
    if count == 1 and names == NULL and try_put(queue, args[0], NULL) == DONE:
        return None
    return full_put(queue, args, count, names)


cdef object get_shortcut(
    BoundedQueue queue, PyObject* const* args, Py_ssize_t count, PyObject* names
):
    cdef PyObject* item
    cdef PyObject* token
    cdef size_t position
    if count == 0 and names == NULL and try_get(queue, &item, &token, &position) == DONE:
        Py_XDECREF(token)
        return m3_own(item)
    return full_get(queue, args, count, names)


cdef Method put_first(Method shortcut, object method):
    cdef PyMethodDef* definition = (<PyMethodDescrObject*> method).d_method
    cdef Method full = <Method> definition.ml_meth
    definition.ml_meth = <PyCFunction> shortcut
    return full


cdef Method full_put = put_first(put_shortcut, BoundedQueue.put)
cdef Method full_get = put_first(get_shortcut, BoundedQueue.get)
