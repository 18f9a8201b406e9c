"""Several conductors, any thread, any event loop; and nothing that is left."""

import asyncio
import gc
import logging
import sys
import threading
import weakref

import pytest

from m3 import Component, Conductor
from m3.errors import ComponentError, ComponentStateError, ConductorError


@pytest.fixture(params=[None, 1e-6], ids=["", "switching"], autouse=True)
def switch_interval(request):
    """Run each test also with threads that are switched all the time."""
    before = sys.getswitchinterval()
    if request.param is not None:
        sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


def in_threads(*functions):
    """Call functions in threads, all at once; return what they return, or raise."""
    results = {}
    together = threading.Barrier(len(functions))

    def call(number):
        together.wait()
        try:
            results[number] = functions[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(functions))]


FAILURES = (ComponentError, ConductorError)


class Base(Component):
    async def setup(self):
        await asyncio.sleep(0)


class Upper(Component):
    base: Base

    def setup(self):
        assert self.base is not None


def test_conductors_in_many_threads():
    """Each has its own instances and its own loop."""

    def use():
        conductor = Conductor()
        upper = conductor.add(Upper)
        for _ in range(3):
            with conductor:
                assert conductor[Base] is upper.base
        return upper.base

    bases = in_threads(*[use] * 8)
    assert len(set(map(id, bases))) == 8
    assert {type(base) for base in bases} == {Base}


def test_one_instance_in_two_conductors():
    """The second setup is refused, and starts nothing; afterwards it is free again."""
    shared = Base()
    first, second = Conductor(), Conductor()
    first.add(shared)
    second.add(shared)
    upper = second.add(Upper)
    with first:
        with pytest.raises(ComponentStateError, match=r"Base.*set up by another conductor"):
            second.setup()
        assert not hasattr(upper, "base")
    with second:
        assert upper.base is shared


def test_racing_setups_and_shutdowns():
    """Of several setups at once one counts; shutdowns all return when all is down."""
    events = []

    class A(Component):
        async def setup(self):
            events.append("+")

        async def shutdown(self):
            events.append("-")

    conductor = Conductor()
    conductor.add(A)
    for _ in range(20):
        outcomes = in_threads(*[conductor.setup] * 3)
        assert outcomes.count(None) == 1
        assert in_threads(*[conductor.shutdown] * 3) == [None] * 3
        assert events == ["+", "-"]
        events.clear()


def test_setup_and_shutdown_at_once():
    """Whatever comes first: what was set up is shut down, and both return."""
    events = []

    class A(Component):
        def setup(self):
            events.append("+")

        async def shutdown(self):
            events.append("-")

    conductor = Conductor()
    conductor.add(A)
    for _ in range(50):
        in_threads(conductor.setup, conductor.shutdown, conductor.shutdown)
        conductor.shutdown()
        assert events in (["+", "-"], [])
        events.clear()


def test_failures_from_many_threads():
    """Any thread may report a failure at any time, also while all is shut down."""
    told = []

    class A(Component):
        restart = "on_failure"

    logging.getLogger(__name__).setLevel(logging.CRITICAL)
    for _ in range(10):
        conductor = Conductor(on_failure=told.append)
        a = conductor.add(A)
        conductor.setup()
        failures = [lambda a=a: a.fail(OSError())] * 4
        outcomes = in_threads(*failures, conductor.shutdown, *failures)
        assert {type(outcome) for outcome in outcomes} <= {type(None), *FAILURES}
    assert told == []


def test_set_up_here_and_shut_down_there():
    """A conductor of blocking code can be shut down in a coroutine, and the other way round."""
    conductor = Conductor()
    conductor.add(Upper)

    async def shut_down():
        await conductor.shutdown()

    conductor.setup()
    asyncio.run(shut_down())

    async def main():
        await conductor.setup()
        await asyncio.to_thread(conductor.shutdown)

    asyncio.run(main())
    assert {node.state for node in conductor.graph().nodes} == {"stopped"}


def test_a_loop_that_ended_too_early():
    """If the loop of the setup is gone, the shutdown runs in another."""
    for shut_down in (
        lambda conductor: conductor.shutdown(),
        lambda conductor: asyncio.run(_shut_down(conductor)),
    ):
        conductor = Conductor()
        conductor.add(Upper)
        asyncio.run(_set_up(conductor))
        shut_down(conductor)
        assert {node.state for node in conductor.graph().nodes} == {"stopped"}


def test_a_loop_that_is_run_from_time_to_time():
    """As AIOConductor was used: run_until_complete for each of them."""
    conductor = Conductor()
    upper = conductor.add(Upper)
    with asyncio.Runner() as runner:
        runner.run(_set_up(conductor))
        assert upper.base.loop is runner.get_loop()
        conductor.shutdown()
        runner.run(_set_up(conductor))
        runner.run(_shut_down(conductor))
    assert {node.state for node in conductor.graph().nodes} == {"stopped"}


def test_a_component_that_stops_a_loop_of_m3s_own():
    """Outside of run() and serve() it has no effect: the loop lives until the shutdown."""

    class Stopping(Component):
        async def setup(self):
            self.loop.stop()

        async def shutdown(self):
            self.loop.stop()

    conductor = Conductor()
    conductor.add(Stopping)
    for _ in range(3):
        with conductor:
            assert conductor.health() == {"Stopping": None}


async def _set_up(conductor):
    await conductor.setup()


async def _shut_down(conductor):
    await conductor.shutdown()


def test_nothing_is_left():
    """After a shutdown, nothing of m3 keeps a conductor or a component alive."""
    conductor = Conductor()
    references = [weakref.ref(conductor), weakref.ref(conductor.add(Upper))]
    with conductor:
        pass
    del conductor
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("name", [None, "named"])
def test_a_class_that_two_threads_add(name):
    """All threads that add a class at once get its one instance."""
    added = []
    others = []

    def add():
        added.append(conductor.add(Slow, name=name))

    class Slow(Component):
        def __init__(self):
            if not others:
                others.append(threading.Thread(target=add))
                others[0].start()
                others[0].join(0.1)

    conductor = Conductor()
    add()
    others[0].join(10)
    assert len(added) == 2
    assert added[0] is added[1]
