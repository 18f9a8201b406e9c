from cpython.object cimport PyObject

from m3._queue cimport BoundedQueue
from m3._tokens cimport Tally, Token
from m3._waiting cimport Attempt, Waiting, Watch


cdef extern from "Python.h":
    ctypedef PyObject* (*iternextfunc)(PyObject*)


cdef class Step:
    cdef Step following
    cdef Tally tally
    cdef object policy
    cdef readonly long long items_in
    cdef readonly long long items_out
    cdef readonly long long errors
    cdef readonly long long dropped
    cdef readonly long long retries
    cdef Waiting waiting
    cdef Attempt attempt
    cdef Attempt in_hand
    cdef public Watch watch
    cdef size_t place
    cdef bint is_put_off
    cdef bint is_trying

    cdef int push(self, object item, Token token) except -1
    cdef double idle(self) except? -1
    cdef int finish(self) except -1
    cdef int abandon(self) except -1
    cdef double attend(self) except? -1
    cdef double retry_due(self) except? -1
    cdef int try_due(self) except -1
    cdef int retry(self, Attempt attempt) except -1
    cdef int again(self, Attempt attempt) except -1
    cdef int failed(self, object item, Token token) except -1
    cdef int fail(self, object error, object item, object token) except -1
    cdef bint dispose(self, object error, object item, object token, Attempt attempt) except -1
    cdef Attempt next_attempt(self, object item, object token)
    cdef object delay(self, object error, Attempt attempt)
    cdef int put_off(self, Attempt attempt, double delay) except -1
    cdef int keep_within(self) except -1
    cdef int give_up(self, object error, Attempt attempt) except -1
    cdef int judge(self, object error, object item, object token) except -1


cdef class Send(Step):
    cdef BoundedQueue queue

    cdef int push_sized(self, object item, Token token, PyObject* mark) except -1
    cdef int wait_and_put(self, object item, Token token, PyObject* mark) except -1


cdef iternextfunc next_function(object iterator) noexcept
cdef bint stopped_iterating() except -1
cdef object raised()
