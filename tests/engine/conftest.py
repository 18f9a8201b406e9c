"""What the tests of the engine share: nothing may be left behind."""

import threading

import pytest


@pytest.fixture(autouse=True)
def no_thread_left():
    """Check that no thread of an engine outlives its test."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("m3-")]
    assert left == []
