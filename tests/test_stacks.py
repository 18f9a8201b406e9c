"""Where a thread is can be asked at any time, whatever it does."""

import sys
import threading

import pytest

from m3._frames import places_of
from m3._stacks import formatted, frames_of

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def in_thread():
    """Return a function that runs another in a thread, and ends with it."""
    threads = []

    def start(function):
        thread = threading.Thread(target=function, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join()


def test_a_waiting_thread_is_where_it_waits(in_thread):
    """The frames are those of the thread, the outermost first, each with its line."""
    reached, leave = threading.Event(), threading.Event()

    def outer():
        inner()

    def inner():
        reached.set()
        leave.wait()

    thread = in_thread(outer)
    reached.wait()
    frames = frames_of(thread)
    names = [place.code.co_name for place in frames]
    leave.set()
    assert names[names.index("outer") :][:2] == ["outer", "inner"]
    assert "    leave.wait()\n" in formatted(frames)


def test_ones_own_frames_are_those_of_a_traceback():
    """A thread may ask for its own, down to who asks."""
    code, line = places_of(threading.get_ident())[0]
    assert code is sys._getframe().f_code
    assert line == code.co_firstlineno + 2


def test_a_thread_that_is_not_has_no_frames(in_thread):
    """One that has ended, one that has not begun, and none at all are nowhere."""
    ended = in_thread(lambda: None)
    ended.join()
    assert [frames_of(each) for each in (ended, threading.Thread(), None)] == [[], [], []]
    assert places_of(2**40 + 1) == []


@pytest.mark.parametrize("deep", [False, True])
def test_a_busy_thread_can_be_asked(in_thread, deep):
    """Frames that come and go meanwhile harm neither who asks nor who is asked."""
    leave = False
    depth = 300 if deep else 3

    def descend(left):
        return 1 + descend(left - 1) if left else 1

    def work():
        while not leave:
            assert descend(depth) == depth + 1
            assert sum(each for each in range(5)) == 10
            with pytest.raises(ValueError, match="deep"):
                raise ValueError("deep")

    threads = [in_thread(work) for _ in range(3)]
    try:
        found = [frames_of(thread) for _ in range(1_000) for thread in threads]
    finally:
        leave = True
    assert all(any(place.code is work.__code__ for place in places) for places in found[-3:])


def test_several_threads_ask_at_once(in_thread):
    """Who asks may be asked at the same time, and always has frames of its own."""
    begin = threading.Barrier(3)
    own = []

    def ask():
        begin.wait()
        for _ in range(200):
            found = {each: frames_of(each) for each in threading.enumerate()}
            own.append(found[threading.current_thread()])

    threads = [in_thread(ask) for _ in range(3)]
    for each in threads:
        each.join()
    assert len(own) == 600
    assert all(own)
