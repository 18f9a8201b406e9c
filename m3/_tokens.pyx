# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
What becomes of the items: counts, and tokens that follow an item.

Every item that a frontend produces is counted once, by how its way ends.
Where one item may end in several places (fan-out, batches, several backends)
a token follows all that is made from it, and the worst outcome counts.
Elsewhere there is no token and the item is counted where it ends.

A frontend that wants to know what became of its items has a ledger, and each
of its items with a position a token that is in it until the item has ended.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.math cimport INFINITY
from libc.stdlib cimport calloc, free

from m3._parking cimport Waiter
from m3._queue cimport DONE, try_put
from m3._sync cimport (
    m3_add,
    m3_fence,
    m3_load,
    m3_lock,
    m3_mutex_init,
    m3_own,
    m3_share,
    m3_store,
    m3_unlock,
)

from m3.errors import AbandonedError, ShutDown


# How many items there are between two looks whether half of the most is reached.
cdef enum:
    OFTEN = 1024

# What is told of an item that is abandoned whatever has become of it.
cdef enum:
    GIVEN_UP = 5


cdef class Tally:
    """
    What became of items in one worker, and how long it waited, in seconds.

    It also has what a worker looks at between two items: when something is due
    in its chain of steps, and whether somebody has asked for its *errand*, a
    function that it then calls.
    """

    def __cinit__(self):
        self.due = INFINITY

    @property
    def in_flight(self):
        """How many of the items that it has counted as produced are neither ended nor held."""
        cdef long long ended = self.delivered + self.dropped + self.dead_lettered
        ended += self.failed + self.abandoned
        return self.produced - ended - <long long> m3_load(&self.held)

    def ask(self):
        """Have the worker call its errand before its next item; see :func:`m3._loops.wake`."""
        m3_store(&self.is_asked, 1)
        m3_fence()

    cdef void count(self, int outcome) noexcept:
        if outcome == DELIVERED:
            self.delivered += 1
        elif outcome == DROPPED:
            self.dropped += 1
        elif outcome == ABANDONED:
            self.abandoned += 1
        elif outcome == DEAD_LETTERED:
            self.dead_lettered += 1
        else:
            self.failed += 1


cdef class SharedTally(Tally):
    """A tally in which several threads may count."""

    def __cinit__(self):
        m3_mutex_init(&self.mutex)

    cdef void count(self, int outcome) noexcept:
        m3_lock(&self.mutex)
        Tally.count(self, outcome)
        m3_unlock(&self.mutex)


cdef class Token:
    """Follows what is made from one source item until all of it has ended."""

    def __cinit__(self, position=None):
        m3_mutex_init(&self.mutex)
        self.pending = 1
        self.position = position

    @property
    def answer(self):
        """What is told of the item: its position, what became of it, and why."""
        if self.told == GIVEN_UP:
            return self.position, <int> ABANDONED, None
        return self.position, self.told, self.error

    cdef void hold(self, size_t count) noexcept:
        """Say that *count* more things were made from the item."""
        m3_lock(&self.mutex)
        self.pending += count
        m3_unlock(&self.mutex)

    cdef int blame(self, object error) except -1:
        """Note why the item, or something made from it, has failed; the first reason stays."""
        m3_lock(&self.mutex)
        if self.error is None:  # which is immortal, so nothing is freed under the mutex
            self.error = error
        m3_unlock(&self.mutex)
        if self.parents is not None:
            for parent in self.parents:
                (<Token> parent).blame(error)
        return 0

    cdef int settle(self, int outcome, Tally tally) except -1:
        """Say how one of them ended; the last one counts the item in *tally*."""
        cdef bint is_last
        m3_lock(&self.mutex)
        self.outcome = max(self.outcome, outcome)
        self.pending -= 1
        is_last = self.pending == 0
        m3_unlock(&self.mutex)
        if not is_last:
            return 0
        if self.parents is None:
            tally.count(self.outcome)
            return 0 if self.ledger is None else self.ledger.end(self, self.outcome)
        for parent in self.parents:
            (<Token> parent).settle(self.outcome, tally)
        return 0


cdef Token last_of(list answers):
    return answers[len(answers) - 1]


cdef bint is_done(Token answer, object problem) noexcept:
    """Whether an item was delivered, durably, or dropped on purpose."""
    return answer.told == DROPPED or (answer.told == DELIVERED and problem is None)


cdef list take_done(list answers, object problem):
    """Take those from the end that are done; return their positions."""
    cdef list positions = []
    while answers and is_done(last_of(answers), problem):
        positions.append((<Token> answers.pop()).position)
    return positions


cdef object reason(Token answer, object problem):
    """Return why an item is refused: its own error, else the *problem* of all."""
    if answer.told != GIVEN_UP and answer.error is not None:
        return answer.error
    if problem is not None:
        return problem
    return AbandonedError("the run ended before it was delivered")


cdef Token joint_token(list parents, Py_ssize_t count):
    """Return a token for *count* results that all stand for all of *parents*."""
    cdef Token token = Token(position_of(parents[0]))
    token.parents = parents
    token.pending = count
    return token


cdef class Ledger:
    """
    The items of one frontend's worker, from when they are produced until they are done with.

    An item is *open* until all that was made from it has ended.  If the
    frontend is to be told, its token then waits in ``answers``.  If the lowest
    contiguous mark is wanted, the item is marked as done: all items up to
    :attr:`low_mark` are; an answer then waits until that mark is kept, for what
    is beyond it comes again.

    Args:
        most: so many may be open, unanswered or beyond the mark; then the
            frontend waits, too.
        answering: keep answers.
        marking: keep the mark.
        needs_positions: refuse items without a position.
        gate: the frontend waits at it while it is closed; None for none.
        aborting: when it is on, nothing is marked any more: how an item ends then
            says nothing about whether it is done.

    Attributes:
        last: the position of the last item that was let through; for who has closed the gate.
        has_begun: whether an item was let through; for any thread at any time.
        low_mark: the position of the last item that is done with all before it.
        below: what became of the items up to the mark; None if none is kept.
        hurry: called now and then when half of *most* is reached; it may be None.
    """

    def __init__(
        self, size_t most, *, bint answering=True, bint marking=False,
        bint needs_positions=False, Gate gate=None, Switch aborting=None,
    ):
        m3_mutex_init(&self.mutex)
        self.answers = BoundedQueue()
        self.passed = []
        self.in_hand = []
        self.most = most
        self.lot = ParkingLot()
        self.is_answering = answering
        self.needs_positions = needs_positions
        self.gate = gate
        self.aborting = aborting
        if marking:
            self.done = <PyObject**> calloc(most, sizeof(PyObject*))
            if self.done == NULL:
                raise MemoryError(f"no memory for the marks of {most} items")
            self.below = Tally()

    def __dealloc__(self):
        cdef size_t index
        if self.done == NULL:
            return
        for index in range(self.most):
            Py_XDECREF(self.done[index])
        free(self.done)

    @property
    def is_open(self):
        """Whether some items that are to be answered are still on their way."""
        return self.open != NULL

    @property
    def is_crowded(self):
        """Whether half of the items that may be open, unanswered or unmarked are."""
        return not self.has_room()

    cdef bint has_room(self) noexcept:
        return self.count_held_up() < self.most // 2

    cdef Token begin(self, object position):
        """Return the token of a new item."""
        cdef Token token = Token(position)
        if not self.is_answering and self.done == NULL:
            return token
        token.ledger = self
        token.number = self.begun
        self.begun += 1
        if self.is_answering:
            m3_add(&self.unanswered, 1)
            self.open_item(token)
        return token

    cdef int press(self) except -1:
        """Ask for what would let more items be produced."""
        if self.hurry is not None:
            self.hurry()
        return 0

    cdef size_t count_held_up(self) noexcept:
        """Return how many items are open, unanswered or beyond the mark."""
        cdef size_t unmarked = 0 if self.done == NULL else self.begun - m3_load(&self.released)
        return max(unmarked, m3_load(&self.unanswered))

    cdef void open_item(self, Token token) noexcept:
        """Put *token* into the list of those that are open."""
        Py_INCREF(token)
        token.is_open = True
        m3_lock(&self.mutex)
        token.behind = self.open
        if self.open != NULL:
            (<Token> self.open).before = <PyObject*> token
        self.open = <PyObject*> token
        m3_unlock(&self.mutex)

    cdef bint close_item(self, Token token) noexcept:
        """Take *token* out of the list; false if it is not there any more."""
        cdef bint was_open
        m3_lock(&self.mutex)
        was_open = token.is_open
        if was_open:
            token.is_open = False
            if token.before == NULL:
                self.open = token.behind
            else:
                (<Token> token.before).behind = token.behind
            if token.behind != NULL:
                (<Token> token.behind).before = token.before
        m3_unlock(&self.mutex)
        if was_open:
            Py_DECREF(token)
        return was_open

    cdef int end(self, Token token, int outcome) except -1:
        """The item has ended: mark it as done, or answer it, unless :meth:`give_up` did."""
        cdef bint is_owed = self.is_answering and self.close_item(token)
        cdef bint is_well = outcome == DELIVERED or outcome == DROPPED
        if self.done != NULL:
            if self.mark_done(token, is_owed):
                return 0
            if is_well:
                return self.answer(token, GIVEN_UP) if is_owed else 0
        if not is_owed:
            return 0
        if is_well and self.ack is not None:
            return self.acknowledge(token.position)
        return self.answer(token, outcome)

    cdef int answer(self, Token token, int told) except -1:
        """Have the frontend told."""
        token.told = told
        if try_put(self.answers, <PyObject*> token, NULL) != DONE:
            self.answers.put(token)
        return 0

    def acknowledge_at_once(self, ack, fail):
        """
        From now on, have *ack* called where an item ends that is done, not by who gives answers.

        For a ledger that keeps no mark.

        Args:
            ack: the frontend's; it does not block.
            fail: called with what *ack* raises.
        """
        self.fail = fail
        self.ack = ack

    cdef int acknowledge(self, object position) except -1:
        """Tell the frontend now that its item is done."""
        try:
            self.ack(position)
        except BaseException as raised:
            self.fail(raised)
        finally:
            self.count_answered(1)
        return 0

    cdef bint withdraw(self, Token token) noexcept:
        """Forget the item that was begun last; false if it was given up before."""
        if not self.close_item(token):
            return False
        self.begun -= 1
        self.count_answered(1)
        return True

    cdef bint mark_done(self, Token token, bint is_owed) except -1:
        """Mark the item, whose answer waits for the mark; false if nothing is marked any more."""
        if self.aborting is not None and m3_load(&self.aborting.state):
            return False
        token.is_owed = is_owed
        token.ledger = None  # which is about to have the token
        Py_INCREF(token)
        m3_store(<m3_size*> &self.done[token.number % self.most], <size_t> <void*> token)
        return True

    def advance(self):
        """
        Move the mark over all that is done; return over how many items.

        Not while another thread does this, :meth:`release` or :meth:`answer_rest`.
        """
        cdef size_t first = self.low
        cdef m3_size* place
        cdef Token token
        if self.done == NULL:
            return 0
        place = <m3_size*> &self.done[self.low % self.most]
        while m3_load(place):
            token = m3_own(<PyObject*> m3_load(place))
            self.low_mark = token.position
            self.below.count(token.outcome)
            if token.is_owed:
                self.passed.append(token)
            m3_store(place, 0)
            self.low += 1
            place = <m3_size*> &self.done[self.low % self.most]
        return self.low - first

    def release(self):
        """Take note that the mark is kept where it is; answer for what is below it."""
        cdef Token token
        for token in self.passed:
            self.answer(token, token.outcome)
        self.passed = []
        m3_store(&self.released, self.low)
        m3_fence()
        if m3_load(&self.lot.waiting):
            self.lot.unpark_all()

    def answer_rest(self):
        """Answer for what is done beyond the last mark that was kept: it will come again."""
        cdef size_t index
        cdef m3_size* place
        cdef Token token
        for token in self.passed:
            self.answer(token, GIVEN_UP)
        self.passed = []
        if self.done == NULL:
            return
        for index in range(self.most):
            place = <m3_size*> &self.done[index]
            if m3_load(place):
                token = m3_own(<PyObject*> m3_load(place))
                m3_store(place, 0)
                if token.is_owed:
                    self.answer(token, GIVEN_UP)

    cdef bint await_turn(self, Switch stopping) except -1:
        """Wait until one more item may be produced; false if *stopping* is on before."""
        cdef Waiter waiter
        if self.begun % OFTEN == 0 and not self.has_room():
            self.press()
        while self.count_held_up() >= self.most:
            if m3_load(&stopping.state):
                return False
            self.press()
            self.lot.enlist(&waiter, 0)
            if self.count_held_up() >= self.most and not m3_load(&stopping.state):
                self.lot.park(&waiter, INFINITY)
            else:
                self.lot.delist(&waiter)
        return True

    cdef int pass_gate(self, Tally tally) except -1:
        """Wait at the gate with an item that counts as produced, but not as in flight."""
        if self.gate is None:
            return 0
        m3_fence()
        while m3_load(&self.gate.closed):
            m3_store(&tally.held, 1)
            self.gate.await_opening()
            m3_store(&tally.held, 0)
            m3_fence()
        return 0

    def wake(self):
        """Wake a frontend that waits, to look whether it is to stop."""
        self.lot.unpark_all()

    def take_answers(self, Py_ssize_t most):
        """
        Wait for answers, and take up to *most* in hand, unless some are; for one thread.

        Returns:
            False if there will be no more.
        """
        if not self.in_hand:
            try:
                self.in_hand = self.answers.get_many(most)
            except ShutDown:
                return False
            self.in_hand.reverse()
        return True

    def give_answers(self, ack, nack, fail, problem=None, *, ack_batch=None, keep=None):
        """
        Give the answers in hand, each once.

        Args:
            ack, nack: the frontend's.
            fail: called with what one of them raises.
            problem: why nothing that was delivered may be acknowledged, or None.
            ack_batch: takes lists of positions in place of *ack*, if it is there.
            keep: takes the place of *nack*, if it is there, for what is a dead letter.
        """
        cdef Py_ssize_t count
        cdef Token answer
        while self.in_hand:
            count = 1
            try:
                if ack_batch is not None and is_done(last_of(self.in_hand), problem):
                    positions = take_done(self.in_hand, problem)
                    count = len(positions)
                    ack_batch(positions)
                    continue
                answer = self.in_hand.pop()
                if is_done(answer, problem):
                    ack(answer.position)
                elif keep is not None and answer.told == DEAD_LETTERED and problem is None:
                    keep(answer.position, reason(answer, problem))
                else:
                    nack(answer.position, reason(answer, problem))
            except BaseException as raised:
                fail(raised)
            finally:
                self.count_answered(count)

    def answered(self):
        """Take note that the frontend was told about one more item."""
        self.count_answered(1)

    cdef void count_answered(self, size_t count) noexcept:
        m3_add(&self.unanswered, <size_t> -count)
        m3_fence()
        if m3_load(&self.lot.waiting):
            self.lot.unpark_all()

    def give_up(self):
        """Answer for all that are open as abandoned; what becomes of them is not told again."""
        cdef PyObject* first
        while True:
            m3_lock(&self.mutex)
            first = self.open
            if first != NULL:
                m3_share(first)
            m3_unlock(&self.mutex)
            if first == NULL:
                return
            token = m3_own(first)
            if self.close_item(token):
                self.answer(token, GIVEN_UP)

    def await_answers(self):
        """Wait until the frontend was told about all of its items."""
        cdef Waiter waiter
        while m3_load(&self.unanswered):
            self.lot.enlist(&waiter, 0)
            if m3_load(&self.unanswered):
                self.lot.park(&waiter, INFINITY)
            else:
                self.lot.delist(&waiter)
