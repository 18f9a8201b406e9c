# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
What all queues of m3 have in common: a bound, waiting, an end, statistics.

What may not happen under one of the mutexes (they do not exist with the GIL,
where the same rule makes the code between them exclusive): no Python code, so
no decref either, no allocation, and nothing that can raise.
"""

cimport cython
from libc.math cimport INFINITY

from m3._parking cimport Waiter, offer
from m3._sync cimport m3_fence, m3_lock, m3_mutex_init, m3_size, m3_store, m3_unlock

from time import monotonic
from typing import NamedTuple

from m3.errors import ShutDown


# Less than NOBODY of the parking lots, even as room of an empty queue.
cdef size_t UNBOUNDED = (<size_t> -1) // 2

# How long a patient producer waits for half of the queue to drain before it
# asks for the next free slot; see `wait_to_put`.
cdef double PATIENCE = 0.002

# How many items have to come in a nap to make it worth while; see `nap`.
cdef size_t WORTH_A_NAP = 4

# After a nap that was not, so many waits are prompt; then twice as many after
# the next such nap, up to the second figure.
cdef size_t LEAST_CAUTION = 16
cdef size_t MOST_CAUTION = 1024


class QueueStatistics(NamedTuple):
    """
    What a queue has done so far; times are in seconds.

    Attributes:
        size: items in the queue now.
        maxsize: the bound, 0 for none.
        puts: items ever put.
        gets: items ever taken, without those that an immediate shutdown discarded.
        put_wait: time that producers were blocked on a full queue, summed over threads.
        get_wait: time that consumers were blocked on an empty queue, summed over threads.
        high_water: the most items that ever were in the queue at once.
        putters: threads blocked in a put now.
        getters: threads blocked in a get now.
    """

    size: int
    maxsize: int
    puts: int
    gets: int
    put_wait: float
    get_wait: float
    high_water: int
    putters: int
    getters: int


# Not cleared by the garbage collector, or a producer in a cycle could no
# longer tell its queue that it is gone.
@cython.no_gc_clear
cdef class Producer:
    """
    A promise that more may come; made by ``queue.producer()``.

    It counts from the moment it is made, not only inside its ``with`` block,
    so make all producers before you start the first.  One that is garbage
    collected is closed.
    """

    cdef Edge edge
    cdef bint is_open

    def __cinit__(self, Edge queue not None):
        self.edge = queue
        m3_lock(&queue.count_mutex)
        self.is_open = m3_load(&queue.closed) == 0
        queue.producers += self.is_open
        m3_unlock(&queue.count_mutex)
        if not self.is_open:
            raise ShutDown("the queue is shut down: it takes no further producer")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.end()

    def __dealloc__(self):
        if self.edge is not None:
            self.end()

    cdef void end(self) noexcept:
        m3_lock(&self.edge.count_mutex)
        if self.is_open:
            self.is_open = False
            self.edge.producers -= 1
            # Under the mutex, so that no producer is made in between.
            if self.edge.producers == 0:
                self.edge.close()
        m3_unlock(&self.edge.count_mutex)

    def close(self):
        """Say that nothing more comes from here; a second call does nothing."""
        self.end()


@cython.no_gc_clear
cdef class Edge:
    """The base of m3's queues; of no use by itself."""

    def __cinit__(self, *args, **kwargs):
        self.limit = UNBOUNDED
        self.prompt = self.caution = LEAST_CAUTION
        self.getters = ParkingLot()
        self.putters = ParkingLot()
        m3_mutex_init(&self.tail_mutex)
        m3_mutex_init(&self.head_mutex)
        m3_mutex_init(&self.count_mutex)

    @property
    def is_shutdown(self):
        """Whether puts raise :exc:`ShutDown`, and gets too once it is empty."""
        return m3_load(&self.closed) != 0

    # -- sizes, none of which is more than a hint when threads are at work --

    def qsize(self):
        """Return the number of items; another thread may change it at once."""
        return count_items(self)

    def empty(self):
        """Return whether there is no item; another thread may change it at once."""
        return count_items(self) == 0

    def full(self):
        """Return whether there is no room; another thread may change it at once."""
        return count_room(self) == 0

    def __len__(self):
        return count_items(self)

    def __bool__(self):
        return True

    def statistics(self):
        """Return a :class:`QueueStatistics` of this moment."""
        cdef size_t limit = m3_load(&self.limit)
        cdef size_t gets, discarded
        cdef double put_wait, get_wait
        m3_lock(&self.count_mutex)
        discarded = self.discarded
        gets = m3_load(&self.head) - discarded
        put_wait = self.put_wait
        get_wait = self.get_wait
        m3_unlock(&self.count_mutex)
        return QueueStatistics(
            size=count_items(self),
            maxsize=0 if limit == UNBOUNDED else limit,
            puts=m3_load(&self.tail),
            gets=gets,
            put_wait=put_wait,
            get_wait=get_wait,
            high_water=m3_load(&self.high_water),
            putters=m3_load(&self.putters.waiting),
            getters=m3_load(&self.getters.waiting),
        )

    # -- the end ----------------------------------------------------------

    def producer(self):
        """
        Return a :class:`Producer`: ``with queue.producer(): ...``.

        When the last one is closed, the queue is shut down: consumers take
        what is left and then see :exc:`ShutDown`.

        Raises:
            ShutDown: the queue is shut down already.
        """
        return Producer(self)

    def shutdown(self, immediate=False):
        """
        Make puts raise :exc:`ShutDown` from now on, and gets once it is empty.

        Args:
            immediate: discard what is in the queue, marking it done.

        Everybody blocked in put and get wakes; those in ``join`` do if nothing
        is left to do.
        """
        self.close()
        if immediate:
            self.empty_out()

    cdef void close(self) noexcept:
        m3_lock(&self.tail_mutex)
        m3_store(&self.closed, 1)
        m3_unlock(&self.tail_mutex)
        m3_fence()
        self.getters.unpark_all()
        self.putters.unpark_all()

    cdef int empty_out(self) except -1:
        """Discard what is in the closed queue."""
        raise NotImplementedError

    # -- waiting ----------------------------------------------------------

    cdef Outcome wait_to_put(self, double deadline) except *:
        """
        Return DONE when it is worth trying, CLOSED, or BLOCKED at *deadline*.

        After DONE, try at once: the thread may have been woken for the room.

        A patient producer, as the engine's are, first waits for half of the
        queue to drain, but not for longer than PATIENCE: with a consumer that
        takes one item at a time it would otherwise wake for each slot.
        """
        cdef size_t half = m3_load(&self.limit) // 2
        cdef double end_of_patience
        cdef bint is_drained
        if m3_load(&self.closed):
            return CLOSED
        if count_room(self):
            return DONE
        if deadline == 0:
            return BLOCKED
        if self.patient and half > 1:
            end_of_patience = <double> monotonic() + PATIENCE
            if end_of_patience < deadline:
                is_drained = self.await_room(half, end_of_patience)
                self.adapt(is_drained)
                if is_drained:
                    return DONE
        return DONE if self.await_room(1, deadline) else BLOCKED

    cdef void adapt(self, bint is_drained) noexcept:
        """
        Double the bound of an elastic queue, or take it back to where it began.

        With items so cheap that half of the queue *is_drained* before the
        patience ends, waking each other costs the threads more than the items.
        """
        if self.stretch == 0:
            return
        if is_drained:
            m3_store(&self.limit, min(2 * m3_load(&self.limit), self.stretch))
        else:
            m3_store(&self.limit, self.ordinary)

    cdef Outcome wait_to_get(self, double deadline, m3_size* asked) except *:
        """
        Return DONE when it is worth trying, CLOSED at the end, or BLOCKED at *deadline*.

        After DONE, try at once: the thread may have been woken for the item.
        DONE, too, when *asked*, if it is not NULL, is not 0: whoever sets it
        unparks all getters afterwards.
        """
        if self.naps > 0 and count_items(self) == 0 and self.nap(deadline, asked):
            return DONE
        return self.wait_for(1, deadline, asked)

    cdef bint nap(self, double deadline, m3_size* asked) except *:
        """
        Let some items come before waking for them; true if any did.

        A consumer that is faster than its producers would be woken for each
        item, and being woken costs the whole machine more than a cheap item
        does.  Where enough of them come within a nap, it takes them together;
        where they do not, it soon waits for single items only.
        """
        cdef double end_of_nap
        cdef size_t half = m3_load(&self.limit) // 2
        if self.prompt > 0:
            self.prompt -= 1
            return False
        end_of_nap = <double> monotonic() + self.naps
        if end_of_nap >= deadline or half < WORTH_A_NAP:
            return False
        self.await_items(half, end_of_nap, asked)
        if is_asked(asked):
            return True
        if count_items(self) >= WORTH_A_NAP:
            self.caution = LEAST_CAUTION
        else:
            self.caution = min(2 * self.caution, MOST_CAUTION)
            self.prompt = self.caution
        return count_items(self) > 0

    cdef Outcome wait_for(self, size_t need, double deadline, m3_size* asked) except *:
        """Like `wait_to_get`, for *need* items; CLOSED when that many will never be there."""
        cdef bint closed = m3_load(&self.closed) != 0
        if count_items(self) >= need:
            return DONE
        if closed:
            return CLOSED
        if deadline == 0:
            return BLOCKED
        return DONE if self.await_items(need, deadline, asked) else BLOCKED

    cdef bint await_room(self, size_t need, double deadline) except *:
        """Sleep until *need* items have room or the queue is closed; false at *deadline*."""
        cdef Waiter waiter
        cdef size_t room
        cdef bint goes_on = False
        cdef double began = monotonic()
        self.putters.enlist(&waiter, need)
        try:
            if count_room(self) >= need or m3_load(&self.closed):
                self.putters.delist(&waiter)
                goes_on = True
            else:
                goes_on = self.putters.park(&waiter, deadline)
        finally:
            self.add_wait(&self.put_wait, began)
            room = count_room(self)
            offer(self.putters, room - min(room, <size_t> goes_on))
        return goes_on

    cdef bint await_items(self, size_t need, double deadline, m3_size* asked) except *:
        """Sleep until there are *need* items, it is closed or *asked*; false at *deadline*."""
        cdef Waiter waiter
        cdef size_t size
        cdef bint goes_on = False
        cdef bint goes_on_to_take
        cdef double began = monotonic()
        self.getters.enlist(&waiter, need)
        try:
            if count_items(self) >= need or m3_load(&self.closed) or is_asked(asked):
                self.getters.delist(&waiter)
                goes_on = True
            else:
                goes_on = self.getters.park(&waiter, deadline)
        finally:
            self.add_wait(&self.get_wait, began)
            size = count_items(self)
            goes_on_to_take = goes_on and not is_asked(asked)
            offer(self.getters, size - min(size, need if goes_on_to_take else 0))
        return goes_on

    cdef void add_wait(self, double* total, double began) noexcept:
        cdef double waited = <double> monotonic() - began
        m3_lock(&self.count_mutex)
        total[0] += waited
        m3_unlock(&self.count_mutex)


cdef inline bint is_asked(m3_size* asked) noexcept:
    """Tell whether a thread that waits is wanted for something else."""
    return asked != NULL and m3_load(asked) != 0


cdef object outcome_error(Outcome outcome, object otherwise):
    """Return what to raise for *outcome*: ShutDown if CLOSED, else *otherwise*."""
    return ShutDown if outcome == CLOSED else otherwise


cdef double deadline_of(object block, object timeout) except? -1:
    """Return until when to wait, in monotonic seconds: 0 is not at all."""
    if not block:
        return 0
    if timeout is None:
        return INFINITY
    if not timeout >= 0:
        raise ValueError("'timeout' must be a non-negative number")
    return 0 if timeout == 0 else <double> monotonic() + <double> timeout
