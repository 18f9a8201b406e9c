/* Where a thread is, read while it cannot move.
 *
 * With the GIL a thread stands still while another one runs this.  Without it
 * the frames of a running thread come and go under the reader's eyes, so the
 * world is stopped for as long as they are read: PyUnstable_GC_VisitObjects is
 * the one function of CPython's API that does so, and calls what it is given
 * meanwhile; the first call does all, and ends the visit.
 */
#ifndef M3_FRAMES_H
#define M3_FRAMES_H

#include <Python.h>

/* The code that a frame runs, and the line at which it is. */
typedef struct {
    PyCodeObject *code;
    int line;
} m3_place;

typedef struct {
    unsigned long thread;
    m3_place *places; /* the innermost first; of PyMem_RawMalloc */
    size_t count;
    int is_full; /* there was no memory for more */
} m3_walk;

static void m3_note_place(m3_walk *walk, PyFrameObject *frame) {
    m3_place *places =
        PyMem_RawRealloc(walk->places, (walk->count + 1) * sizeof(m3_place));
    walk->is_full = places == NULL;
    if (places == NULL)
        return;
    places[walk->count].code = PyFrame_GetCode(frame);
    places[walk->count].line = PyFrame_GetLineNumber(frame);
    walk->places = places;
    walk->count++;
}

static int m3_walk_now(PyObject *Py_UNUSED(visited), void *argument) {
    m3_walk *walk = argument;
    PyFrameObject *frame = NULL, *back;
    PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (state != NULL && state->thread_id != walk->thread)
        state = PyThreadState_Next(state);
    if (state != NULL)
        frame = PyThreadState_GetFrame(state);
    while (frame != NULL) {
        m3_note_place(walk, frame);
        back = walk->is_full ? NULL : PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    return 0;
}

/* Fill *walk*, of which the thread is given; the caller frees what is in it. */
static void m3_walk_thread(m3_walk *walk) {
#ifdef Py_GIL_DISABLED
    PyUnstable_GC_VisitObjects(m3_walk_now, walk);
#else
    m3_walk_now(NULL, walk);
#endif
}

#endif
