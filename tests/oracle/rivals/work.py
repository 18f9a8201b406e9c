"""
What every rival does: each line of a file in capitals, appended to another file.

It runs on every Python that a rival needs.  Each line is written at once, so
that none is lost in a buffer of ours when the process is killed.

The command line of each program is ``CASE INPUT OUTPUT``.
"""

import os
import sys
import time

CASE, INPUT, OUTPUT = sys.argv[1:]
WORKERS = 4
QUEUE_SIZE = 100

POISON = 500
"""The number of the line that fails, in the case ``poison``."""

SINK_DIES_AT = 50
"""So many lines are written before the sink fails, in the case ``full``."""


def lines():
    """Yield the lines of the input."""
    with open(INPUT, "rb") as file:
        yield from file


def answer(line):
    """Return the line in capitals, after half a millisecond."""
    time.sleep(0.0005)
    if CASE == "poison" and line.startswith(b"%d " % POISON):
        raise ValueError("a poisoned line")
    return line.upper()


class Faults:
    """What goes wrong with a sink, as the case says."""

    def __init__(self):
        self._count = 0
        if CASE == "setup":
            raise OSError("the sink cannot be opened")

    def before_write(self):
        """Fail, if it is time."""
        if CASE == "full":
            time.sleep(0.002)  # slower than the transports, so that the queues are full
            self._count += 1
            if self._count > SINK_DIES_AT:
                raise OSError("the sink is gone")


class Sink:
    """Appends lines to the output."""

    def __init__(self):
        self._faults = Faults()
        self._file = os.open(OUTPUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, line):
        """Append a line."""
        self._faults.before_write()
        os.write(self._file, line)
