"""Components that fail while they are in use are started again, or end what they are used by."""

import asyncio
import contextlib
import threading

import pytest

from m3 import Backoff, Component, Conductor
from m3.components import ComponentError
from m3.components.supervision import Clock
from m3.errors import ConductorError


class ClockByHand(Clock):
    """A clock that goes forward when a test says so."""

    def __init__(self):
        self._now = 1000.0
        self._sleeping = []
        self._changed = threading.Condition()

    def monotonic(self):
        return self._now

    async def sleep(self, seconds):
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        with self._changed:
            self._sleeping.append((self._now + seconds, loop, woken))
            self._changed.notify_all()
        await woken

    def go_to_next(self):
        """Wait until somebody sleeps, wake the first who is to wake up, return how long it was."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._sleeping, 10)
            self._sleeping.sort(key=lambda sleeper: sleeper[0])
            until, loop, woken = self._sleeping.pop(0)
            slept, self._now = until - self._now, max(self._now, until)
            loop.call_soon_threadsafe(lambda: woken.done() or woken.set_result(None))
        return slept

    def pass_by(self, seconds):
        """Go forward while nobody is to wake up."""
        self._now += seconds


class Supervised(Component):
    """Writes down what is done with it, and lets a test wait for that."""

    restart = "on_failure"
    backoff = Backoff(initial=1, maximum=4, jitter=False, max_elapsed=60)

    def __init__(self):
        self.entries = []
        self.setup_errors = []
        self._changed = threading.Condition()

    def _write(self, entry):
        with self._changed:
            self.entries.append(entry)
            self._changed.notify_all()

    def wait_for(self, *entries):
        """Wait until all these, and no others, are written."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.entries) >= len(entries), 10)
            assert self.entries == list(entries)

    def setup(self):
        self._write("+")
        if self.setup_errors:
            raise self.setup_errors.pop(0)

    def shutdown(self):
        self._write("-")


class User(Component):
    needed: Supervised


@pytest.fixture
def clock():
    return ClockByHand()


@pytest.fixture
def told():
    """Return a list that says when something was added to it."""

    class Told(list):
        def __init__(self):
            super().__init__()
            self.has_some = threading.Event()

        def append(self, error):
            super().append(error)
            self.has_some.set()

    return Told()


@pytest.fixture
def start(clock, told):
    """Return a function that sets a component up with the clock, and returns its conductor."""
    conductors = []

    def start(component, *, on_failure=told.append):
        conductor = Conductor(on_failure=on_failure)
        conductor._clock = clock
        conductor.add(component)
        conductor.add(User)
        conductor.setup()
        conductors.append(conductor)
        return conductor

    yield start
    for conductor in conductors:
        conductor.shutdown()


def state_of(conductor, name):
    return next(node.state for node in conductor.graph().nodes if node.name == name)


def wait_for_state(conductor, name, state):
    """Wait for a state that nothing else tells of."""
    waiting = threading.Event()
    for _ in range(10_000):
        if state_of(conductor, name) == state:
            return
        waiting.wait(0.001)
    raise AssertionError(f"{name} is {state_of(conductor, name)}")


def test_restart_in_place(clock, start, told):
    """It is shut down at once and set up after a while; who needs it keeps the same instance."""
    component = Supervised()
    conductor = start(component)
    component.fail(OSError("connection lost"))
    component.wait_for("+", "-")
    assert clock.go_to_next() == 1
    component.wait_for("+", "-", "+")
    wait_for_state(conductor, "Supervised", "started")
    assert conductor[User].needed is component
    assert told == []


def test_failures_in_a_row_wait_longer(clock, start, told):
    """Also those of the setup; the times are those of the backoff."""
    component = Supervised()
    conductor = start(component)
    component.setup_errors = [OSError(), OSError(), OSError()]
    component.fail(OSError())
    assert [clock.go_to_next() for _ in range(4)] == [1, 2, 4, 4]
    component.wait_for("+", "-", "+", "+", "+", "+")
    wait_for_state(conductor, "Supervised", "started")
    assert told == []


def test_a_failure_soon_after_a_restart_is_in_the_row(clock, start):
    """What works for the longest time of its backoff begins anew with its next failure."""
    component = Supervised()
    conductor = start(component)
    slept = []
    for up in (3, 5, 0):
        component.fail(OSError())
        slept.append(clock.go_to_next())
        wait_for_state(conductor, "Supervised", "started")
        clock.pass_by(up)
    assert slept == [1, 2, 1]


def test_given_up(clock, start, told):
    """No attempt begins after max_elapsed; then on_failure is told, with the last cause."""
    component = Supervised()
    component.backoff = Backoff(initial=1, factor=1, jitter=False, max_elapsed=2.5)
    conductor = start(component)
    component.setup_errors = [OSError("first"), OSError("second")]
    component.fail(OSError())
    assert [clock.go_to_next() for _ in range(2)] == [1, 1]
    assert told.has_some.wait(10)
    assert "in setup(): OSError: second" in str(told[0])
    assert told[0].__notes__ == ["given up after 3 failures in a row"]
    assert component.entries == ["+", "-", "+", "+"]
    assert state_of(conductor, "Supervised") == "failed"
    conductor.shutdown()
    assert component.entries == ["+", "-", "+", "+"]


def test_never(start, told):
    """A component that is not to be restarted stays up to the end, and the failure is told."""

    class Never(Supervised):
        restart = "never"

    component = Never()
    conductor = start(component)
    component.fail(OSError("lost"))
    assert told.has_some.wait(10)
    assert str(told[0]) == "component Never, in use: OSError: lost"
    assert (told[0].component, told[0].phase) == (component, "use")
    assert conductor.health()["Never"] is told[0]
    component.fail(OSError("again"))
    conductor.shutdown()
    assert len(told) == 1
    assert component.entries == ["+", "-"]


def test_without_anybody_to_tell(start):
    """shutdown() raises what nobody was told."""

    class Never(Supervised):
        restart = "never"

    component = Never()
    conductor = start(component, on_failure=None)
    component.fail(OSError("lost"))
    wait_for_state(conductor, "Never", "failed")
    with pytest.raises(ComponentError, match="in use: OSError: lost"):
        conductor.shutdown()


def test_on_failure_may_raise(start):
    """Both errors are raised by shutdown()."""

    class Never(Supervised):
        restart = "never"

    def on_failure(error):
        raise KeyError

    component = Never()
    conductor = start(component, on_failure=on_failure)
    component.fail(OSError("lost"))
    wait_for_state(conductor, "Never", "failed")
    with pytest.raises(ConductorError) as info:
        conductor.shutdown()
    assert [type(error) for error in info.value.exceptions] == [ComponentError, KeyError]


@pytest.mark.parametrize("is_async", [False, True])
def test_health_is_asked_for(clock, start, told, is_async):
    """Every health_interval; what it raises is a failure."""

    class Plain(Supervised):
        health_interval = 0.5
        unwell = ()

        def health(self):
            self._write("?")
            for error in self.unwell:
                raise error

    class Async(Plain):
        async def health(self):
            super().health()

    component = Async() if is_async else Plain()
    conductor = start(component)
    assert clock.go_to_next() == 0.5
    component.wait_for("+", "?")
    component.unwell = [ValueError("too hot")]
    assert clock.go_to_next() == 0.5
    component.wait_for("+", "?", "?", "-")
    component.unwell = ()
    while state_of(conductor, type(component).__name__) != "started":
        clock.go_to_next()
    assert component.entries[:5] == ["+", "?", "?", "-", "+"]
    assert told == []


def test_shutdown_while_it_waits(start):
    """It is not started again, and not shut down twice."""
    component = Supervised()
    conductor = start(component)
    component.fail(OSError())
    component.wait_for("+", "-")
    conductor.shutdown()
    assert component.entries == ["+", "-"]


@pytest.mark.parametrize("fails", [False, True])
def test_shutdown_while_it_is_restarted(clock, start, fails):
    """The restart in progress is let finish, and it is shut down if that went well."""
    may_go_on = threading.Event()

    class Slow(Supervised):
        def setup(self):
            super().setup()
            if self.entries.count("+") == 2:
                may_go_on.wait(10)
                if fails:
                    raise OSError

    component = Slow()
    conductor = start(component)
    component.fail(OSError())
    clock.go_to_next()
    component.wait_for("+", "-", "+")
    stopping = threading.Thread(target=conductor.shutdown)
    stopping.start()
    may_go_on.set()
    stopping.join()
    assert component.entries == (["+", "-", "+"] if fails else ["+", "-", "+", "-"])


def test_a_failure_during_the_start(clock, start):
    """It is looked after as soon as all are up."""

    class Early(Supervised):
        def setup(self):
            super().setup()
            if len(self.entries) == 1:
                self.fail(OSError())

    component = Early()
    start(component)
    clock.go_to_next()
    component.wait_for("+", "-", "+")


def test_a_failure_during_a_start_that_fails(journal):
    """Every cause is raised."""

    class Early(Component):
        def setup(self):
            self.fail(OSError("lost"))

    conductor = Conductor()
    conductor.add(journal.component("b", fails="setup", early=Early))
    with pytest.raises(ConductorError) as info:
        conductor.setup()
    assert sorted(error.phase for error in info.value.exceptions) == ["setup", "use"]


def test_a_failure_while_it_is_not_in_use(caplog):
    """It is logged, for there is nobody to tell."""
    component = Supervised()
    component.fail(OSError("lost"))
    assert "failed while it was not in use: lost" in caplog.text


def test_a_hung_setup_is_not_started_beside_itself(clock, start, told):
    """While a setup that was given up still runs, each further attempt fails."""
    may_go_on = threading.Event()

    class Hanging(Supervised):
        setup_timeout = None

        def setup(self):
            super().setup()
            if len(self.entries) == 3:
                self.thread = threading.current_thread()
                may_go_on.wait(10)

    component = Hanging()
    component.backoff = Backoff(initial=1, factor=1, jitter=False, max_elapsed=2.5)
    start(component)
    component.setup_timeout = 0.02
    component.fail(OSError())
    assert [clock.go_to_next() for _ in range(2)] == [1, 1]
    assert told.has_some.wait(10)
    assert "an earlier call of it was given up" in str(told[0])
    component.wait_for("+", "-", "+")
    may_go_on.set()
    component.thread.join()
    component.wait_for("+", "-", "+", "-")


def test_in_the_callers_loop(clock, told):
    """The same in code with an event loop."""

    async def main():
        conductor = Conductor(on_failure=told.append)
        conductor._clock = clock
        component = conductor.add(Supervised)
        async with conductor:
            component.fail(OSError())
            await asyncio.to_thread(component.wait_for, "+", "-")
            await asyncio.to_thread(clock.go_to_next)
            await asyncio.to_thread(component.wait_for, "+", "-", "+")
        assert component.entries == ["+", "-", "+", "-"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert told == []


def test_the_clock_is_that_of_the_system():
    """Without a test, seconds are seconds."""
    clock = Clock()
    before = clock.monotonic()
    asyncio.run(clock.sleep(0.001))
    assert clock.monotonic() >= before + 0.001


@pytest.mark.parametrize("is_up", [False, True])
@pytest.mark.parametrize("what", ["gone", OSError, None])
def test_a_failure_is_an_exception(is_up, what):
    """Anything else is refused in every state, with what to write instead."""

    class Feed(Component):
        pass

    conductor = Conductor()
    feed = conductor.add(Feed)
    told = r"Feed\(\)>.fail\(.*\): give it an exception"
    with conductor if is_up else contextlib.nullcontext(), pytest.raises(TypeError, match=told):
        feed.fail(what)
