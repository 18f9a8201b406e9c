# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
What becomes of the items: counts, and tokens that follow an item.

Every item that a frontend produces is counted once, by how its way ends.
Where one item may end in several places (fan-out, batches, several backends)
a token follows all that is made from it, and the worst outcome counts.
Elsewhere there is no token and the item is counted where it ends.
"""

from m3._sync cimport m3_lock, m3_mutex_init, m3_unlock


cdef class Tally:
    """What became of items in one worker, and how long it waited, in seconds."""

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


cdef class Token:
    """Follows what is made from one source item until all of it has ended."""

    def __cinit__(self, position=None):
        m3_mutex_init(&self.mutex)
        self.pending = 1
        self.position = position

    cdef void hold(self, size_t count) noexcept:
        """Say that *count* more things were made from the item."""
        m3_lock(&self.mutex)
        self.pending += count
        m3_unlock(&self.mutex)

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
            return 0
        for parent in self.parents:
            (<Token> parent).settle(self.outcome, tally)
        return 0


cdef Token joint_token(list parents, Py_ssize_t count):
    """Return a token for *count* results that all stand for all of *parents*."""
    cdef Token token = Token(position_of(parents[0]))
    token.parents = parents
    token.pending = count
    return token
