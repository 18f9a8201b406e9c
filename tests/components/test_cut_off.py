"""Event loops that end, or are closed, in the middle of a setup or a shutdown."""

import asyncio
import contextlib
import signal
import threading
from types import SimpleNamespace

import pytest

from m3 import Component, Conductor
from m3.components import calls, loops
from m3.errors import ComponentError

STEPS = range(1, 14)
"""After how many steps ``main`` returns; some are in the middle, whatever the version of Python."""


async def pause(steps=3):
    for _ in range(steps):
        await asyncio.sleep(0)


class Base(Component):
    def __init__(self):
        self.journal = []

    async def setup(self):
        await pause()
        self.journal.append("+base")

    async def shutdown(self):
        await pause()
        self.journal.append("-base")


class Upper(Component):
    base: Base

    async def setup(self):
        await pause()
        self.base.journal.append("+upper")

    async def shutdown(self):
        await pause()
        self.base.journal.append("-upper")


@pytest.fixture
def conductor():
    """Return a conductor of a component that needs another one."""
    conductor = Conductor()
    conductor.add(Upper)
    return conductor


@pytest.mark.parametrize("steps", STEPS)
def test_main_ends_beside_a_shutdown(conductor, steps):
    """The loop ends when all is down, in order, and all can be set up again."""

    async def main():
        await conductor.setup()
        tasks.append(asyncio.ensure_future(conductor.shutdown()))
        await pause(steps)

    tasks = []
    asyncio.run(main())
    assert conductor[Base].journal == ["+base", "+upper", "-upper", "-base"]
    with conductor:
        pass


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("steps", STEPS)
def test_main_ends_beside_a_setup(conductor, steps):
    """What was set up is shut down, if nobody is told that all is up; and can be set up again."""

    async def main():
        tasks.append(asyncio.ensure_future(conductor.setup()))
        await pause(steps)

    tasks = []
    asyncio.run(main())
    assert tasks[0].cancelled()
    journal = conductor[Base].journal
    downs = [entry.replace("+", "-") for entry in journal if entry[0] == "+"][::-1]
    assert journal[len(downs) :] == downs
    with conductor:
        pass


@pytest.mark.parametrize("steps", STEPS)
def test_a_shutdown_that_fails_when_main_ends(conductor, steps):
    """That it has failed is raised, not that whoever waits for it was cancelled."""

    async def fail():
        await pause()
        raise OSError("stays open")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
        await conductor.setup()
        conductor[Upper].shutdown = fail
        tasks.append(asyncio.ensure_future(conductor.shutdown()))
        await pause(steps)

    tasks, told = [], []
    asyncio.run(main())
    assert isinstance(tasks[0].exception(), ComponentError)
    assert conductor[Base].journal[-1] == "-base"
    assert len(told) <= 1  # by asyncio, if the task had not ended before


@pytest.mark.parametrize("steps", STEPS)
def test_whoever_cancels_all_tasks(conductor, steps):
    """All is shut down; a component whose own code was cancelled by it is told of."""

    async def main():
        await conductor.setup()
        task = asyncio.ensure_future(conductor.shutdown())
        await pause(steps)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        await asyncio.wait({task})
        return task

    task = asyncio.run(main())
    missing = {"-upper", "-base"} - {*conductor[Base].journal}
    assert len(missing) <= 1
    assert not missing or isinstance(task.exception(), ComponentError)
    with conductor:
        pass


def shut_down_from_elsewhere(conductor, is_async):
    """Begin to shut down in another thread; return it, and what comes of it."""
    outcome = []

    def shut_down():
        try:
            outcome.append(asyncio.run(there()) if is_async else conductor.shutdown())
        except BaseException as error:
            outcome.append(error)

    async def there():
        await conductor.shutdown()

    thread = threading.Thread(target=shut_down, daemon=True)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_main_ends_beside_a_shutdown_from_elsewhere(is_async, fails):
    """Whoever shuts down in another thread is told what came of it, which is not cut off."""
    begun = []

    class Slow(Component):
        async def shutdown(self):
            begun[0].set()
            await pause(9)
            if fails:
                raise OSError("stays open")
            begun.append("down")

    async def main():
        begun.append(asyncio.Event())
        await conductor.setup()
        ends.extend(shut_down_from_elsewhere(conductor, is_async))
        await begun[0].wait()

    conductor, ends = Conductor(), []
    conductor.add(Slow)
    asyncio.run(main())
    thread, outcome = ends
    thread.join(20)
    assert not thread.is_alive()
    assert [type(each) for each in outcome] == [ComponentError if fails else type(None)]
    assert fails or begun[1:] == ["down"]


def test_who_waits_for_a_shutdown_elsewhere_is_cancelled():
    """What failed in the thread of a conductor is raised, though who waits was cancelled."""
    begun, may_end = threading.Event(), threading.Event()

    class Slow(Component):
        def shutdown(self):
            begun.set()
            may_end.wait(10)
            raise OSError("stays open")

    async def main():
        task = asyncio.ensure_future(conductor.shutdown())
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await pause()
        may_end.set()
        with pytest.raises(ComponentError, match="stays open"):
            await task

    conductor = Conductor()
    conductor.add(Slow)
    conductor.setup()
    asyncio.run(main())


def test_a_timeout_of_a_components_own():
    """The code of a component may cancel itself in its shutdown, also when the loop ends."""
    begun, outcome = [], []

    class Impatient(Component):
        async def shutdown(self):
            begun[0].set()
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                outcome.append("timed out")

    async def main():
        begun.append(asyncio.Event())
        await conductor.setup()
        tasks.append(asyncio.ensure_future(conductor.shutdown()))
        await begun[0].wait()

    conductor, tasks = Conductor(), []
    conductor.add(Impatient)
    asyncio.run(main())
    assert outcome == ["timed out"]


def test_a_shutdown_that_was_given_up_is_cancelled_when_main_ends(monkeypatch):
    """It does not keep the loop from ending if it heeds its second cancellation."""
    monkeypatch.setattr(calls, "GRACE", 0.02)
    cancels = []

    class Stubborn(Component):
        shutdown_timeout = 0.02

        async def shutdown(self):
            for _ in range(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancels.append(1)

    async def main():
        await conductor.setup()
        with pytest.raises(ComponentError):
            await conductor.shutdown()

    conductor = Conductor()
    conductor.add(Stubborn)
    asyncio.run(main())
    assert len(cancels) == 2


def test_ctrl_c_in_the_shutdown_of_a_server():
    """It cancels what shuts down in the server's own event loop, and does not wait for it."""
    journal = []

    class Slow(Component):
        def setup(self):
            self.fail(OSError("gone"))

        async def shutdown(self):
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            try:
                await asyncio.Event().wait()
            finally:
                journal.append("cancelled")

    conductor = Conductor()
    conductor.add(Slow)
    with pytest.raises(KeyboardInterrupt):
        conductor.serve()
    assert journal == ["cancelled"]


class CutOff:
    """A conductor whose event loop is closed while a method of a component runs, as by Ctrl-C."""

    def __init__(self, phase, is_async):
        self.journal, self.may_end = [], threading.Event()
        self.conductor = Conductor()
        self.component = self.conductor.add(self._component(phase, is_async))
        self.phase = phase
        self.begun = threading.Event()

    def _component(cut_off, phase, is_async):  # noqa: N805  # of which a component is made
        def note(what):
            cut_off.journal.append(what)
            if what == phase:
                cut_off.begun.set()
            return what == phase

        if is_async:

            class Slow(Component):
                async def setup(self):
                    if note("setup"):
                        await asyncio.Event().wait()

                async def shutdown(self):
                    if note("shutdown"):
                        await asyncio.Event().wait()

        else:

            class Slow(Component):
                def setup(self):
                    if note("setup"):
                        cut_off.may_end.wait(10)

                def shutdown(self):
                    if note("shutdown"):
                        cut_off.may_end.wait(10)

        return Slow

    @contextlib.contextmanager
    def closed(self):
        """Let a block run after the loop was closed."""
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._use())
        while not self.begun.is_set():
            loop.run_until_complete(pause())
        for each in asyncio.all_tasks(loop):
            each._log_destroy_pending = False
        loop.close()
        try:
            yield task
        finally:
            self.may_end.set()

    async def _use(self):
        await self.conductor.setup()
        await self.conductor.shutdown()


@pytest.mark.parametrize("is_async", [True, False])
def test_a_shutdown_after_a_loop_was_closed_in_the_middle_of_one(is_async):
    """It does not wait for what will never end, and tells which component was cut off."""
    cut_off = CutOff("shutdown", is_async)
    with cut_off.closed(), pytest.raises(ComponentError, match="closed in the middle of it"):
        cut_off.conductor.shutdown()
    assert cut_off.journal == ["setup", "shutdown"]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_shutdown_after_a_loop_was_closed_in_the_middle_of_a_setup(is_async):
    """It does not wait for that; a setup in a thread, which ends all the same, is undone."""
    cut_off = CutOff("setup", is_async)
    with cut_off.closed():
        cut_off.conductor.shutdown()
    for thread in threading.enumerate():
        if thread.name.endswith("-setup"):
            thread.join(10)
    assert cut_off.journal == (["setup"] if is_async else ["setup", "shutdown"])


def test_ctrl_c_while_a_loop_begins(monkeypatch):
    """No thread is left if an interrupt comes before the loop of a setup runs."""

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    names = {**vars(threading), "Event": Interrupted}
    monkeypatch.setattr(loops, "threading", SimpleNamespace(**names))
    with pytest.raises(KeyboardInterrupt):
        Conductor().setup()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_would_end_the_program(error, caplog):
    """In the thread of a conductor it ends nothing but itself, and is told of."""
    has_raised, goes_on = threading.Event(), threading.Event()

    class Background(Component):
        is_down = False

        async def setup(self):
            self.task = asyncio.ensure_future(self.run())

        async def run(self):
            self.loop.call_soon(has_raised.set)
            raise error("of a component's own")

        async def shutdown(self):
            self.is_down = True

    conductor = Conductor()
    background = conductor.add(Background)
    conductor.setup()
    assert has_raised.wait(10)
    background.loop.call_soon_threadsafe(goes_on.set)
    assert goes_on.wait(10)
    conductor.shutdown()
    assert background.is_down
    assert isinstance(background.task.exception(), error)
    assert "of a component's own" in caplog.text
