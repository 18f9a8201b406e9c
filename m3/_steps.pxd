from cpython.object cimport PyObject

from m3._tokens cimport Tally, Token


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

    cdef int push(self, object item, Token token) except -1
    cdef double idle(self) except? -1
    cdef int finish(self) except -1
    cdef int abandon(self) except -1
    cdef int failed(self, object item, Token token) except -1
    cdef int judge(
        self, object error, object item, object position, Py_ssize_t count=*) except -1


cdef iternextfunc next_function(object iterator) noexcept
cdef bint stopped_iterating() except -1
cdef object raised()
