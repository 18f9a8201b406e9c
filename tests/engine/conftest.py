"""What the tests of the engine share: nothing may be left behind."""

import threading

import pytest
from workbench import join_threads


@pytest.fixture(autouse=True)
def no_thread_left():
    """Check that no thread of an engine outlives its test."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("m3-")]
    assert left == []


@pytest.fixture
def at_end():
    """An event that is set at the end of the test, for user code to hang on until then."""
    event = threading.Event()
    yield event
    event.set()
    join_threads()
