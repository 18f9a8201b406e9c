# cython: language_level=3, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
Threads that do their last act, whatever strikes them.

Another thread may have an exception raised in one of m3's
(``PyThreadState_SetAsyncExc``), at its next bytecode: between any two steps of
code in Python, in a ``finally`` as well.  What is compiled has no bytecode.  So
the frame from which a thread's Python code is called is here, where nothing
comes between the end of what may be cut short and the beginning of what must
be done.
"""

import threading

from m3._parking cimport Switch

from m3.errors import ShutDown

# More strikes than that are no accident: the last of them comes out.
cdef enum:
    MOST_STRIKES = 16


def carry_out(body, last):
    """
    Call *body*, and then *last* with what it has raised, or None.

    If *last* raises it was cut short and is called again, with the first of
    all the exceptions: so it must do no harm to call it twice.
    """
    error = None
    try:
        body()
    except BaseException as raised:
        error = raised
    finish(last, error)


cdef int finish(object last, object error) except -1:
    cdef int strikes = 0
    while True:
        try:
            last(error)
            return 0
        except BaseException as raised:
            strikes += 1
            if strikes == MOST_STRIKES:
                raise
            error = raised if error is None else error


cdef class Started(Switch):
    """What a thread turns on when it has started: an event that no strike can leave locked."""

    def set(self):
        self.turn_on()

    def is_set(self):
        return self.is_on()

    def _at_fork_reinit(self):
        """Nobody waits for it in the child of a fork."""


class Thread(threading.Thread):
    """A daemon thread that carries out *body* and *last*; see :func:`carry_out`."""

    def __init__(self, name, body, last):
        super().__init__(name=name, daemon=True)
        self._started = Started()
        self._acts = (body, last)

    def run(self):
        """Be the thread."""
        acts, self._acts = self._acts, None
        if acts is not None:
            carry_out(*acts)

    def join(self, timeout=None):
        """Wait for its end."""
        try:
            super().join(timeout)
        except AssertionError:
            pass  # before CPython 3.13, one that was struck before it could be joined

    def _bootstrap(self):
        # Below all of the thread's Python code.  A thread that is struck before
        # it says that it has started would be waited for in start(), for ever;
        # one that is struck as it ends would stay among those that are alive.
        try:
            super()._bootstrap()
        except BaseException as error:
            self._started.set()
            threading._limbo.pop(self, None)
            threading._active.pop(threading.get_ident(), None)
            if self._acts is None:
                raise
            finish(self._acts[1], error.__context__ or error)  # KeyError of its removal


cdef class Held:
    """
    Holds *lock* for a ``with`` block, if it can be had within so many *seconds*.

    ``as`` gives whether it can.  No strike leaves the lock held.
    """

    cdef object lock
    cdef double seconds
    cdef bint is_held

    def __init__(self, lock, double seconds):
        self.lock = lock
        self.seconds = seconds

    def __enter__(self):
        self.is_held = self.lock.acquire(True, min(self.seconds, threading.TIMEOUT_MAX))
        return self.is_held

    def __exit__(self, *_):
        if self.is_held:
            self.lock.release()


cdef class Among:
    """Has *who* in the list *those* for a ``with`` block; no strike leaves it there."""

    cdef list those
    cdef object who

    def __init__(self, list those, who):
        self.those = those
        self.who = who

    def __enter__(self):
        self.those.append(self.who)

    def __exit__(self, *_):
        self.those.remove(self.who)


def make_calls(calls, done):
    """
    Make the calls that come, one after the other, until the queue is shut down.

    Args:
        calls: a queue of (function, arguments, ticket).
        done: called after each with its ticket and what the function has raised, or None.
    """
    while True:
        try:
            function, arguments, ticket = calls.get()
        except ShutDown:
            return
        error = None
        try:
            function(*arguments)
        except BaseException as raised:
            error = raised
        done(ticket, error)
        function = arguments = ticket = error = None
