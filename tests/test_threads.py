"""Threads do their last act, whatever strikes them: as they start, run or end."""

import threading

import pytest

from m3._queue import BoundedQueue
from m3._threads import Held, Thread, carry_out, make_calls


class Bolt(BaseException):
    """Raised from another thread."""


def struck(times, calls):
    """Return a last act that is cut short so often."""

    def last(error):
        calls.append(error)
        if len(calls) <= times:
            raise Bolt(len(calls))

    return last


@pytest.mark.parametrize("times", [0, 1, 3])
def test_the_last_act_is_repeated_until_it_was_not_cut_short(times):
    """It gets what the body has raised, however often it is struck itself."""
    calls, error = [], ValueError("of the body")

    def body():
        raise error

    carry_out(body, struck(times, calls))
    assert calls == [error] * (times + 1)


def test_the_last_act_is_told_of_the_first_strike():
    """After a body that has ended well, it is called with None, and then with what struck it."""
    calls = []
    carry_out(lambda: None, struck(2, calls))
    assert [repr(error) for error in calls] == ["None", "Bolt(1)", "Bolt(1)"]


def test_a_last_act_that_never_succeeds_is_given_up():
    """So many strikes are a mistake in it, which comes out instead of a loop without end."""
    calls = []
    with pytest.raises(Bolt):
        carry_out(lambda: None, struck(10**6, calls))
    assert len(calls) < 100


@pytest.mark.parametrize("where", ["_set_ident", "_set_native_id"])
def test_a_thread_that_is_struck_as_it_starts(monkeypatch, where):
    """start() returns, the last act is done all the same, and no such thread is left."""
    calls, before, inner = [], threading.enumerate(), getattr(threading.Thread, where)

    def strike(self):
        inner(self)
        raise Bolt

    thread = Thread("struck", lambda: calls.append("body"), calls.append)
    monkeypatch.setattr(Thread, where, strike)
    thread.start()
    thread.join(30)
    assert [type(call) for call in calls] == [Bolt]
    assert threading.enumerate() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_thread_that_is_struck_as_it_ends(monkeypatch):
    """Its body and its last act were done, and it is not left among those that are alive."""
    calls, before = [], threading.enumerate()

    def strike(self):
        raise Bolt

    thread = Thread("struck", lambda: calls.append("body"), calls.append)
    monkeypatch.setattr(Thread, "_delete", strike)
    thread.start()
    thread.join(30)
    assert calls == ["body", None]
    assert threading.enumerate() == before


def test_calls_are_made_in_order_until_the_end():
    """Each with its arguments; who wants them is told what each has raised."""
    calls, made, told, error = BoundedQueue(), [], [], ValueError("no")

    def fail():
        raise error

    calls.put((made.append, (1,), "first"))
    calls.put((fail, (), "second"))
    calls.put((made.append, (3,), "third"))
    calls.shutdown()
    make_calls(calls, lambda ticket, error: told.append((ticket, error)))
    assert made == [1, 3]
    assert told == [("first", None), ("second", error), ("third", None)]


def test_a_lock_is_held_if_it_can_be_had_in_time():
    """A block is told whether its lock could be had; whose it is then, it is free after it."""
    lock = threading.Lock()
    with Held(lock, -1.0) as is_held:
        assert is_held is True
        with Held(lock, 0.01) as is_held_again:
            assert is_held_again is False
        assert lock.locked()
    assert not lock.locked()
