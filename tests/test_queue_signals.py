"""Ctrl-C in a main thread that is blocked in a queue: real processes, real SIGINT."""

import _thread
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial
from time import monotonic

import pytest

from m3 import BoundedQueue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of POSIX")

PRELUDE = """
import json, os, sys, threading
from m3._queue import BoundedQueue

queue = BoundedQueue(3)
main = threading.main_thread().ident

def when_blocked(condition):
    def watch():
        while not condition():
            os.sched_yield()
        print("blocked", flush=True)
    threading.Thread(target=watch, daemon=True).start()

def interrupted(call):
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    raise SystemExit("not interrupted")

def putters():
    return queue.statistics().putters == 1

def getters():
    return queue.statistics().getters == 1
"""


def run_and_interrupt(script, times=1):
    """Run *script* and send SIGINT each time it says that it is blocked; return its answer."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        for _ in range(times):
            assert process.stdout.readline() == "blocked\n"
            process.send_signal(signal.SIGINT)
        return json.loads(process.stdout.read())


def test_put_that_is_interrupted_has_put_nothing():
    """KeyboardInterrupt comes out of put, and the item is not in the queue."""
    answer = run_and_interrupt(
        """
        queue.put_many("abc")
        when_blocked(putters)
        interrupted(lambda: queue.put("d"))
        print(json.dumps([queue.get_many(9), queue.statistics().puts, queue.statistics().putters]))
        """
    )
    assert answer == [["a", "b", "c"], 3, 0]


def test_get_that_is_interrupted_has_taken_nothing():
    """KeyboardInterrupt comes out of get, and the next item is still the first."""
    answer = run_and_interrupt(
        """
        when_blocked(getters)
        interrupted(queue.get)
        queue.put("a")
        print(json.dumps([queue.get(), queue.statistics().gets, queue.statistics().getters]))
        """
    )
    assert answer == ["a", 1, 0]


def test_get_many_that_is_interrupted_has_taken_nothing():
    """... and so for get_many, with a timeout as well."""
    answer = run_and_interrupt(
        """
        when_blocked(getters)
        interrupted(lambda: queue.get_many(5, timeout=3600))
        queue.put_many("ab")
        print(json.dumps(queue.get_many(5)))
        """
    )
    assert answer == ["a", "b"]


def test_put_many_that_is_interrupted_says_how_far_it_came():
    """``accepted`` of the KeyboardInterrupt is the number of items in the queue."""
    answer = run_and_interrupt(
        """
        when_blocked(putters)
        error = interrupted(lambda: queue.put_many("abcdef"))
        print(json.dumps([error.accepted, queue.get_many(9)]))
        """
    )
    assert answer == [3, ["a", "b", "c"]]


def test_join_that_is_interrupted():
    """KeyboardInterrupt comes out of join; a later join still works."""
    answer = run_and_interrupt(
        """
        queue.put(1)
        when_blocked(lambda: "join" in sys._current_frames()[main].f_code.co_names)
        interrupted(lambda: queue.join())
        queue.get()
        queue.task_done()
        queue.join()
        print(json.dumps("joined"))
        """
    )
    assert answer == "joined"


def test_a_handler_that_returns_leaves_the_call_blocked():
    """A signal handler that raises nothing does not end the wait, nor shorten a timeout."""
    answer = run_and_interrupt(
        """
        import signal
        calls = []

        def handler(signum, frame):
            calls.append(signum)
            if len(calls) < 3:
                when_blocked(getters)
            else:
                queue.put("at last")

        signal.signal(signal.SIGINT, handler)
        when_blocked(getters)
        print(json.dumps([queue.get(timeout=3600), len(calls)]))
        """,
        times=3,
    )
    assert answer == ["at last", 3]


def test_an_interrupted_consumer_hands_its_item_on():
    """An item put while a signal handler of the waiting thread runs goes to another thread."""
    answer = run_and_interrupt(
        """
        import signal
        taken = []

        def handler(signum, frame):
            other = threading.Thread(target=lambda: taken.append(queue.get()))
            other.start()
            while not getters():
                os.sched_yield()
            queue.put("for the other")
            other.join()
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, handler)
        when_blocked(getters)
        interrupted(queue.get)
        print(json.dumps([taken, queue.qsize()]))
        """
    )
    assert answer == [["for the other"], 0]


class Alarm(Exception):
    """Raised by the handler of a timer."""


@pytest.mark.parametrize("operation", ["put", "get"])
def test_a_handler_that_raises_at_any_moment_leaves_nobody_waiting(operation):
    """Whenever a handler raises in a blocked call, the caller is off the list of those who wait."""
    queue = BoundedQueue(1)
    if operation == "put":
        queue.put(0)
    call = partial(queue.put, 1) if operation == "put" else queue.get

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for number in range(300):
            with pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 100))
                call()
                raise AssertionError("the call has returned")
            statistics = queue.statistics()
            assert (statistics.putters, statistics.getters) == (0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signals_that_end_no_sleep_are_noticed_soon_each_time():
    """One that was missed does not make the thread look later for the next."""
    queue = BoundedQueue(1)
    began = monotonic()

    def interrupt():
        while not queue.statistics().getters:
            os.sched_yield()
        _thread.interrupt_main()

    for _ in range(12):
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            queue.get()
        thread.join()
    assert monotonic() - began < 20
