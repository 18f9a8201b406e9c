"""Components start after what they need, and stop before it."""

import asyncio
import threading
import types
from dataclasses import dataclass

import pytest

from m3 import Component, Conductor
from m3.components import CircularDependencyError, ComponentError
from m3.errors import ComponentStateError, ConductorError, ResourceError


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def diamond(journal, request):
    """D needs B and C, which both need A; one of them is of the other kind."""
    a = journal.component("a", is_async=request.param)
    b = journal.component("b", a=a, is_async=request.param)
    c = journal.component("c", a=a, is_async=not request.param)
    return journal.component("d", b=b, c=c, is_async=request.param)


def started_in_order(entries):
    return entries in (["+a", "+b", "+c", "+d"], ["+a", "+c", "+b", "+d"])


def stopped_in_order(entries):
    return entries in (["-d", "-b", "-c", "-a"], ["-d", "-c", "-b", "-a"])


def test_blocking(journal, diamond):
    """In code without an event loop, setup and shutdown block, and no thread is left."""
    before = threading.enumerate()
    conductor = Conductor()
    d = conductor.add(diamond)
    conductor.setup()
    assert started_in_order(journal.entries)
    assert d.b.a is d.c.a
    conductor.shutdown()
    assert stopped_in_order(journal.entries[4:])
    assert threading.enumerate() == before


def test_awaited(journal, diamond):
    """In code with an event loop, they are awaited and run there; no task is left."""

    async def main():
        conductor = Conductor()
        d = conductor.add(diamond)
        await conductor.setup()
        assert started_in_order(journal.entries)
        assert d.loop is asyncio.get_running_loop()
        await conductor.shutdown()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert stopped_in_order(journal.entries[4:])


def test_with_statements(journal, diamond):
    """``with`` blocks also where an event loop runs; ``async with`` uses that."""
    conductor = Conductor()
    d = conductor.add(diamond)

    async def main():
        async with conductor as entered:
            assert entered is conductor
            assert d.loop is asyncio.get_running_loop()
        with conductor:
            assert d.loop is not asyncio.get_running_loop()

    asyncio.run(main())
    assert started_in_order(journal.entries[:4])
    assert started_in_order(journal.entries[8:12])
    assert stopped_in_order(journal.entries[12:])


@pytest.mark.parametrize("is_async", [False, True])
def test_independent_components_start_and_stop_at_once(is_async):
    """Each waits in its setup, and in its shutdown, until all the others are there too."""
    meeting = threading.Barrier(3) if not is_async else asyncio.Barrier(3)

    class Plain(Component):
        def setup(self):
            meeting.wait(10)

        def shutdown(self):
            meeting.wait(10)

    class Async(Component):
        async def setup(self):
            await meeting.wait()

        async def shutdown(self):
            await meeting.wait()

    kind = Async if is_async else Plain
    conductor = Conductor()
    for number in range(3):
        conductor.add(type(f"C{number}", (kind,), {}))
    with conductor:
        pass


@pytest.mark.parametrize("is_async", [False, True])
def test_failing_setup_rolls_back(journal, is_async):
    """Exactly what was set up is shut down, in reverse, and the error says which one failed."""
    a = journal.component("a", is_async=is_async)
    b = journal.component("b", a=a, fails="setup", is_async=is_async)
    c = journal.component("c", b=b)
    conductor = Conductor()
    conductor.add(c)
    with pytest.raises(ComponentError, match=r"component b, in setup\(\): ValueError: b") as info:
        conductor.setup()
    assert (info.value.component, info.value.phase) == (conductor[b], "setup")
    assert isinstance(info.value.__cause__, ValueError)
    assert journal.entries == ["+a", "+b", "-a"]


def test_when_one_fails_those_in_progress_end_and_nothing_begins(journal):
    """One that is being set up when another fails is let finish, and then shut down."""
    has_failed = threading.Event()

    class Failing(journal.component("failing")):
        def setup(self):
            assert both_begun.wait(10)
            raise ValueError

    both_begun = threading.Event()

    class Slow(journal.component("slow")):
        def setup(self):
            both_begun.set()
            while conductor.graph().nodes[0].state == "starting":  # until the other has failed
                has_failed.wait(0.001)
            super().setup()

    conductor = Conductor()
    conductor.add(Failing)
    conductor.add(Slow)
    conductor.add(journal.component("later", slow=Slow))
    with pytest.raises(ComponentError, match="Failing"):
        conductor.setup()
    assert journal.entries == ["+slow", "-slow"]


def test_all_causes_are_raised(journal):
    """Two failing setups and a failing shutdown of the rollback are one group."""
    meeting = threading.Barrier(2)

    class Failing(Component):
        def setup(self):
            meeting.wait(10)
            raise ValueError

    conductor = Conductor()
    a = journal.component("a", fails="shutdown")
    conductor.add(type("B", (Failing,), {"__annotations__": {"a": a}}))
    conductor.add(type("C", (Failing,), {"__annotations__": {"a": a}}))
    with pytest.raises(ConductorError, match="3 components could not be set up") as info:
        conductor.setup()
    failed = [(type(error.component).__name__, error.phase) for error in info.value.exceptions]
    assert sorted(failed) == [("B", "setup"), ("C", "setup"), ("a", "shutdown")]
    of_setup, of_shutdown = info.value.split(lambda error: getattr(error, "phase", "") == "setup")
    assert (type(of_setup), type(of_shutdown)) == (ConductorError, ConductorError)


def test_a_failing_shutdown_stops_nobody_elses(journal):
    """All others are shut down, and the error is raised at the end, once."""
    a = journal.component("a")
    b = journal.component("b", a=a, fails="shutdown")
    conductor = Conductor()
    conductor.add(b)
    conductor.setup()
    with pytest.raises(ComponentError, match=r"component b, in shutdown\(\): ValueError"):
        conductor.shutdown()
    assert journal.entries == ["+a", "+b", "-b", "-a"]
    conductor.shutdown()
    assert len(journal.entries) == 4


def test_an_error_of_the_body_is_kept(journal):
    """What the body of a with statement raises is raised, with the shutdown's error as a note."""
    conductor = Conductor()
    conductor.add(journal.component("a", fails="shutdown"))
    with pytest.raises(KeyError) as info, conductor:
        raise KeyError
    assert ["a, in shutdown(): ValueError" in note for note in info.value.__notes__] == [True]


def test_shutdown_is_idempotent(journal):
    """Before a setup, after a shutdown, and after a failed setup there is nothing to do."""
    conductor = Conductor()
    conductor.shutdown()
    conductor.add(journal.component("a"))
    conductor.setup()
    conductor.shutdown()
    conductor.shutdown()
    conductor.add(journal.component("b", fails="setup"))
    with pytest.raises(ComponentError):
        conductor.setup()
    conductor.shutdown()
    assert [journal.entries.count(entry) for entry in ("-a", "-b")] == [2, 0]


def test_setup_after_shutdown(journal):
    """The same instances are set up again; twice at once they are not."""
    conductor = Conductor()
    a = conductor.add(journal.component("a"))
    for _ in range(3):
        with conductor:
            assert conductor[type(a)] is a
            with pytest.raises(ComponentStateError, match="set up already"):
                conductor.setup()
    assert journal.entries == ["+a", "-a"] * 3


def test_cycles_are_refused_with_the_whole_chain(journal):
    """Nothing starts; the error has the chain from what was added to what comes again."""
    a = journal.component("a")
    b = journal.component("b", a=a)
    a.__annotations__["b"] = b
    c = journal.component("c", b=b)
    d = journal.component("d")
    conductor = Conductor()
    conductor.add(d)
    conductor.add(c)
    with pytest.raises(CircularDependencyError, match="c -> b -> a -> b: ") as info:
        conductor.setup()
    assert info.value.args == (conductor[c], conductor[b], conductor[a], conductor[b])
    assert isinstance(info.value, ComponentError | ValueError)
    assert journal.entries == []


def test_a_component_that_needs_itself_is_refused(journal):
    """It is the shortest of all circles."""
    a = journal.component("a")
    a.__annotations__["me"] = a
    conductor = Conductor()
    conductor.add(a)
    with pytest.raises(CircularDependencyError, match="a -> a: ") as info:
        conductor.setup()
    assert info.value.args == (conductor[a], conductor[a])


def test_a_long_chain(journal):
    """Two thousand components that need one another are no problem for the stack."""
    below = journal.component("c0")
    for number in range(1, 2000):
        below = journal.component(f"c{number}", is_async=True, below=below)
    conductor = Conductor()
    conductor.add(below)
    with conductor:
        assert journal.entries == [f"+c{number}" for number in range(2000)]
        assert conductor.graph().text().count("\n") == 1999


def test_depends_on_and_required_by(journal):
    """While components are up, each knows its neighbours; after that, nobody does."""
    a = journal.component("a")
    b, c = journal.component("b", a=a), journal.component("c", a=a)
    d = journal.component("d", b=b, c=c)
    conductor = Conductor()
    conductor.add(d)
    with conductor:
        a, b, c, d = (conductor[kind] for kind in (a, b, c, d))
        assert [each.depends_on for each in (a, b, c, d)] == [set(), {a}, {a}, {b, c}]
        assert [each.required_by for each in (a, b, c, d)] == [{b, c}, {d}, {d}, set()]
    assert [each.depends_on | each.required_by for each in (a, b, c, d)] == [set()] * 4


@dataclass
class Settings(Component):
    url: str = "x"


def test_neighbours_without_a_hash():
    """A dataclass is compared by value and has no hash; each instance is a neighbour of its own."""

    class User(Component):
        source: Settings
        target: Settings

    source, target = Settings(), Settings()
    conductor = Conductor()
    conductor.add(source, name="source")
    conductor.add(target, name="target")
    user = conductor.add(User)
    with conductor:
        assert source in user.depends_on
        assert sorted(map(id, user.depends_on)) == sorted(map(id, [source, target]))
        assert source.required_by == target.required_by == {user}
        assert Settings() not in user.depends_on
        assert len(user.depends_on | source.required_by) == 3
        assert "url='x'" in repr(user.depends_on)
    assert user.depends_on == frozenset()


def test_methods_that_are_decorated_coroutines():
    """A plain method that returns an awaitable is awaited."""
    done = []

    async def coroutine(word):
        await asyncio.sleep(0)
        done.append(word)

    class A(Component):
        def setup(self):
            return coroutine("setup")

        def shutdown(self):
            return coroutine("shutdown")

    conductor = Conductor()
    conductor.add(A)
    with conductor:
        assert done == ["setup"]
    assert done == ["setup", "shutdown"]


@pytest.mark.parametrize("phase", ["setup", "shutdown", "health"])
@pytest.mark.parametrize("is_async", [False, True])
def test_methods_that_would_not_run(journal, phase, is_async):
    """One with a ``yield`` does nothing when it is called: refused before anything starts."""

    def plain(self):
        yield

    async def coroutine(self):
        yield

    conductor = Conductor()
    method = coroutine if is_async else plain
    generating = type("Generating", (journal.component("a"),), {phase: method})
    conductor.add(journal.component("b", it=generating, first=journal.component("c")))
    with pytest.raises(ResourceError, match=rf"Generating\.{phase}\(\) has a yield"):
        conductor.setup()
    with pytest.raises(ResourceError):
        conductor.graph()
    assert journal.entries == []


def test_methods_that_return_what_would_not_run(journal):
    """Where only the call tells, it is an error of the component."""

    class Decorated(Component):
        a: journal.component("a")

        def setup(self):
            return (number for number in range(3))

    conductor = Conductor()
    conductor.add(Decorated)
    with pytest.raises(ComponentError, match=r"in setup\(\): TypeError: it returned a generator"):
        conductor.setup()
    assert journal.entries == ["+a", "-a"]


def test_coroutines_in_the_old_style():
    """A function of ``types.coroutine`` has a ``yield`` and is awaited."""
    done = []

    class Old(Component):
        @types.coroutine
        def setup(self):
            yield from asyncio.sleep(0).__await__()
            done.append("setup")

    conductor = Conductor()
    conductor.add(Old)
    with conductor:
        assert done == ["setup"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_setup_may_raise_anything(journal, error, is_async):
    """Also what is no Exception ends the start of all, as the cause of a ComponentError."""

    class Plain(Component):
        def setup(self):
            raise error

    class Async(Component):
        async def setup(self):
            raise error

    conductor = Conductor()
    failing = Async if is_async else Plain
    failing.__annotations__ = {"a": journal.component("a")}
    conductor.add(failing)
    with pytest.raises(ComponentError) as info:
        conductor.setup()
    assert info.value.__cause__ is error
    assert journal.entries == ["+a", "-a"]
