"""What the tests of components share: a journal of what is set up and shut down."""

import threading

import pytest

from m3 import Component


class Journal:
    """What happened, in order; entries are ``+name`` for a setup and ``-name`` for a shutdown."""

    def __init__(self):
        self.entries = []

    def component(self, name, *, fails=None, is_async=False, bases=(Component,), **needs):
        """
        Return a class of components that write down when they are set up and shut down.

        Args:
            name: of the class, and in the entries.
            fails: the phase in which it raises, if any.
            is_async: whether its methods are coroutines.
            bases: of the class.
            needs: its annotations.
        """

        def act(sign, phase):
            self.entries.append(f"{sign}{name}")
            if fails == phase:
                raise ValueError(f"{name} in {phase}")

        if is_async:

            async def setup(self):
                act("+", "setup")

            async def shutdown(self):
                act("-", "shutdown")

        else:

            def setup(self):
                act("+", "setup")

            def shutdown(self):
                act("-", "shutdown")

        methods = {"setup": setup, "shutdown": shutdown}
        return type(name, bases, {"__annotations__": needs, "__module__": __name__, **methods})


@pytest.fixture
def journal():
    """Return a journal without entries."""
    return Journal()


@pytest.fixture(autouse=True)
def no_thread_left():
    """Fail every test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5)
    assert [thread for thread in left if thread.is_alive()] == []
