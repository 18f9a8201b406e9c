"""A shutdown from elsewhere, while the event loop of the setup comes to its end."""

import asyncio
import threading

import pytest

from m3 import Component, Conductor
from m3.errors import ComponentStateError


class Shutter(threading.Thread):
    """A thread that shuts a conductor down."""

    def __init__(self, conductor):
        super().__init__(daemon=True)
        self._conductor = conductor
        self.error = None

    def run(self):
        try:
            self._conductor.shutdown()
        except BaseException as error:
            self.error = error

    def outcome(self):
        """Return what was raised, if anything was, when it is over."""
        self.join(20)
        assert not self.is_alive()
        return self.error


class Counted(Component):
    downs = 0

    async def shutdown(self):
        await asyncio.sleep(0)
        self.downs += 1


@pytest.fixture
def submitted(monkeypatch):
    """Return an event that is set when something was submitted to a loop."""
    event = threading.Event()
    submit = asyncio.run_coroutine_threadsafe

    def noted(coroutine, loop):
        try:
            return submit(coroutine, loop)
        finally:
            event.set()

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", noted)
    return event


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_shutdown_in_the_last_step_of_a_loop(submitted, is_closed):
    """What the loop no longer begins, as it is closed or stands still, is done all the same."""
    conductor = Conductor()
    counted = conductor.add(Counted)
    shutter = Shutter(conductor)

    async def main():
        await conductor.setup()
        shutter.start()
        assert submitted.wait(10)

    if is_closed:
        asyncio.run(main())
        assert shutter.outcome() is None
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        assert shutter.outcome() is None
        loop.close()
    assert counted.downs == 1


def test_a_shutdown_that_is_cut_off():
    """A loop that is closed in the middle of a shutdown does not block who has called it."""
    has_cancelled, has_begun = threading.Event(), threading.Event()

    class Slow(Component):
        async def shutdown(self):
            has_begun.set()
            await asyncio.Event().wait()

    conductor = Conductor()
    conductor.add(Slow)
    shutter = Shutter(conductor)

    def shut_down():
        assert has_cancelled.wait(10)
        shutter.start()
        assert has_begun.wait(10)

    async def be_cancelled():
        try:
            await asyncio.Event().wait()
        finally:
            has_cancelled.set()

    async def main():
        await conductor.setup()
        tasks.append(asyncio.ensure_future(be_cancelled()))
        asyncio.get_running_loop().run_in_executor(None, shut_down)
        await asyncio.sleep(0)

    tasks = []
    asyncio.run(main())
    assert isinstance(shutter.outcome(), ComponentStateError)
    conductor.shutdown()


def test_a_second_shutdown_in_another_loop():
    """Who calls it while it runs in another loop waits for its end."""
    has_begun, may_end = threading.Event(), threading.Event()

    class Slow(Counted):
        async def shutdown(self):
            has_begun.set()
            await asyncio.to_thread(may_end.wait, 10)
            await super().shutdown()

    conductor = Conductor()
    slow = conductor.add(Slow)
    downs = []

    async def set_up():
        await conductor.setup()

    async def shut_down_too():
        second = asyncio.ensure_future(conductor.shutdown())
        for _ in range(5):
            await asyncio.sleep(0)
        may_end.set()
        await second
        downs.append(slow.downs)

    asyncio.run(set_up())
    first = Shutter(conductor)
    first.start()
    assert has_begun.wait(10)
    other = threading.Thread(target=lambda: asyncio.run(shut_down_too()), daemon=True)
    other.start()
    assert first.outcome() is None
    other.join(10)
    assert downs == [1]
