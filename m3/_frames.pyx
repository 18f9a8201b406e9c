# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""Where a thread is at the moment, though it runs on: see ``_frames.h``."""

from cpython.mem cimport PyMem_RawFree
from cpython.object cimport PyObject

from m3._sync cimport m3_own


cdef extern from "_frames.h":
    ctypedef struct m3_place:
        PyObject* code
        int line
    ctypedef struct m3_walk:
        unsigned long thread
        m3_place* places
        size_t count
        bint is_full
    void m3_walk_thread(m3_walk* walk)


def places_of(unsigned long ident):
    """
    Return where the thread of that number is, the innermost frame first.

    Returns:
        the code that each frame runs, and the line at which it is; nothing if
        there is no such thread.

    Raises:
        MemoryError: there is none for so many.
    """
    cdef m3_walk walk = m3_walk(thread=ident, places=NULL, count=0, is_full=False)
    cdef size_t number
    m3_walk_thread(&walk)
    try:
        places = [
            (m3_own(walk.places[number].code), walk.places[number].line)
            for number in range(walk.count)
        ]
    finally:
        PyMem_RawFree(walk.places)
    if walk.is_full:
        raise MemoryError("no memory for the frames of a thread")
    return places
