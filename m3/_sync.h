/* Mutual exclusion and memory order for the compiled parts of m3.
 *
 * With the GIL, a stretch of C code that neither releases the GIL nor runs
 * Python code is already exclusive, so the mutex vanishes and plain loads and
 * stores suffice.  Without the GIL the mutex is CPython's own PyMutex (one
 * byte, no allocation, detaches the thread while it waits) and the loads and
 * stores are C11 atomics.
 */
#ifndef M3_SYNC_H
#define M3_SYNC_H

#include <Python.h>

/* Begin to load what another thread has written and this one will change soon. */
#ifdef __GNUC__
#define m3_prefetch(p) __builtin_prefetch((p), 1)
#else
#define m3_prefetch(p) ((void)(p))
#endif

#ifdef Py_GIL_DISABLED

#include <stdatomic.h>

typedef PyMutex m3_mutex;
#define m3_mutex_init(m) (*(m) = (PyMutex){0})
#define m3_lock(m) PyMutex_Lock(m)
#define m3_unlock(m) PyMutex_Unlock(m)

typedef _Atomic(size_t) m3_size;
#define m3_load(p) atomic_load_explicit((p), memory_order_acquire)
#define m3_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define m3_store(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define m3_add(p, v) (atomic_fetch_add_explicit((p), (v), memory_order_acq_rel) + (v))
/* A reference for another thread to give up.  Were it counted as one of this
 * thread's own, the other could not free the object but would have to ask this
 * one to do it. */
static inline void m3_share(PyObject *object) {
    if (!_Py_IsImmortal(object))
        _Py_atomic_add_ssize(&object->ob_ref_shared, 1 << _Py_REF_SHARED_SHIFT);
}
/* Between "I changed the queue" and "does anybody wait?": orders a store
 * before a later load, which acquire and release do not. */
#define m3_fence() atomic_thread_fence(memory_order_seq_cst)

/* Whether the interpreter wants something of the calling thread.  Objects that
 * a thread made and others have dropped are freed only when it runs bytecode. */
#define m3_is_wanted() ((PyThreadState_GetUnchecked()->eval_breaker & 0xFF) != 0)

#else

typedef char m3_mutex;
#define m3_mutex_init(m) (*(m) = 0)
#define m3_lock(m) ((void)(m))
#define m3_unlock(m) ((void)(m))

typedef size_t m3_size;
#define m3_load(p) (*(p))
#define m3_load_relaxed(p) (*(p))
#define m3_store(p, v) (*(p) = (v))
#define m3_add(p, v) (*(p) += (v))
#define m3_share(object) Py_INCREF(object)
#define m3_fence() ((void)0)

#define m3_is_wanted() 0

#endif

/* A new reference to be returned from C, as an object. */
static inline PyObject *m3_own(PyObject *reference) { return reference; }

#endif
