"""Wakeups: a wait for input ends at once when somebody says stop."""

import socket
import threading

from m3.connectors._input.wakeup import Wakeup


def test_a_wakeup_before_the_wait_counts(wakeup):
    """A wait that begins after the wakeup returns at once, and says to stop."""
    silent, other = socket.socketpair()
    with silent, other:
        wait = wakeup.wait_for(silent.fileno())
        wakeup.set()
        assert not wait()
        assert not wait()


def test_a_wakeup_ends_a_wait(wakeup):
    """A thread that waits for a silent descriptor returns when the wakeup is set."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wait = wakeup.wait_for(ours.fileno())
        waiting = threading.Event()
        results: list[bool] = []

        def work() -> None:
            results.append(wait())
            ours.recv(1)
            waiting.set()
            results.append(wait())

        thread = threading.Thread(target=work)
        thread.start()
        theirs.send(b"x")
        assert waiting.wait(timeout=20)
        wakeup.set()
        thread.join(timeout=20)
        assert results == [True, False]


def test_setting_is_harmless_before_opening_and_after_closing(descriptors):
    """A late stop neither raises nor writes into a descriptor that is somebody else's by then."""
    wakeup = Wakeup()
    wakeup.set()
    wakeup.open()
    assert not wakeup.is_set()
    opened = descriptors()
    wakeup.close()
    wakeup.set()
    wakeup.close()
    assert len(descriptors()) == len(opened) - 2
