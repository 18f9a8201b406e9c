from cpython.object cimport PyObject

from m3._parking cimport Gate, ParkingLot, Switch
from m3._queue cimport BoundedQueue
from m3._sync cimport m3_mutex, m3_size


# The worst outcome of what was made from an item is the item's; in this order.
cpdef enum:
    DROPPED = 0
    DELIVERED = 1
    DEAD_LETTERED = 2
    ABANDONED = 3
    FAILED = 4


cdef class Tally:
    cdef readonly long long produced
    cdef readonly long long refused
    cdef readonly long long delivered
    cdef readonly long long dropped
    cdef readonly long long dead_lettered
    cdef readonly long long failed
    cdef readonly long long abandoned
    cdef readonly double wait_in
    cdef readonly double wait_out
    cdef double due
    cdef m3_size is_asked
    cdef m3_size held
    cdef public object errand

    cdef void count(self, int outcome) noexcept


cdef class SharedTally(Tally):
    cdef m3_mutex mutex


cdef class Token:
    cdef m3_mutex mutex
    cdef size_t pending
    cdef int outcome
    cdef readonly object position
    cdef object error
    cdef list parents
    cdef Ledger ledger
    cdef size_t number
    cdef bint is_open
    cdef bint is_owed
    cdef int told
    cdef PyObject* before
    cdef PyObject* behind

    cdef void hold(self, size_t count) noexcept
    cdef int blame(self, object error) except -1
    cdef int settle(self, int outcome, Tally tally) except -1


cdef class Ledger:
    cdef readonly BoundedQueue answers
    cdef readonly object last
    cdef readonly bint has_begun
    cdef readonly object low_mark
    cdef readonly Tally below
    cdef public object hurry
    cdef m3_mutex mutex
    cdef PyObject* open
    cdef size_t most
    cdef m3_size unanswered
    cdef ParkingLot lot
    cdef bint is_answering
    cdef readonly bint needs_positions
    cdef object ack
    cdef object fail
    cdef Gate gate
    cdef Switch aborting
    cdef PyObject** done
    cdef size_t begun
    cdef size_t low
    cdef m3_size released
    cdef list passed
    cdef list in_hand

    cdef Token begin(self, object position)
    cdef void open_item(self, Token token) noexcept
    cdef bint close_item(self, Token token) noexcept
    cdef int end(self, Token token, int outcome) except -1
    cdef int acknowledge(self, object position) except -1
    cdef bint withdraw(self, Token token) noexcept
    cdef void count_answered(self, size_t count) noexcept
    cdef size_t count_held_up(self) noexcept
    cdef bint has_room(self) noexcept
    cdef int press(self) except -1
    cdef int answer(self, Token token, int told) except -1
    cdef bint mark_done(self, Token token, bint is_owed) except -1
    cdef bint await_turn(self, Switch stopping) except -1
    cdef int pass_gate(self, Tally tally) except -1


cdef inline int settle(Token token, int outcome, Tally tally) except -1:
    """Count an item, or one thing made from it, whose way has ended."""
    if token is None:
        tally.count(outcome)
        return 0
    return token.settle(outcome, tally)


cdef inline int blame(Token token, object error) except -1:
    """Note why an item has failed, for who produced it."""
    return 0 if token is None else token.blame(error)


cdef inline object position_of(Token token):
    """Return where the item came from, if its frontend said so."""
    return None if token is None else token.position


cdef Token joint_token(list parents, Py_ssize_t count)
