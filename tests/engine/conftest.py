"""What the tests of the engine share: nothing may be left behind, and hurried threads."""

import sys
import threading

import pytest


@pytest.fixture(autouse=True)
def no_thread_left():
    """Check that no thread of an engine outlives its test."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("m3-")]
    assert left == []


@pytest.fixture
def hurried():
    """Make the interpreter switch threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
