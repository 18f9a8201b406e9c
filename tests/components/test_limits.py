"""What hangs is given up at its limit, and looked after when it ends after all."""

import asyncio
import contextlib
import contextvars
import threading

import pytest

from m3 import Component, Conductor
from m3.components import ComponentError, calls
from m3.components.claims import place_of
from m3.errors import ComponentStateError, ComponentTimeoutError, ConductorError

SOON = 0.02


@pytest.fixture
def gate():
    """Return an event that hanging methods wait for; it is set at the end of the test."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def hanging(journal, gate):
    """Return a class whose setup hangs until the gate is opened."""

    class Hanging(journal.component("h")):
        setup_timeout = SOON

        def setup(self):
            self.thread = threading.current_thread()
            gate.wait()
            super().setup()

        def shutdown(self):
            assert threading.current_thread() is self.thread
            super().shutdown()

    return Hanging


def joined(component):
    """Wait until the thread of a hanging component has ended."""
    component.thread.join(10)
    assert not component.thread.is_alive()


def test_a_hanging_setup_is_given_up(journal, gate, hanging):
    """The others are shut down, and the error has the limit and where it hangs."""
    conductor = Conductor()
    h = conductor.add(hanging)
    conductor.add(journal.component("a"))
    with pytest.raises(ComponentTimeoutError, match=r"Hanging, in setup\(\): .*0.02 s") as info:
        conductor.setup()
    assert (info.value.component, info.value.phase, info.value.seconds) == (h, "setup", SOON)
    assert "gate.wait()" in info.value.stack
    assert isinstance(info.value, TimeoutError)
    assert journal.entries == ["+a", "-a"]


def test_a_setup_that_returns_after_its_limit_is_shut_down_then(journal, gate, hanging):
    """It is shut down in its own thread; until then, the instance cannot be set up again."""
    conductor = Conductor()
    h = conductor.add(hanging)
    with pytest.raises(ComponentTimeoutError):
        conductor.setup()
    with pytest.raises(ComponentStateError, match="still in a call that was given up"):
        conductor.setup()
    gate.set()
    joined(h)
    assert journal.entries == ["+h", "-h"]
    assert place_of(h) is None


def test_a_late_setup_that_raises_is_not_shut_down(journal, gate, hanging):
    """It was never up."""

    class Raising(hanging):
        def setup(self):
            super().setup()
            raise ValueError

    conductor = Conductor()
    h = conductor.add(Raising)
    with pytest.raises(ComponentTimeoutError):
        conductor.setup()
    gate.set()
    joined(h)
    assert journal.entries == ["+h"]
    assert place_of(h) is None


def test_a_late_coroutine_is_shut_down_too(journal, monkeypatch):
    """One that has swallowed its cancellation, and is up long after."""
    monkeypatch.setattr(calls, "GRACE", SOON)
    may_end = None

    class Stubborn(Component):
        setup_timeout = SOON

        async def setup(self):
            while not may_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await may_end.wait()
            journal.entries.append("+s")

        async def shutdown(self):
            journal.entries.append("-s")
            is_down.set()

    async def main():
        nonlocal may_end, is_down
        may_end, is_down = asyncio.Event(), asyncio.Event()
        conductor = Conductor()
        stubborn = conductor.add(Stubborn)
        with pytest.raises(ComponentTimeoutError):
            await conductor.setup()
        assert journal.entries == []
        may_end.set()
        await is_down.wait()
        await asyncio.sleep(0)
        assert place_of(stubborn) is None

    is_down = None
    asyncio.run(main())
    assert journal.entries == ["+s", "-s"]


def check_twice(conductor):
    """Ask a component twice that does not answer; it is asked once."""
    assert "took longer" in str(conductor.health(SOON)["Checked"])
    assert "has not ended yet" in str(conductor.health(SOON)["Checked"])


def test_a_hanging_check_does_not_keep_a_component_from_its_shutdown(journal, gate):
    """And no second check is begun beside it."""

    class Checked(journal.component("c")):
        def health(self):
            journal.entries.append("?")
            gate.wait()

    conductor = Conductor()
    conductor.add(Checked)
    with conductor:
        check_twice(conductor)
    gate.set()
    assert journal.entries == ["+c", "?", "-c"]


@pytest.mark.parametrize("is_decorated", [False, True])
def test_a_check_that_ignores_being_cancelled(journal, gate, monkeypatch, is_decorated):
    """The same with a coroutine, also one that a plain method returns."""
    monkeypatch.setattr(calls, "GRACE", SOON)

    async def stubborn(_):
        journal.entries.append("?")
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)

    def plain(self):
        return stubborn(self)

    class Checked(journal.component("c")):
        pass

    Checked.health = plain if is_decorated else stubborn
    conductor = Conductor()
    conductor.add(Checked)
    with conductor:
        check_twice(conductor)
        gate.set()
    assert journal.entries == ["+c", "?", "-c"]


def test_a_late_setup_with_an_async_shutdown(journal, gate):
    """The coroutine runs in that thread."""

    class Mixed(Component):
        setup_timeout = SOON

        def setup(self):
            self.thread = threading.current_thread()
            gate.wait()

        async def shutdown(self):
            await asyncio.sleep(0)
            journal.entries.append(threading.current_thread())

    conductor = Conductor()
    mixed = conductor.add(Mixed)
    with pytest.raises(ComponentTimeoutError):
        conductor.setup()
    gate.set()
    joined(mixed)
    assert journal.entries == [mixed.thread]


def test_a_hanging_coroutine_is_cancelled(journal):
    """It gets CancelledError where it is."""

    class Hanging(journal.component("h")):
        setup_timeout = SOON

        async def setup(self):
            try:
                await asyncio.Event().wait()
            finally:
                journal.entries.append("cancelled")

    conductor = Conductor()
    conductor.add(Hanging)
    with pytest.raises(ComponentTimeoutError, match=r"await asyncio\.Event\(\)\.wait\(\)"):
        conductor.setup()
    assert journal.entries == ["cancelled"]


def test_a_coroutine_that_sets_up_although_cancelled_is_shut_down(journal):
    """It was late, and it is up: so it is stopped with the others."""

    class Stubborn(Component):
        setup_timeout = SOON

        async def setup(self):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                journal.entries.append("+s")

        async def shutdown(self):
            journal.entries.append("-s")

    conductor = Conductor()
    conductor.add(Stubborn)
    with pytest.raises(ComponentTimeoutError):
        conductor.setup()
    assert journal.entries == ["+s", "-s"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hanging_shutdown_is_given_up(journal, gate, is_async):
    """What it needs is shut down all the same."""

    class Plain(Component):
        shutdown_timeout = SOON

        def shutdown(self):
            gate.wait()

    class Async(Component):
        shutdown_timeout = SOON

        async def shutdown(self):
            await asyncio.Event().wait()

    hanging = Async if is_async else Plain
    hanging.__annotations__ = {"a": journal.component("a")}
    conductor = Conductor()
    conductor.add(hanging)
    conductor.setup()
    with pytest.raises(ComponentTimeoutError, match=r"in shutdown\(\)"):
        conductor.shutdown()
    assert journal.entries == ["+a", "-a"]


def test_no_limit(journal):
    """None lets it take any time."""

    class Unlimited(journal.component("a")):
        setup_timeout = None
        shutdown_timeout = None

    conductor = Conductor()
    conductor.add(Unlimited)
    with conductor:
        pass
    assert journal.entries == ["+a", "-a"]


def test_hanging_ones_keep_nobody_else_from_running(journal, gate, hanging):
    """A hundred of them hang, each in a thread of its own, and the others start."""
    conductor = Conductor()
    for number in range(100):
        conductor.add(hanging, name=f"h{number}")
    conductor.add(journal.component("a"))
    with pytest.raises(ConductorError) as info:
        conductor.setup()
    assert len(info.value.exceptions) == 100
    assert journal.entries == ["+a", "-a"]
    gate.set()
    for number in range(100):
        joined(conductor[f"h{number}"])


def test_cancelling_a_setup_rolls_back(journal):
    """In code with an event loop, it is cancelled as any coroutine, and shuts down what is up."""

    class Slow(Component):
        a: journal.component("a")

        async def setup(self):
            begun.set()
            await asyncio.Event().wait()

    async def main():
        nonlocal begun
        begun = asyncio.Event()
        conductor = Conductor()
        conductor.add(Slow)
        setting_up = asyncio.ensure_future(conductor.setup())
        await begun.wait()
        setting_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await setting_up
        assert journal.entries == ["+a", "-a"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await conductor.shutdown()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await conductor.setup()
        assert journal.entries == ["+a", "-a"] * 2

    begun = None
    asyncio.run(main())


def test_shutdown_during_a_setup(journal, gate):
    """Another thread ends a start: what is up is shut down, and setup says why it failed."""
    begun = threading.Event()

    class Slow(Component):
        a: journal.component("a")

        def setup(self):
            begun.set()
            gate.wait()

        def shutdown(self):
            journal.entries.append("-slow")

    conductor = Conductor()
    conductor.add(Slow)

    def shut_down():
        begun.wait()
        opening.start()
        conductor.shutdown()

    opening = threading.Thread(target=gate.set)
    other = threading.Thread(target=shut_down)
    other.start()
    try:
        conductor.setup()
    except ComponentStateError as error:
        assert "while it was being set up" in str(error)  # noqa: PT017  # or it was all up already
    other.join()
    opening.join()
    assert journal.entries == ["+a", "-slow", "-a"]


def test_shutdown_during_an_async_setup(journal):
    """The coroutine is cancelled; that is no failure of its component, and setup says why."""
    begun = threading.Event()

    class Slow(Component):
        a: journal.component("a")

        async def setup(self):
            begun.set()
            await asyncio.Event().wait()

    def shut_down():
        begun.wait()
        conductor.shutdown()

    conductor = Conductor()
    conductor.add(Slow)
    other = threading.Thread(target=shut_down)
    other.start()
    with pytest.raises(ComponentStateError, match="while it was being set up"):
        conductor.setup()
    other.join()
    assert journal.entries == ["+a", "-a"]


@pytest.mark.parametrize("phase", ["setup", "health", "shutdown"])
@pytest.mark.parametrize("how", ["plain", "async", "decorated", "task", "to_thread"])
def test_a_component_cannot_shut_down_what_waits_for_it(phase, how):
    """It would wait for itself, and without a limit for ever: refused at once; stop() is not."""
    refusals = []

    def plain(self):
        try:
            conductor.shutdown()
        except ComponentStateError as error:
            refusals.append(str(error))

    async def coroutine(self):
        with pytest.raises(ComponentStateError) as info:
            if how in ("async", "decorated"):
                await conductor.shutdown()
            elif how == "task":
                await asyncio.wait_for(asyncio.create_task(conductor.shutdown()), 60)
            else:
                await asyncio.to_thread(conductor.shutdown)
        refusals.append(str(info.value))

    def decorated(self):
        return coroutine(self)

    limits = {"setup_timeout": None, "shutdown_timeout": None}
    method = {"plain": plain, "decorated": decorated}.get(how, coroutine)
    conductor = Conductor()
    conductor.add(type("A", (Component,), {phase: method, **limits}))
    with conductor:
        conductor.health(None)
    assert len(refusals) == 1
    assert f"shutdown() in {phase}() of A" in refusals[0]


def test_a_component_may_shut_down_what_does_not_wait_for_it(journal):
    """Another conductor, or its own in what it has begun and does not wait for any longer."""
    inner, outer = Conductor(), Conductor()
    inner.add(journal.component("a"))
    is_up = threading.Event()

    def later():
        is_up.wait()
        outer.shutdown()

    class User(journal.component("b")):
        async def setup(self):
            await asyncio.to_thread(inner.setup)
            await asyncio.to_thread(inner.shutdown)
            run = contextvars.copy_context().run
            self.ending = threading.Thread(target=run, args=(later,))
            self.ending.start()
            super().setup()

    user = outer.add(User)
    outer.setup()
    is_up.set()
    user.ending.join()
    assert journal.entries == ["+a", "-a", "+b", "-b"]


def test_nested_conductors_cannot_shut_down_the_outer_one():
    """Who is called by somebody who is waited for is waited for as well."""
    inner, outer = Conductor(), Conductor()
    refusals = []

    class Inner(Component):
        def setup(self):
            with pytest.raises(ComponentStateError) as info:
                outer.shutdown()
            refusals.append(str(info.value))

    class Outer(Component):
        setup_timeout = None

        def setup(self):
            with inner:
                pass

    inner.add(Inner)
    outer.add(Outer)
    with outer:
        assert "shutdown() in setup() of Outer" in refusals[0]


def test_health(journal, gate):
    """All are checked at once, each within a limit; the answer says what is wrong with which."""

    class Fine(Component):
        async def health(self):
            pass

    class Unwell(Component):
        def health(self):
            raise ValueError("too hot")

    class Hanging(Component):
        def health(self):
            gate.wait()

    conductor = Conductor()
    for component in (Fine, Unwell, Hanging, journal.component("silent")):
        conductor.add(component)
    with pytest.raises(ComponentStateError, match="before setup"):
        conductor.health()

    async def main():
        return await conductor.health(SOON)

    with conductor:
        for answer in (conductor.health(timeout=SOON), asyncio.run(main())):
            assert list(answer) == ["Fine", "Unwell", "Hanging", "silent"]
            assert (answer["Fine"], answer["silent"]) == (None, None)
            assert isinstance(answer["Unwell"], ComponentError)
            assert isinstance(answer["Hanging"], ComponentError)
            assert "too hot" in str(answer["Unwell"])
        gate.set()
