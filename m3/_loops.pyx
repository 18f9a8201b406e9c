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

from m3._order cimport ADMITTED, OVER, Collect, Sequencer, Turn
from m3._parking cimport PyThread_type_lock, Switch
from m3._queue cimport BLOCKED, DONE, BoundedQueue, Outcome, try_get, try_put
from m3._steps cimport Send, Step, iternextfunc, next_function, raised, stopped_iterating
from m3._sync cimport m3_fence, m3_is_wanted, m3_load, m3_own, m3_store
from m3._tokens cimport ABANDONED, DELIVERED, FAILED, Ledger, Tally, Token, settle
from m3._waiting cimport Attempt, Waiting

from m3._steps import FATAL as _FATAL, Aborted
from m3._types import Failure as _Failure, Item as _Item
from m3.errors import ShutDown, StateError, abridged


cdef extern from "Python.h":
    PyObject* Py_TYPE(object)


cdef extern from "pythread.h":
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    void PyThread_release_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) nogil


cdef int FATAL = _FATAL
cdef object Failure = _Failure
cdef object Item = _Item

# After so many items a loop offers the GIL, in case that all the stages are
# written in C and nothing else does.
cdef enum:
    COURTESY = 4096

# A function in bytecode, for the interpreter to do what is pending in it.
cdef object do_pending = eval("lambda: None")


cdef class Intake:
    """
    A way for a frontend's items beside its iterator, for other threads, while that waits.

    To have an iterator yield an item, its thread has to be woken; whoever calls :meth:`offer`
    does itself what that thread would do.

    Args:
        first: what items are pushed through; there is a way only into a queue, of no size in
            bytes.
        tally, stopping, ledger: as for :func:`pump`; the ledger keeps no mark.
    """

    cdef Send first
    cdef Tally tally
    cdef Switch stopping
    cdef Ledger ledger
    cdef PyThread_type_lock turn

    def __cinit__(self):
        self.turn = PyThread_allocate_lock()
        if self.turn == NULL:
            raise MemoryError("no memory for a lock")
        PyThread_acquire_lock(self.turn, 1)

    def __init__(self, Send first, Tally tally, Switch stopping, Ledger ledger):
        self.first = first
        self.tally = tally
        self.stopping = stopping
        self.ledger = ledger

    def __dealloc__(self):
        if self.turn != NULL:
            PyThread_free_lock(self.turn)

    def offer(self, item):
        """
        Take what the frontend would yield, if that can be done at once.

        Args:
            item: an :class:`~m3.stages.Item`.

        Returns:
            False if the frontend has to yield it: its thread does something else just now, there
            is no room, the run is to stop, or it is no Item.
        """
        cdef bint is_taken = False
        if Py_TYPE(item) != <PyObject*> Item or not PyThread_acquire_lock(self.turn, 0):
            return False
        try:
            is_taken = self.take(item)
        finally:
            PyThread_release_lock(self.turn)
        return is_taken

    cdef bint take(self, object item) except -1:
        cdef Token token
        if m3_load(&self.stopping.state) or not self.ledger.has_room():
            return False
        token = self.ledger.begin(item.position)
        self.tally.produced += 1
        value = item.value
        if try_put(self.first.queue, <PyObject*> value, <PyObject*> token) == DONE:
            return True
        if not self.ledger.withdraw(token):
            settle(token, ABANDONED, self.tally)
            return True
        self.tally.produced -= 1
        return False

    cdef void open(self) noexcept:
        """The iterator is asked for an item, and may wait for it."""
        PyThread_release_lock(self.turn)

    cdef void shut(self) noexcept:
        """It has answered."""
        if not PyThread_acquire_lock(self.turn, 0):
            with nogil:
                PyThread_acquire_lock(self.turn, 1)


def is_way_in(Step first):
    """Return whether there can be an :class:`Intake` to *first*."""
    return type(first) is Send and (<Send> first).queue.budget is None


def pump(
    iterator, Step first, Tally tally, policy, Switch stopping, bint tracking,
    Ledger ledger=None, Intake intake=None,
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
        intake: open while the iterator is waited for.
    """
    cdef PyObject* result
    cdef Token token = None
    cdef unsigned int count = 0
    cdef iternextfunc next_of = next_function(iterator)
    while not m3_load(&stopping.state):
        if ledger is not None and not ledger.await_turn(stopping):
            break
        if intake is not None:
            intake.open()
        result = next_of(<PyObject*> iterator)
        if intake is not None:
            intake.shut()
        if result == NULL:
            if not stopped_iterating():
                raise raised()
            break
        value = m3_own(result)
        if Py_TYPE(value) == <PyObject*> Failure:
            refuse(value, tally, policy, ledger)
            continue
        if ledger is not None and Py_TYPE(value) != <PyObject*> Item and ledger.needs_positions:
            raise missing_position(value)
        tally.produced += 1
        if Py_TYPE(value) == <PyObject*> Item:
            if ledger is None:
                token = Token(value.position)
            else:
                ledger.pass_gate(tally)
                token = ledger.begin(value.position)
                ledger.last = value.position
                ledger.has_begun = True
            value = value.value
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


cdef object missing_position(object value):
    return StateError(
        f"it produced an item without a position: {abridged(value)}; in a run that keeps state "
        "a frontend with resume() yields m3.Item(value, position)"
    )


cdef int refuse(object failure, Tally tally, object policy, Ledger ledger) except -1:
    """Settle an item that its frontend could not read."""
    cdef Token token = None
    tally.produced += 1
    if ledger is not None:
        ledger.pass_gate(tally)
    if ledger is not None and failure.position is not None:
        token = ledger.begin(failure.position)
        token.blame(failure.error)
        ledger.last = failure.position
        ledger.has_begun = True
    cdef int outcome
    tally.refused += 1
    try:
        outcome = policy(failure.error, failure.value, failure.position, None, 1)
    except BaseException:  # another thread has raised it in this one
        settle(token, FAILED, tally)
        raise
    settle(token, FAILED if outcome == FATAL else outcome, tally)
    if outcome == FATAL:
        raise Aborted
    return 0


cdef inline bint has_other_work(Tally tally) except -1:
    """Tell whether there is something to do between two items."""
    if m3_load(&tally.is_asked):
        return True
    return tally.due != INFINITY and tally.due <= <double> monotonic()


cdef int attend(Step first, Tally tally) except -1:
    """Do what there is to do between two items: an errand, and what is due in the steps."""
    if m3_load(&tally.is_asked):
        m3_store(&tally.is_asked, 0)
        m3_fence()
        tally.errand()
    tally.due = INFINITY
    tally.due = min(tally.due, first.attend())
    return 0


cdef bint await_input(BoundedQueue inbox, Step first, Tally tally) except -1:
    """Wait for an item, or for something else to do; false at the end of the input."""
    cdef Outcome outcome
    cdef double until, began
    while True:
        until = min(first.idle(), tally.due)
        began = monotonic()
        try:
            outcome = inbox.wait_to_get(until, &tally.is_asked)
        finally:
            tally.wait_in += <double> monotonic() - began
        if outcome != BLOCKED:
            return outcome == DONE
        if has_other_work(tally):
            return True


def serve(BoundedQueue inbox, Step first, Tally tally, Switch aborting):
    """Push all items of *inbox* through *first*, until its end; raises :exc:`Aborted`."""
    cdef PyObject* item
    cdef PyObject* mark
    cdef size_t position
    cdef unsigned int count = 0
    cdef Token token = None
    while not m3_load(&aborting.state):
        if has_other_work(tally):
            attend(first, tally)
        if try_get(inbox, &item, &mark, &position) != DONE:
            if not await_input(inbox, first, tally):
                break
            continue
        value = m3_own(item)
        if inbox.budget is not None:
            value = inbox.budget.unpack(value)
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
    cdef Attempt left = first.in_hand
    if left is not None:
        first.in_hand = None
        work_in_turn(
            left.item, left.token, left.place, first, tally, sequencer, collected, after)
    while not m3_load(&aborting.state):
        if has_other_work(tally):
            attend_ordered(first, tally, sequencer, collected, after)
        if try_get(inbox, &item, &mark, &position) != DONE:
            if not await_input(inbox, first, tally):
                break
            continue
        value = m3_own(item)
        if inbox.budget is not None:
            value = inbox.budget.unpack(value)
        if mark != NULL:
            token = <Token> mark
            Py_DECREF(token)
        work_in_turn(value, token, position, first, tally, sequencer, collected, after)
        value = None
        token = None
        if m3_is_wanted():
            do_pending()
    while first.retry_due() != INFINITY and not m3_load(&aborting.state):
        first.waiting.sleep(first.retry_due(), &tally.is_asked)
        attend_ordered(first, tally, sequencer, collected, after)


cdef int work_in_turn(
    object item, Token token, size_t position, Step first, Tally tally,
    Sequencer sequencer, Collect collected, Step after,
) except -1:
    """Work on the item at *position* as soon as that may be."""
    await_window(item, token, position, first, tally, sequencer, collected, after)
    first.place = position
    first.push(item, token)
    return hand_in(position, first, sequencer, collected, after)


cdef int await_window(
    object item, Token token, size_t position, Step first, Tally tally,
    Sequencer sequencer, Collect collected, Step after,
) except -1:
    """
    Wait until *item* may be worked on, trying again what is due before.

    The step has it in hand meanwhile, for another worker if a call is given up.
    """
    cdef Turn turn = sequencer.await_window(position, first.retry_due())
    while turn != ADMITTED:
        if turn == OVER:
            settle(token, ABANDONED, tally)
            raise Aborted
        first.in_hand = Attempt(item, token, 0, 0.0, position)
        attend_ordered(first, tally, sequencer, collected, after)
        first.in_hand = None
        turn = sequencer.await_window(position, first.retry_due())
    return 0


cdef int attend_ordered(
    Step first, Tally tally, Sequencer sequencer, Collect collected, Step after
) except -1:
    """Like :func:`attend`, for a stage that keeps the order of its input."""
    cdef Attempt attempt
    if first.waiting is not None:
        attempt = first.waiting.take_due()
        while attempt is not None:
            first.retry(attempt)
            hand_in(attempt.place, first, sequencer, collected, after)
            attempt = first.waiting.take_due()
    attend(after, tally)
    tally.due = min(tally.due, first.retry_due())
    return 0


cdef int hand_in(
    size_t position, Step first, Sequencer sequencer, Collect collected, Step after
) except -1:
    """Complete the item at *position*, unless it waits for another attempt."""
    if first.is_put_off:
        first.is_put_off = False
        return 0
    return sequencer.complete(position, collected.take(), after)


def take_over(
    Step first, error, Attempt attempt,
    Sequencer sequencer=None, Collect collected=None, Step after=None,
):
    """
    Do with the item of a call that was given up as if the call had raised *error*.

    Nothing, if the item was settled or taken over before.

    Args:
        first: the step that made the call, or rather that of its worker's successor.
        attempt: what :meth:`m3._waiting.Watch.take` has returned.
        sequencer, collected, after: as for :func:`serve_ordered`.
    """
    if not attempt.claim():
        return
    first.give_up(error, attempt)
    if sequencer is not None:
        hand_in(attempt.place, first, sequencer, collected, after)


def settle_attempt(Attempt attempt, int outcome, Tally tally):
    """Settle an item, or a batch, that nobody has taken over; once."""
    if not attempt.claim():
        return
    tokens = attempt.token if isinstance(attempt.token, list) else [attempt.token]
    for token in tokens:
        settle(token, outcome, tally)


cdef class Taker:
    """
    Iterates over what comes out of *inbox*, which is delivered when it is taken.

    All of that is compiled, so no signal handler comes between the queue and the variable of
    a loop, where what it raises would lose an item.

    Args:
        tally: several threads may count in it, if several take.
    """

    cdef BoundedQueue inbox
    cdef Tally tally

    def __init__(self, BoundedQueue inbox, Tally tally):
        self.inbox = inbox
        self.tally = tally

    def __iter__(self):
        return self

    def __next__(self):
        cdef PyObject* mark
        cdef size_t position
        cdef Token token = None
        try:
            item = self.inbox.await_item(&mark, &position)
        except ShutDown:
            self.end()
            raise StopIteration from None
        if mark != NULL:
            token = <Token> m3_own(mark)
        settle(token, DELIVERED, self.tally)
        return item

    def end(self):
        """Take note that nothing more comes; for a subclass."""


def take(BoundedQueue inbox):
    """
    Wait for an item; return it with its token and its position in the queue.

    Raises:
        ShutDown: at the end of the input.
    """
    cdef PyObject* mark
    cdef size_t position
    value = inbox.await_item(&mark, &position)
    token = None
    if mark != NULL:
        token = m3_own(mark)
    return value, token, position


def end(Step first, Tally tally, Switch aborting):
    """
    Close the chain: hand everything on, or settle it as abandoned if the run is over.

    Blocks for as long as something waits for another attempt.
    """
    cdef Waiting pause = Waiting(aborting, 0)
    while not m3_load(&aborting.state):
        first.finish()
        attend(first, tally)
        if tally.due == INFINITY:
            break
        pause.sleep(tally.due, &tally.is_asked)
    if m3_load(&aborting.state):
        first.abandon()


def abandon(Step first):
    """Settle what is in the chain as abandoned."""
    first.abandon()


def hand_over(Step first):
    """Hand over the batches that wait for more items, in all steps of the chain."""
    first.finish()


def wake(BoundedQueue inbox, Tally tally, Switch aborting):
    """Have the worker who serves *inbox* call the errand of *tally* before its next item."""
    tally.ask()
    inbox.getters.unpark_all()
    aborting.lot.unpark_all()


def discard(BoundedQueue queue, Tally tally):
    """Close *queue*, empty it and settle what it held as abandoned."""
    close(queue)
    for _, token in queue.discard():
        settle(token, ABANDONED, tally)


def close(BoundedQueue queue):
    """Close *queue*: producers are refused, consumers take what is left."""
    queue.close()
    if queue.budget is not None:
        queue.budget.wake()
