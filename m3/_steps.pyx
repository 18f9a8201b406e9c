# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
The chain of steps that a worker pushes items through.

It begins with the stage's own step, goes on with those of the stages chained
to it, and ends with one that puts items into a queue or counts them as
delivered.

An item on which a stage's code raises may be *put off*: it waits in its step
for another attempt, and the worker goes on with the next one.

The contract of a step.  Whoever calls ``push(item, token)`` hands the item
over: from then on the step sees to it that it is settled exactly once, as
delivered, dropped, failed or abandoned, also when ``push`` raises: :exc:`Aborted`,
for the run is over, or what another thread has raised in m3's own code.  In both
cases the worker ends.
"""

from time import monotonic

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF
from libc.math cimport INFINITY

from m3._budget cimport Sized, size_of
from m3._queue cimport CLOSED, DONE, BoundedQueue, Outcome, try_put
from m3._sync cimport m3_load, m3_own
from m3._tokens cimport (
    ABANDONED,
    DELIVERED,
    DROPPED,
    FAILED,
    Tally,
    Token,
    blame,
    joint_token,
    position_of,
    settle,
)
from m3._waiting cimport Attempt, Waiting

from m3._types import DROP as _DROP
from m3.errors import BatchError


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        iternextfunc tp_iternext
    ctypedef PyObject* (*vectorcallfunc)(PyObject*, PyObject**, size_t, PyObject*)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    PyTypeObject* Py_TYPE(object)
    bint PyMethod_Check(object)
    PyObject* PyMethod_GET_FUNCTION(object)
    PyObject* PyMethod_GET_SELF(object)
    vectorcallfunc PyVectorcall_Function(PyObject*)
    PyObject* PyObject_CallOneArg(object, object)
    PyObject* PyErr_Occurred()
    void PyErr_SetNone(object)
    int PyErr_ExceptionMatches(object)
    void PyErr_Clear()
    void PyErr_Fetch(PyObject** kind, PyObject** value, PyObject** traceback)
    void PyErr_NormalizeException(PyObject** kind, PyObject** value, PyObject** traceback)
    int PyException_SetTraceback(PyObject* error, PyObject* traceback)


FATAL = 5
"""Returned by a policy in place of an outcome: the item failed, and the run with it."""

cdef int FATAL_ = FATAL
cdef object DROP = _DROP


class Aborted(BaseException):
    """The run is over: a worker ends without touching another item."""


class GivenUp(Aborted):
    """The call took too long: its item is another worker's now, and this one ends."""


cdef object GivenUp_ = GivenUp


cdef class Step:
    """
    One link of the chain that a worker pushes items through.

    Args:
        tally: the worker's.
        following: where results go; None for a last step.
        policy: called with (error, item, position, positions, attempts) when
            the stage's code raised for good, where *positions* are those of a
            batch, or None; returns FAILED, DROPPED, DEAD_LETTERED, or FATAL when
            the run is over.  If it has a method ``delay``, that is called before
            with (error, attempts, since) and returns in how many seconds to try
            the item again, or None; then it has ``aborting`` and ``most_waiting``
            for :class:`~m3._waiting.Waiting`, too.
    """

    def __init__(self, Tally tally, Step following=None, policy=None):
        self.tally = tally
        self.following = following
        self.policy = policy

    cdef int push(self, object item, Token token) except -1:
        """Handle *item*; see the contract at the top of the module."""
        raise NotImplementedError

    cdef double idle(self) except? -1:
        """The input is empty: hand on what must not wait; return until when the rest may."""
        return INFINITY if self.following is None else self.following.idle()

    cdef int finish(self) except -1:
        """The input has ended: hand on everything but what waits for another attempt."""
        return 0 if self.following is None else self.following.finish()

    cdef int abandon(self) except -1:
        """The run is over: settle what is held as abandoned."""
        if self.waiting is not None:
            for attempt in self.waiting.take_all():
                settle_all((<Attempt> attempt).token, ABANDONED, self.tally)
        if self.in_hand is not None:
            settle_all(self.in_hand.token, ABANDONED, self.tally)
            self.in_hand = None
        return 0 if self.following is None else self.following.abandon()

    # -- another attempt

    cdef double attend(self) except? -1:
        """Try again what is due; return when something will be due next."""
        if self.waiting is not None:
            self.try_due()
        cdef double due = self.retry_due()
        return due if self.following is None else min(due, self.following.attend())

    cdef double retry_due(self) except? -1:
        """Return when the next attempt of this step is due."""
        return INFINITY if self.waiting is None else self.waiting.due()

    cdef int try_due(self) except -1:
        cdef Attempt attempt = self.waiting.take_due()
        while attempt is not None:
            self.retry(attempt)
            attempt = self.waiting.take_due()
        return 0

    cdef int retry(self, Attempt attempt) except -1:
        """Make another attempt."""
        self.retries += 1
        self.attempt = attempt
        self.place = attempt.place
        try:
            return self.again(attempt)
        finally:
            self.attempt = None

    cdef int again(self, Attempt attempt) except -1:
        """Push the item again, which was counted when it came in."""
        self.items_in -= 1
        return self.push(attempt.item, <Token> attempt.token)

    cdef Attempt next_attempt(self, object item, object token):
        """Return what another attempt with *item*, or the list of a batch, would be."""
        cdef int failures = 1 if self.attempt is None else self.attempt.failures + 1
        cdef double since = monotonic() if self.attempt is None else self.attempt.since
        return Attempt(item, token, failures, since, self.place)

    cdef object delay(self, object error, Attempt attempt):
        """Return in how many seconds *attempt* is to be made, or None."""
        delay_of = getattr(self.policy, "delay", None)
        return None if delay_of is None else delay_of(error, attempt.failures, attempt.since)

    cdef int put_off(self, Attempt attempt, double delay) except -1:
        """Have *attempt* wait until it is due."""
        cdef double due = <double> monotonic() + delay
        if self.waiting is None:
            self.waiting = Waiting(self.policy.aborting, self.policy.most_waiting)
        self.waiting.add(attempt, due)
        self.tally.due = min(self.tally.due, due)
        self.is_put_off = True
        return self.keep_within()

    cdef int keep_within(self) except -1:
        """While too many wait, do nothing but wait for them, and try them again."""
        cdef Attempt attempt
        if self.is_trying or self.waiting.count() <= self.waiting.most:
            return 0
        self.is_trying = True
        try:
            while self.waiting.count() > self.waiting.most:
                if m3_load(&self.waiting.aborting.state):
                    raise Aborted
                attempt = self.waiting.take_due()
                if attempt is None:
                    self.waiting.sleep(self.waiting.due(), NULL)
                else:
                    self.retry(attempt)
        finally:
            self.is_trying = False
        return 0

    # -- failures

    cdef int failed(self, object item, Token token) except -1:
        """The stage's code has raised on *item*: put it off, or settle it."""
        error = raised()
        if isinstance(error, GivenUp_):
            raise error
        return self.fail(error, item, token)

    cdef int give_up(self, object error, Attempt attempt) except -1:
        """Do with the item of a call that was given up as if the call had raised *error*."""
        self.items_in += 1
        self.attempt = attempt if attempt.failures else None
        self.place = attempt.place
        try:
            return self.fail(error, attempt.item, <Token> attempt.token)
        finally:
            self.attempt = None

    cdef int fail(self, object error, object item, object token) except -1:
        """Put *item*, or the list of a batch, off or settle it."""
        if self.dispose(error, item, token, self.next_attempt(item, token)):
            raise Aborted
        return 0

    cdef bint dispose(self, object error, object item, object token, Attempt attempt) except -1:
        """Have *attempt* wait, or settle what has failed; return whether the run is over."""
        cdef int outcome = FATAL_
        try:
            delay = self.delay(error, attempt)
            if delay is None:
                outcome = self.judge(error, item, token)
        except BaseException:  # another thread has raised it in this one
            settle_all(token, FAILED, self.tally)
            raise
        if delay is not None:
            self.put_off(attempt, delay)
            return False
        blame_all(token, error)
        settle_all(token, FAILED if outcome == FATAL_ else outcome, self.tally)
        return outcome == FATAL_

    cdef int judge(self, object error, object item, object token) except -1:
        """Ask the policy what becomes of *item*, or of the list of a batch."""
        cdef list positions = None
        cdef int attempts = 1 if self.attempt is None else self.attempt.failures + 1
        if isinstance(token, list):
            positions = [position_of(each) for each in <list> token]
        cdef Py_ssize_t count = 1 if positions is None else len(positions)
        position = position_of(token) if positions is None else positions[0]
        self.errors += count
        cdef int outcome = self.policy(error, item, position, positions, attempts)
        if outcome == DROPPED:
            self.dropped += count
        return outcome

    def adopt(self, Step former):
        """Take over the items that wait in the step of a worker that was given up."""
        if former.waiting is not None:
            self.waiting, former.waiting = former.waiting, None
            self.tally.due = min(self.tally.due, self.waiting.due())
        self.in_hand, former.in_hand = former.in_hand, None

    def accept(self, item, Token token=None):
        """Push *item*, for callers in Python."""
        self.push(item, token)

    def has_room(self):
        """Return whether a push would not wait for room in a queue."""
        return True if self.following is None else self.following.has_room()


cdef class Function:
    """
    A callable of one argument, made ready to be called as often as there are items.

    A bound method is taken apart once, instead of at every call.
    """

    cdef object target
    cdef PyObject* callee
    cdef PyObject* bound_to
    cdef vectorcallfunc vectorcall

    def __cinit__(self, target):
        self.target = target
        self.callee = <PyObject*> target
        if PyMethod_Check(target):
            self.callee = PyMethod_GET_FUNCTION(target)
            self.bound_to = PyMethod_GET_SELF(target)
        self.vectorcall = PyVectorcall_Function(self.callee)


cdef inline PyObject* call(Function function, object item) noexcept:
    """Return a new reference to the result, or NULL with an exception set."""
    cdef PyObject* arguments[3]
    if function.vectorcall == NULL:
        return PyObject_CallOneArg(function.target, item)
    if function.bound_to == NULL:
        arguments[1] = <PyObject*> item
        return function.vectorcall(
            function.callee, &arguments[1], 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
    arguments[1] = function.bound_to
    arguments[2] = <PyObject*> item
    return function.vectorcall(
        function.callee, &arguments[1], 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef PyObject* run(Step step, Function function, object item, Token token) noexcept:
    """Like `call`, under the eyes of the step's watch, if it has one."""
    cdef PyObject* result
    if step.watch is None:
        return call(function, item)
    step.watch.begin(item, token, step.attempt, step.place)
    result = call(function, item)
    if step.watch.end():
        return result
    Py_XDECREF(result)
    PyErr_Clear()
    PyErr_SetNone(GivenUp_)
    return NULL


cdef object wholly(object function):
    """Return what calls a generator function, and has it yield everything before it returns."""
    return lambda item: iter(list(function(item)))


cdef class Call(Step):
    """A transport that returns one result for one item."""

    cdef Function function

    def __init__(self, Tally tally, Step following, policy, function):
        super().__init__(tally, following, policy)
        self.function = Function(function)

    cdef int push(self, object item, Token token) except -1:
        cdef PyObject* result
        self.items_in += 1
        result = run(self, self.function, item, token)
        if result == NULL:
            return self.failed(item, token)
        value = m3_own(result)
        if value is DROP:
            self.dropped += 1
            return settle(token, DROPPED, self.tally)
        self.items_out += 1
        return self.following.push(value, token)


cdef class Consume(Step):
    """A backend that takes one item."""

    cdef Function function

    def __init__(self, Tally tally, policy, function):
        super().__init__(tally, None, policy)
        self.function = Function(function)

    cdef int push(self, object item, Token token) except -1:
        cdef PyObject* result
        self.items_in += 1
        result = run(self, self.function, item, token)
        if result == NULL:
            return self.failed(item, token)
        Py_DECREF(<object> result)
        self.items_out += 1
        return settle(token, DELIVERED, self.tally)


cdef class Expand(Step):
    """
    A transport that is a generator function: everything it yields goes on.

    Args:
        whole: nothing of what it yields for an item goes on before it has
            yielded all of it, so that it can fail without having done half.
    """

    cdef Function function
    cdef bint whole

    def __init__(self, Tally tally, Step following, policy, function, bint whole=False):
        super().__init__(tally, following, policy)
        self.function = Function(wholly(function) if whole else function)
        self.whole = whole

    cdef int push(self, object item, Token token) except -1:
        cdef PyObject* generator
        self.items_in += 1
        generator = run(self, self.function, item, token)
        if generator == NULL:
            return self.failed(item, token)
        results = m3_own(generator)
        return self.forward(results, item, token)

    cdef int forward(self, object results, object item, Token token) except -1:
        """Push all that *results* yields; the item itself ends with the last of it."""
        cdef PyObject* result
        cdef iternextfunc next_of = next_function(results)
        while True:
            result = next_of(<PyObject*> results)
            if result == NULL:
                if stopped_iterating():
                    return settle(token, DROPPED, self.tally)
                return self.failed(item, token)
            value = m3_own(result)
            if value is DROP:
                continue
            self.items_out += 1
            token.hold(1)
            try:
                self.following.push(value, token)
            except BaseException:
                settle(token, ABANDONED, self.tally)
                self.close(results, item, token)
                raise

    cdef int close(self, object results, object item, Token token) except -1:
        """Close the generator; what it raises then is one more failure of the run."""
        if self.whole:
            return 0
        try:
            results.close()
        except BaseException as error:
            self.judge(error, item, token)
        return 0


cdef class Gather(Step):
    """
    A transport or backend that takes batches.

    Args:
        function: called with a list of items; a transport's returns an
            iterable of results.  As many results as items belong to each
            other one by one; otherwise every result stands for every item.
            A backend's may raise :exc:`~m3.errors.BatchError`.
        batch: an object with ``count``, ``bytes`` and ``period``.
    """

    cdef object function
    cdef Py_ssize_t most_items
    cdef Py_ssize_t most_bytes
    cdef double period
    cdef list items
    cdef list tokens
    cdef Py_ssize_t size
    cdef double deadline

    def __init__(self, Tally tally, Step following, policy, function, batch):
        super().__init__(tally, following, policy)
        self.function = function
        self.most_items = batch.count
        self.most_bytes = batch.bytes or 0
        self.period = batch.period
        self.reset()

    cdef void reset(self):
        self.items = []
        self.tokens = []
        self.size = 0
        self.deadline = INFINITY

    cdef int push(self, object item, Token token) except -1:
        cdef Py_ssize_t size = 0
        self.items_in += 1
        if self.most_bytes:
            try:
                size = size_of(item)
            except BaseException as error:
                return self.fail(error, [item], [token])
            if self.items and self.size + size > self.most_bytes:
                return self.flush_before(item, token, size)
        self.keep(item, token, size)
        return self.flush_due()

    cdef int flush_due(self) except -1:
        """Hand the batch over if it is full, or has waited long enough."""
        if len(self.items) >= self.most_items or (self.most_bytes and self.size >= self.most_bytes):
            return self.flush()
        if self.period and <double> monotonic() >= self.deadline:
            return self.flush()
        return 0

    def adopt(self, Step former):
        """Take over that as well which a batch was being made of."""
        cdef Gather other = former
        Step.adopt(self, former)
        self.items, self.tokens = other.items, other.tokens
        self.size, self.deadline = other.size, other.deadline
        other.reset()

    cdef void keep(self, object item, Token token, Py_ssize_t size):
        if self.period and not self.items:
            self.deadline = <double> monotonic() + self.period
        self.items.append(item)
        self.tokens.append(token)
        self.size += size

    cdef int flush_before(self, object item, Token token, Py_ssize_t size) except -1:
        """Hand the batch over; *item* begins the next, which waits here, whatever comes of it."""
        cdef list items = self.items
        cdef list tokens = self.tokens
        self.reset()
        self.keep(item, token, size)
        self.hand_over(items, tokens)
        return self.flush_due()

    cdef double idle(self) except? -1:
        if self.items and (not self.period or <double> monotonic() >= self.deadline):
            self.flush()
        return min(self.deadline, Step.idle(self))

    cdef int finish(self) except -1:
        if self.items:
            self.flush()
        return Step.finish(self)

    cdef int abandon(self) except -1:
        settle_all(self.tokens, ABANDONED, self.tally)
        self.reset()
        return Step.abandon(self)

    cdef int again(self, Attempt attempt) except -1:
        return self.hand_over(attempt.item, attempt.token)

    cdef int flush(self) except -1:
        cdef list items = self.items
        cdef list tokens = self.tokens
        self.reset()
        return self.hand_over(items, tokens)

    cdef int hand_over(self, list items, list tokens) except -1:
        """Call the stage's code with a batch, and settle or forward what it held."""
        try:
            results = self.run(items, tokens)
        except BaseException as error:
            if isinstance(error, GivenUp_):
                raise
            if self.following is None and isinstance(error, BatchError):
                return self.partly_failed(error.errors, items, tokens)
            return self.fail(error, items, tokens)
        if self.following is None:
            self.items_out += len(tokens)
            return settle_all(tokens, DELIVERED, self.tally)
        return self.forward(<list> results, tokens)

    cdef object run(self, list items, list tokens):
        """Call the stage's code, under the eyes of the watch, if there is one."""
        if self.watch is not None:
            self.watch.begin(items, tokens, self.attempt, self.place)
        try:
            # A copy, for the code may change its list, and we may need ours again.
            results = self.function(items[:])
            return results if self.following is None else list(results)
        finally:
            if self.watch is not None and not self.watch.end():
                raise GivenUp_

    cdef int give_up(self, object error, Attempt attempt) except -1:
        self.items_in += len(<list> attempt.item)
        self.attempt = attempt if attempt.failures else None
        self.place = attempt.place
        try:
            return self.fail(error, attempt.item, attempt.token)
        finally:
            self.attempt = None

    cdef int partly_failed(self, object errors, list items, list tokens) except -1:
        """Settle a batch of which the items at the indexes in *errors* failed."""
        cdef bint is_fatal = False
        cdef Attempt alone
        for index, token in enumerate(tokens):
            if index not in errors:
                self.items_out += 1
                settle(token, DELIVERED, self.tally)
                continue
            item, alone = items[index], self.next_attempt([items[index]], [token])
            try:
                is_fatal = self.dispose(errors[index], item, token, alone) or is_fatal
            except BaseException:
                settle_all(tokens[index + 1:], ABANDONED, self.tally)
                raise
        if is_fatal:
            raise Aborted
        return 0

    cdef int forward(self, list results, list tokens) except -1:
        cdef Py_ssize_t index
        if len(results) != len(tokens):
            results = [result for result in results if result is not DROP]
            if not results:
                self.dropped += len(tokens)
                return settle_all(tokens, DROPPED, self.tally)
            tokens = [joint_token(tokens, len(results))] * len(results)
        for index in range(len(results)):
            if results[index] is DROP:
                self.dropped += 1
                settle(tokens[index], DROPPED, self.tally)
                continue
            self.items_out += 1
            try:
                self.following.push(results[index], tokens[index])
            except BaseException:
                settle_all(tokens[index + 1:], ABANDONED, self.tally)
                raise
        return 0


cdef int settle_all(object tokens, int outcome, Tally tally) except -1:
    """Settle a token, or each of the list of a batch's."""
    if not isinstance(tokens, list):
        return settle(tokens, outcome, tally)
    for token in <list> tokens:
        settle(token, outcome, tally)
    return 0


cdef int blame_all(object tokens, object error) except -1:
    """Note why the item of a token, or each of a batch, has failed."""
    if not isinstance(tokens, list):
        return blame(tokens, error)
    for token in <list> tokens:
        blame(token, error)
    return 0


cdef class Deliver(Step):
    """The end of a pipeline without a backend: the result is discarded."""

    cdef int push(self, object item, Token token) except -1:
        self.items_in += 1
        return settle(token, DELIVERED, self.tally)


cdef class Send(Step):
    """Put items into the queue of the next stage; waits while it is full."""

    def __init__(self, Tally tally, BoundedQueue queue, policy=None):
        super().__init__(tally, None, policy)
        self.queue = queue

    cdef int push(self, object item, Token token) except -1:
        cdef PyObject* mark = NULL if token is None else <PyObject*> token
        if self.queue.budget is not None:
            return self.push_sized(item, token, mark)
        if try_put(self.queue, <PyObject*> item, mark) == DONE:
            return 0
        return self.wait_and_put(item, token, mark)

    cdef int push_sized(self, object item, Token token, PyObject* mark) except -1:
        """Put an item into a queue that counts bytes, too."""
        cdef Sized sized
        try:
            sized = self.queue.budget.pack(item)
        except BaseException as error:
            return self.fail(error, item, token)
        cdef double began = monotonic()
        cdef bint has_room = False
        try:
            has_room = self.queue.budget.await_room(sized.size, self.queue)
        finally:
            self.tally.wait_out += <double> monotonic() - began
            if not has_room:
                settle(token, ABANDONED, self.tally)
        if not has_room:
            raise Aborted
        if try_put(self.queue, <PyObject*> sized, mark) == DONE:
            return 0
        return self.wait_and_put(sized, token, mark)

    cdef int wait_and_put(self, object item, Token token, PyObject* mark) except -1:
        cdef double began = monotonic()
        cdef Outcome outcome = CLOSED
        try:
            outcome = self.queue.put_owned(<PyObject*> item, mark, INFINITY)
        finally:
            self.tally.wait_out += <double> monotonic() - began
            if outcome != DONE:
                settle(token, ABANDONED, self.tally)
        if outcome != DONE:
            raise Aborted
        return 0

    def has_room(self):
        # An item's size is not known before, and it may have to wait for it.
        return self.queue.budget is None and not self.queue.full()


cdef class Broadcast(Step):
    """Give every item to each of several chains."""

    cdef list branches

    def __init__(self, Tally tally, list branches):
        super().__init__(tally)
        self.branches = branches

    cdef int push(self, object item, Token token) except -1:
        cdef Py_ssize_t index
        cdef Py_ssize_t count = len(self.branches)
        token.hold(count - 1)
        for index in range(count):
            try:
                (<Step> self.branches[index]).push(item, token)
            except BaseException:
                for _ in range(count - 1 - index):
                    settle(token, ABANDONED, self.tally)
                raise
        return 0

    cdef double idle(self) except? -1:
        cdef double until = INFINITY
        for branch in self.branches:
            until = min(until, (<Step> branch).idle())
        return until

    cdef double attend(self) except? -1:
        cdef double due = INFINITY
        for branch in self.branches:
            due = min(due, (<Step> branch).attend())
        return due

    cdef int finish(self) except -1:
        for branch in self.branches:
            (<Step> branch).finish()
        return 0

    cdef int abandon(self) except -1:
        for branch in self.branches:
            (<Step> branch).abandon()
        return 0

    def has_room(self):
        return all([branch.has_room() for branch in self.branches])


cdef iternextfunc next_function(object iterator) noexcept:
    """Return the C function behind ``next(iterator)``."""
    return Py_TYPE(iterator).tp_iternext


cdef bint stopped_iterating() except -1:
    """After tp_iternext returned NULL: clear a StopIteration; false for other errors."""
    if PyErr_Occurred() == NULL:
        return True
    if PyErr_ExceptionMatches(StopIteration):
        PyErr_Clear()
        return True
    return False


cdef object raised():
    """Return the exception being raised, with its traceback, and clear it."""
    cdef PyObject* kind
    cdef PyObject* value
    cdef PyObject* traceback
    PyErr_Fetch(&kind, &value, &traceback)
    PyErr_NormalizeException(&kind, &value, &traceback)
    if traceback != NULL:
        PyException_SetTraceback(value, traceback)
    error = <object> value
    Py_XDECREF(kind)
    Py_XDECREF(value)
    Py_XDECREF(traceback)
    return error
