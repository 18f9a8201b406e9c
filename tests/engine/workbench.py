"""Small parts that several tests of the engine are made of."""

import threading
import traceback

from m3 import Backend, Frontend
from m3.engine import Runtime
from m3.errors import PipelineError

SOON = 10.0
"""Seconds that something may take which happens at once; a test fails after them."""


class Blocked(Frontend):
    """Yields *first*, then waits in its generator until the test lets it go."""

    def __init__(self, gate, first=()):
        self.gate = gate
        self.first = first

    def produce(self):
        yield from self.first
        assert self.gate.wait(SOON)


class Keep(Backend):
    """Keeps what it gets in a list of the test."""

    def __init__(self, kept):
        self.kept = kept

    def process(self, data):
        self.kept.append(data)


class Dawdling(Runtime):
    """Has the threads of one name take a while to end when they have said that all is done."""

    def __init__(self, name=None):
        self.name = name
        self.threads = []

    def spawn(self, target, name, last):
        def dawdle(error):
            last(error)
            threading.Event().wait(0.1)

        thread = super().spawn(target, name, dawdle if name == self.name else last)
        self.threads.append(thread)
        return thread


def join_threads():
    """Wait for the threads of a run that was given up, which can end now."""
    for thread in threading.enumerate():
        if thread.name.startswith("m3-"):
            thread.join(SOON)


def assert_accounted(report):
    """Check the law of conservation, of a run that has ended."""
    ends = (
        report.delivered,
        report.dropped,
        report.dead_lettered,
        report.failed,
        report.abandoned,
    )
    assert report.produced == sum(ends), report
    assert min(ends) >= 0
    assert report.in_flight == 0


def failures_in(error):
    """Return the single failures that *error* stands for."""
    return list(error.exceptions) if isinstance(error, PipelineError) else [error]


def functions_in(error):
    """Return the names of the functions in the traceback of *error*."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def meet(event):
    """Wait for *event*, which is about to be set."""
    assert event.wait(SOON), "it never happened"


def in_thread(function):
    """Run *function* in a thread; return a function that waits for its result."""
    outcome = []

    def run():
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="test")
    thread.start()

    def result():
        thread.join(SOON)
        assert not thread.is_alive()
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return result
