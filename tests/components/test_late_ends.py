"""Calls that end late, or are ended before they begin."""

import asyncio
import contextlib
import gc
import threading

import pytest

from m3 import Backoff, Component, Conductor
from m3.components import calls
from m3.components.supervision import Clock

SOON = 0.02


class Turns(Clock):
    """A clock of which every sleep ends when the test says so."""

    def __init__(self):
        self._asleep = threading.Semaphore(0)
        self._woken = threading.Semaphore(0)

    async def sleep(self, _):
        self._asleep.release()
        await asyncio.to_thread(self._woken.acquire, timeout=10)

    def wake(self):
        """Wait until somebody sleeps, and wake it."""
        assert self._asleep.acquire(timeout=10)
        self._woken.release()


class Restarted(Component):
    """Its second setup ends late, as does the shutdown of what that has set up."""

    restart = "on_failure"
    backoff = Backoff(max_elapsed=None)
    setup_timeout = SOON

    def __init__(self):
        self.journal = []
        self.may_be_up, self.may_be_down = threading.Event(), threading.Event()
        self.is_shutting_down, self.is_down = threading.Event(), threading.Event()

    def begin(self):
        """Note a setup; return its number."""
        self.journal.append("setup")
        return self.journal.count("setup")

    def end(self):
        """Note the end of the late shutdown."""
        self.journal.append("is down")
        self.is_down.set()

    def is_late(self):
        """Return whether it is shut down after the second setup."""
        return self.journal == ["setup", "setup"] and not self.is_down.is_set()


class InThreads(Restarted):
    def setup(self):
        if self.begin() == 2:
            self.may_be_up.wait(10)

    def shutdown(self):
        if self.is_late():
            self.is_shutting_down.set()
            self.may_be_down.wait(10)
            self.end()


class InLoop(Restarted):
    async def setup(self):
        if self.begin() == 2:
            while not self.may_be_up.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.to_thread(self.may_be_up.wait, 10)

    async def shutdown(self):
        if self.is_late():
            self.is_shutting_down.set()
            await asyncio.to_thread(self.may_be_down.wait, 10)
            self.end()


@pytest.mark.parametrize("cls", [InThreads, InLoop])
def test_no_restart_beside_a_late_shutdown(cls, monkeypatch):
    """A component is not set up again until the late shutdown of its last setup has ended."""
    monkeypatch.setattr(calls, "GRACE", SOON)
    clock = Turns()
    conductor = Conductor()
    conductor._clock = clock
    component = conductor.add(cls)
    conductor.setup()
    component.fail(OSError("gone"))
    clock.wake()  # so that the second setup begins, and is given up
    assert clock._asleep.acquire(timeout=10)
    component.may_be_up.set()
    assert component.is_shutting_down.wait(10)
    clock._woken.release()
    clock.wake()  # when the third attempt is over
    journal = [*component.journal]
    component.may_be_down.set()
    assert component.is_down.wait(10)
    clock._woken.release(100)
    conductor.shutdown()
    assert journal == ["setup", "setup"]


@pytest.mark.filterwarnings("error")
def test_a_stop_before_a_coroutine_has_begun(recwarn):
    """A coroutine that is to end before its first step is awaited all the same."""
    conductors = []

    class Early(Component):
        pauses = 0

        async def setup(self):
            for _ in range(self.pauses):
                await asyncio.sleep(0)
            conductors[-1].stop()

    class Needed(Component):
        async def setup(self):
            await asyncio.sleep(0)

    class Late(Component):
        needed: Needed

        async def setup(self):
            pass

    for pauses in range(15):
        conductor = Conductor()
        conductors.append(conductor)
        conductor.add(Early).pauses = pauses
        conductor.add(Late)
        with contextlib.suppress(Exception):
            conductor.setup()
        conductor.shutdown()
        gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
