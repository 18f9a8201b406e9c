"""
What a file that is added to lacks at its end.

A process that dies in a write can leave a part of a record, and others leave
files whose last line has no end.  What is added there begins behind a line end,
so that a record which is delivered is never joined to one which was not.
"""

import os
from collections.abc import Callable

__all__ = ("Lacking", "last_byte", "line_end")

Lacking = Callable[[int], bytes]
"""Returns what to write first to a file that is open for reading and appending."""


def line_end(descriptor: int) -> bytes:
    r"""Return a ``\n`` if the file does not end with one, and is not empty."""
    return b"\n" if last_byte(descriptor) not in (b"", b"\n") else b""


def last_byte(descriptor: int) -> bytes:
    """Return the last byte of a file; none if it is empty."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 1, size - 1) if size else b""
