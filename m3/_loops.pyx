# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
What a worker does between two blocking points.

A worker thread takes items from its input (:func:`pump` from an iterator,
:func:`serve` from a queue) and pushes each through its chain of steps.  One
item at a time: none is taken before it can be handled, and none is held back
after.
"""

from time import monotonic

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.math cimport INFINITY

from m3._order cimport Collect, Sequencer
from m3._parking cimport Switch
from m3._queue cimport BLOCKED, CLOSED, DONE, BoundedQueue, Outcome, try_get
from m3._steps cimport Step, iternextfunc, next_function, raised, stopped_iterating
from m3._sync cimport m3_is_wanted, m3_load, m3_own
from m3._tokens cimport ABANDONED, DELIVERED, FAILED, Ledger, Tally, Token, settle

from m3._steps import FATAL as _FATAL, Aborted
from m3._types import Failure as _Failure, Item as _Item
from m3.errors import ShutDown


cdef extern from "Python.h":
    PyObject* Py_TYPE(object)


cdef int FATAL = _FATAL
cdef object Failure = _Failure
cdef object Item = _Item

# After so many items a loop offers the GIL, in case that all the stages are
# written in C and nothing else does.
cdef enum:
    COURTESY = 4096

# A function in bytecode, for the interpreter to do what is pending in it.
cdef object do_pending = eval("lambda: None")


def pump(
    iterator, Step first, Tally tally, policy, Switch stopping, bint tracking,
    Ledger ledger=None,
):
    """
    Push all that *iterator* yields through *first*, until *stopping* is on.

    Blocks where the iterator and the steps do.  Raises what the iterator
    raises, and :exc:`Aborted`.

    Args:
        policy: asked what to do about a :class:`~m3.stages.Failure`.
        tracking: make a token for every item.
        ledger: keeps the items with a position, for the frontend to be told
            what became of them; it may make the frontend wait.
    """
    cdef PyObject* result
    cdef Token token = None
    cdef unsigned int count = 0
    cdef iternextfunc next_of = next_function(iterator)
    while not m3_load(&stopping.state):
        if ledger is not None and not ledger.await_turn(stopping):
            break
        result = next_of(<PyObject*> iterator)
        if result == NULL:
            if not stopped_iterating():
                raise raised()
            break
        value = m3_own(result)
        tally.produced += 1
        if Py_TYPE(value) == <PyObject*> Item:
            token = Token(value.position) if ledger is None else ledger.begin(value.position)
            value = value.value
        elif Py_TYPE(value) == <PyObject*> Failure:
            refuse(value, tally, policy, ledger)
            continue
        else:
            token = Token() if tracking else None
        first.push(value, token)
        value = None
        if m3_is_wanted():
            do_pending()
        count += 1
        if count % COURTESY == 0:
            with nogil:
                pass


cdef int refuse(object failure, Tally tally, object policy, Ledger ledger) except -1:
    """Settle an item that its frontend could not read."""
    cdef int outcome = policy(failure.error, failure.value, failure.position, 1)
    cdef Token token = None
    if ledger is not None and failure.position is not None:
        token = ledger.begin(failure.position)
        token.blame(failure.error)
    tally.refused += 1
    settle(token, FAILED if outcome == FATAL else outcome, tally)
    if outcome == FATAL:
        raise Aborted
    return 0


cdef bint await_input(BoundedQueue inbox, Step first, Tally tally) except -1:
    """Wait for an item; false at the end of the input."""
    cdef Outcome outcome
    cdef double until, began
    while True:
        until = first.idle()
        began = monotonic()
        try:
            outcome = inbox.wait_to_get(until)
        finally:
            tally.wait_in += <double> monotonic() - began
        if outcome != BLOCKED:
            return outcome == DONE


def serve(BoundedQueue inbox, Step first, Tally tally, Switch aborting):
    """Push all items of *inbox* through *first*, until its end; raises :exc:`Aborted`."""
    cdef PyObject* item
    cdef PyObject* mark
    cdef size_t position
    cdef unsigned int count = 0
    cdef Token token = None
    while not m3_load(&aborting.state):
        if try_get(inbox, &item, &mark, &position) != DONE:
            if not await_input(inbox, first, tally):
                break
            continue
        value = m3_own(item)
        if mark != NULL:
            token = <Token> mark
            Py_DECREF(token)
        first.push(value, token)
        value = None
        token = None
        if m3_is_wanted():
            do_pending()
        count += 1
        if count % COURTESY == 0:
            with nogil:
                pass


def serve_ordered(
    BoundedQueue inbox, Step first, Tally tally, Switch aborting,
    Sequencer sequencer, Collect collected, Step after,
):
    """Like :func:`serve`, for a stage that keeps the order of its input."""
    cdef PyObject* item
    cdef PyObject* mark
    cdef size_t position
    cdef Token token = None
    while not m3_load(&aborting.state):
        if try_get(inbox, &item, &mark, &position) != DONE:
            if not await_input(inbox, first, tally):
                break
            continue
        value = m3_own(item)
        if mark != NULL:
            token = <Token> mark
            Py_DECREF(token)
        if not sequencer.await_window(position):
            settle(token, ABANDONED, tally)
            raise Aborted
        first.push(value, token)
        value = None
        token = None
        sequencer.complete(position, collected.take(), after)
        if m3_is_wanted():
            do_pending()


def take(BoundedQueue inbox):
    """
    Wait for an item; return it with its token and its position in the queue.

    Raises:
        ShutDown: at the end of the input.
    """
    cdef PyObject* item
    cdef PyObject* mark
    cdef size_t position
    while try_get(inbox, &item, &mark, &position) != DONE:
        if inbox.wait_to_get(INFINITY) == CLOSED:
            raise ShutDown
    value = m3_own(item)
    token = None
    if mark != NULL:
        token = m3_own(mark)
    return value, token, position


def deliver(Token token, Tally tally):
    """Settle an item that the caller of ``results()`` took."""
    settle(token, DELIVERED, tally)


def end(Step first, bint aborted):
    """Close the chain: hand everything on, or settle it as abandoned."""
    if aborted:
        first.abandon()
    else:
        first.finish()


def discard(BoundedQueue queue, Tally tally):
    """Close *queue*, empty it and settle what it held as abandoned."""
    queue.close()
    for _, token in queue.discard():
        settle(token, ABANDONED, tally)


def close(BoundedQueue queue):
    """Close *queue*: producers are refused, consumers take what is left."""
    queue.close()
