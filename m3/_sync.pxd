# Mutual exclusion and memory order: see _sync.h.
from cpython.object cimport PyObject


cdef extern from "_sync.h" nogil:
    ctypedef struct m3_mutex:
        pass
    ctypedef size_t m3_size
    void m3_mutex_init(m3_mutex* mutex)
    void m3_lock(m3_mutex* mutex)
    void m3_unlock(m3_mutex* mutex)
    size_t m3_load(m3_size* place)
    size_t m3_load_relaxed(m3_size* place)
    void m3_store(m3_size* place, size_t value)
    size_t m3_add(m3_size* place, size_t value)
    void m3_fence()
    void m3_prefetch(void* place)
    bint m3_is_wanted()


cdef extern from "_sync.h":
    object m3_own(PyObject* reference)
    void m3_share(PyObject* reference)
