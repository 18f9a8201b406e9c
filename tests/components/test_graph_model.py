"""Random graphs of components that fail, dawdle and hang, against what must be true of each run."""

import asyncio
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3 import Component, Conductor
from m3.errors import ComponentError, ConductorError, M3Error

LIMIT = 0.01
WELL = ("works", "dawdles")
BADLY = ("works", "works", "works", "works", "works", "dawdles", "fails", "hangs")


@dataclass(frozen=True)
class Plan:
    """How one component behaves, and which of those before it it needs."""

    needs: frozenset[int]
    is_async: bool
    setup: str
    shutdown: str


@st.composite
def plans(draw):
    """Return the plans of up to 30 components."""
    count = draw(st.integers(1, 30))
    setups, shutdowns = draw(st.sampled_from((WELL, BADLY))), draw(st.sampled_from((WELL, BADLY)))
    return [
        Plan(
            needs=draw(st.frozensets(st.integers(0, number - 1), max_size=4))
            if number
            else frozenset(),
            is_async=draw(st.booleans()),
            setup=draw(st.sampled_from(setups)),
            shutdown=draw(st.sampled_from(shutdowns)),
        )
        for number in range(count)
    ]


@dataclass
class Run:
    """What happened in one run."""

    events: list[tuple[int, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def component(self, number, plan, classes):
        """Return a class of components that behave as planned, and write down what happens."""

        def begin(phase):
            self.events.append((number, f"{phase} begins"))

        def end(phase, way):
            if way == "fails":
                raise ValueError(number, phase)
            self.events.append((number, f"{phase} ends"))

        def plain(phase, way):
            def call(component):
                begin(phase)
                if way == "hangs":
                    self.gate.wait()
                if way == "dawdles":
                    self.gate.wait(0.001)
                end(phase, way)

            return call

        def coroutine(phase, way):
            async def call(component):
                begin(phase)
                if way == "hangs":
                    await asyncio.Event().wait()
                if way == "dawdles":
                    await asyncio.sleep(0.001)
                end(phase, way)

            return call

        kind = coroutine if plan.is_async else plain
        needs = {f"c{need}": classes[need] for need in plan.needs}
        return type(
            f"C{number}",
            (Component,),
            {
                "__annotations__": needs,
                "setup": kind("setup", plan.setup),
                "shutdown": kind("shutdown", plan.shutdown),
                "setup_timeout": LIMIT if plan.setup == "hangs" else None,
                "shutdown_timeout": LIMIT if plan.shutdown == "hangs" else None,
            },
        )

    def when(self, number, event):
        """Return when something happened to a component; None if it did not."""
        entry = (number, event)
        return self.events.index(entry) if entry in self.events else None


def causes(error):
    """Return the component's number and the phase of every error that was raised."""
    errors = error.exceptions if isinstance(error, ConductorError) else [error]
    assert all(isinstance(each, ComponentError) for each in errors)
    return Counter((int(type(each.component).__name__[1:]), each.phase) for each in errors)


def blocking(conductor):
    """Set up and shut down; return what was raised."""
    raised = []
    for step in (conductor.setup, conductor.shutdown):
        try:
            step()
        except M3Error as error:
            raised.append(error)
    return raised


def awaited(conductor):
    """Do the same in an event loop, in which no task may be left."""

    async def main():
        raised = []
        for step in (conductor.setup, conductor.shutdown):
            try:
                await step()
            except M3Error as error:
                raised.append(error)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return raised

    return asyncio.run(main())


def check(plans, drive):
    """Run a graph, and check all that must be true."""
    run = Run()
    classes = []
    for number, plan in enumerate(plans):
        classes.append(run.component(number, plan, classes))
    conductor = Conductor()
    for cls in reversed(classes):
        conductor.add(cls)
    before = set(threading.enumerate())
    try:
        raised = drive(conductor)
        check_order(plans, run)
        check_what_was_stopped(plans, run)
        check_causes(plans, run, raised)
    finally:
        run.gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before
    check_late_ones(plans, run)


def check_order(plans, run):
    """Setup after what is needed was set up, shutdown after who needs it was shut down."""
    for number, plan in enumerate(plans):
        begins = run.when(number, "setup begins")
        for need in plan.needs:
            if begins is not None:
                assert run.when(need, "setup ends") < begins
            stops = run.when(number, "shutdown begins")
            if stops is not None:
                assert stops < run.when(need, "shutdown begins")
                ends = run.when(number, "shutdown ends")
                assert ends is None or ends < run.when(need, "shutdown begins")


def check_what_was_stopped(plans, run):
    """Exactly what was set up is shut down, once; without a failure, everything was."""
    counts = Counter(run.events)
    assert set(counts.values()) <= {1}
    for number in range(len(plans)):
        assert counts[number, "shutdown begins"] == counts[number, "setup ends"]
    if all(plan.setup in WELL for plan in plans):
        assert all(counts[number, "setup ends"] for number in range(len(plans)))


def check_causes(plans, run, raised):
    """Every failure and every hang is raised, and nothing else."""
    expected = Counter(
        (number, phase)
        for number, plan in enumerate(plans)
        for phase, way in (("setup", plan.setup), ("shutdown", plan.shutdown))
        if way in ("fails", "hangs") and run.when(number, f"{phase} begins") is not None
    )
    assert sum(map(causes, raised), Counter()) == expected


def check_late_ones(plans, run):
    """A plain setup that hung and returned at last was shut down then."""
    counts = Counter(run.events)
    assert set(counts.values()) <= {1}
    for number, plan in enumerate(plans):
        assert counts[number, "shutdown begins"] == counts[number, "setup ends"]
        if plan.setup == "hangs" and not plan.is_async:
            assert counts[number, "setup ends"] == counts[number, "setup begins"]


def drives(max_examples):
    """Return settings for that many graphs, which take as long as they take."""
    return settings(
        max_examples=max_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("drive", [blocking, awaited])
@drives(60)
@given(plans=plans())
def test_random_graphs(drive, plans):
    """Order is kept, what was started is stopped, every cause is raised, nothing is left."""
    check(plans, drive)


@pytest.mark.parametrize("drive", [blocking, awaited])
@drives(15)
@given(plans=plans())
def test_random_graphs_with_threads_that_are_switched_all_the_time(drive, plans):
    """The same, with a switch interval of a microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        check(plans, drive)
    finally:
        sys.setswitchinterval(before)
