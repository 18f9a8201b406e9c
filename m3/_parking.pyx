# cython: language_level=3, freethreading_compatible=True
# cython: auto_pickle=False, autotestdict=False, binding=False, embedsignature=True
# cython: embedsignature.format=clinic
"""
Where threads wait: a first-in, first-out list of parked threads.

The pattern of every wait in m3, which loses no wake-up and polls nothing:

1. ``enlist`` yourself, with how many units you need of what is waited for;
2. look again whether there still is a reason to wait;
3. ``park`` (the GIL is released), or ``delist`` when there is none.

Whoever changes what others wait for does so first and calls ``offer`` (or
``unpark_all``) afterwards.  Either step 2 sees the change or the offer sees
the waiter: a full memory fence stands between the two on both sides.

What a thread needs that was unparked is *promised* until it is off the list,
so that nobody else is woken for the same units.  Hence the duty of whoever
leaves the list, woken, late or by an exception: to ``offer`` what it does not
take to the next.
"""

from os import register_at_fork
from threading import main_thread
from time import monotonic

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY

from m3._sync cimport m3_add, m3_fence, m3_load, m3_lock, m3_mutex_init, m3_store, m3_unlock


cdef extern from "pythread.h":
    ctypedef enum PyLockStatus:
        PY_LOCK_FAILURE
        PY_LOCK_ACQUIRED
        PY_LOCK_INTR
    PyThread_type_lock PyThread_allocate_lock()
    unsigned long PyThread_get_thread_ident()
    void PyThread_free_lock(PyThread_type_lock lock)
    void PyThread_release_lock(PyThread_type_lock lock) nogil
    PyLockStatus PyThread_acquire_lock_timed(
        PyThread_type_lock lock, long long microseconds, int interruptible) nogil


# What `wanted` is while nobody is parked; more than any offer.
cdef size_t NOBODY = <size_t> -1

# sem_timedwait and its kin overflow on absurd times; a day is long enough to
# look at the clock again.
cdef double LONGEST_WAIT = 86400.0


# A signal that comes after a thread has let go of the GIL and before it sleeps
# does not end the sleep, and its Python handler would wait for the next event.
# So the main thread, where handlers run, looks once more after 10 ms of sleep,
# after twice that, and so on: a dozen times in a minute, a dozen more in days.
cdef double FIRST_LOOK = 0.01
cdef double next_look = FIRST_LOOK  # the main thread's alone


cdef unsigned long main_ident = 0


def note_main_thread():
    """Note which thread is the main one; after a fork it is the one that forked."""
    global main_ident
    main_ident = main_thread().ident


note_main_thread()
register_at_fork(after_in_child=note_main_thread)


cdef class ParkingLot:
    """A list of parked threads; for the compiled modules of m3 alone."""

    def __cinit__(self):
        m3_mutex_init(&self.mutex)
        self.wanted = NOBODY

    cdef int enlist(self, Waiter* waiter, size_t need) except -1:
        """Append *waiter*, who wants *need* units of whatever is waited for."""
        waiter.lock = PyThread_allocate_lock()
        if waiter.lock == NULL:
            raise MemoryError("no memory for a lock to wait on")
        PyThread_acquire_lock_timed(waiter.lock, 0, 0)
        waiter.need = need
        waiter.next = NULL
        waiter.parked = True
        m3_lock(&self.mutex)
        waiter.previous = self.last
        if self.last == NULL:
            self.first = waiter
        else:
            self.last.next = waiter
        self.last = waiter
        m3_add(&self.waiting, 1)
        self.aim()
        m3_unlock(&self.mutex)
        m3_fence()
        return 0

    cdef void remove(self, Waiter* waiter) noexcept:
        """Unlink *waiter*; the caller holds the mutex and takes aim afterwards."""
        if waiter.previous == NULL:
            self.first = waiter.next
        else:
            waiter.previous.next = waiter.next
        if waiter.next == NULL:
            self.last = waiter.previous
        else:
            waiter.next.previous = waiter.previous
        waiter.parked = False
        m3_add(&self.waiting, <size_t> -1)

    cdef void aim(self) noexcept:
        """Note what it takes to unpark somebody; the caller holds the mutex."""
        if self.first == NULL:
            m3_store(&self.wanted, NOBODY)
        else:
            m3_store(&self.wanted, self.first.need + self.promised)

    cdef void release(self, Waiter* waiter) noexcept:
        """Wake *waiter*; the caller holds the mutex, for the lock is freed right after."""
        self.remove(waiter)
        self.promised += waiter.need
        self.aim()
        PyThread_release_lock(waiter.lock)

    cdef bint delist(self, Waiter* waiter) noexcept:
        """Take *waiter* off the list; false if somebody had unparked it."""
        cdef bint was_parked
        m3_lock(&self.mutex)
        was_parked = waiter.parked
        if was_parked:
            self.remove(waiter)
        else:
            self.promised -= waiter.need
        self.aim()
        m3_unlock(&self.mutex)
        m3_fence()
        PyThread_free_lock(waiter.lock)
        return was_parked

    cdef int park(self, Waiter* waiter, double deadline) except -1:
        """
        Sleep until unparked (1) or *deadline*, in monotonic seconds (0), and delist.

        A signal ends the sleep, too.  In the main thread its Python handler
        runs here, with the thread off the list; what it raises comes out, and
        if it raises nothing the result is 1: look again.
        """
        global next_look
        cdef PyLockStatus status = PY_LOCK_FAILURE
        cdef long long microseconds = -1
        cdef double seconds, pause
        cdef double until = deadline
        # In C throughout: code in Python would run signal handlers, and what
        # they raise would leave the waiter on the list.
        cdef bint handles_signals = PyThread_get_thread_ident() == main_ident
        if handles_signals:
            until = min(deadline, <double> monotonic() + next_look)
        while status == PY_LOCK_FAILURE:
            if until != INFINITY:
                seconds = until - <double> monotonic()
                if seconds <= 0 and until == deadline:
                    return not self.delist(waiter)
                if seconds <= 0:
                    pause, next_look = next_look, FIRST_LOOK
                    self.delist(waiter)
                    PyErr_CheckSignals()
                    next_look = 2 * pause  # it has raised nothing
                    return 1
                microseconds = <long long> (min(seconds, LONGEST_WAIT) * 1e6) + 1
            with nogil:
                status = PyThread_acquire_lock_timed(waiter.lock, microseconds, 1)
        self.delist(waiter)
        if handles_signals:
            next_look = FIRST_LOOK
        if status == PY_LOCK_INTR:
            PyErr_CheckSignals()
        return 1

    cdef void unpark(self, size_t available) noexcept:
        """
        Wake those whose need *available* units cover, first come first served.

        A waiter that needs more stays, and so do those behind it.
        """
        m3_lock(&self.mutex)
        while self.first != NULL and m3_load(&self.wanted) <= available:
            self.release(self.first)
        m3_unlock(&self.mutex)

    cdef void unpark_all(self) noexcept:
        """Wake everybody, whatever they need."""
        m3_lock(&self.mutex)
        while self.first != NULL:
            self.release(self.first)
        m3_unlock(&self.mutex)


cdef class Switch:
    """
    An event that may be turned on anywhere, a signal handler included.

    (:class:`threading.Event` takes a lock that the interrupted thread may
    hold.)  It stays on.
    """

    def __cinit__(self):
        self.lot = ParkingLot()

    def turn_on(self):
        """Turn it on and wake everybody in :meth:`wait`."""
        m3_store(&self.state, 1)
        m3_fence()
        self.lot.unpark_all()

    def is_on(self):
        """Return whether it was turned on."""
        return m3_load(&self.state) != 0

    def wait(self, timeout=None):
        """
        Wait until it is on, at most *timeout* seconds; return whether it is.

        In the main thread, what a signal handler raises comes out.
        """
        cdef Waiter waiter
        cdef double deadline = INFINITY
        if timeout is not None:
            deadline = <double> monotonic() + <double> timeout
        while not m3_load(&self.state):
            self.lot.enlist(&waiter, 0)
            if m3_load(&self.state):
                self.lot.delist(&waiter)
            elif not self.lot.park(&waiter, deadline):
                break
        return m3_load(&self.state) != 0


cdef class Bell(Switch):
    """An event that one thread waits for, again and again."""

    def ring(self):
        """Wake who waits, or who waits next."""
        self.turn_on()

    def wait(self, timeout=None):
        """Wait until it was rung since the last wait, as :meth:`Switch.wait` does."""
        cdef bint was_rung = Switch.wait(self, timeout)
        m3_store(&self.state, 0)
        m3_fence()
        return was_rung


cdef class Gate:
    """
    Where the frontends of a run wait while it is closed; open at first.

    Who passes it says before that there is one more item in flight, and looks
    at the gate afterwards; who closes it looks at what is in flight afterwards.
    So one of the two sees what the other did, see :func:`m3._loops.pump`.
    """

    def __cinit__(self):
        self.lot = ParkingLot()

    def close(self):
        """Let nobody pass from now on."""
        m3_store(&self.closed, 1)
        m3_fence()

    def open(self):
        """Let everybody pass."""
        m3_store(&self.closed, 0)
        m3_fence()
        self.lot.unpark_all()

    def is_closed(self):
        """Return whether nobody can pass."""
        return m3_load(&self.closed) != 0

    cdef int await_opening(self) except -1:
        """Wait until it is open, or was for a moment."""
        cdef Waiter waiter
        self.lot.enlist(&waiter, 0)
        if m3_load(&self.closed):
            self.lot.park(&waiter, INFINITY)
        else:
            self.lot.delist(&waiter)
        return 0
