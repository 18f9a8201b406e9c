"""Threads, clocks and queues are made in one place, which a test may replace."""

import asyncio
import threading
from contextlib import suppress

import pytest
from workbench import SOON, Dawdling

from m3 import Component, Engine, Frontend, Pipeline, Transport
from m3.engine import Runtime
from m3.errors import ComponentError


class Counting(Runtime):
    """Counts what is made, and has a clock that stands still until it is moved."""

    def __init__(self):
        self.threads = []
        self.queues = []
        self.now = 1000.0

    def spawn(self, target, name, last):
        thread = super().spawn(target, name, last)
        self.threads.append(thread)
        return thread

    def queue(self, maxsize, *, naps=False):
        self.queues.append(maxsize)
        return super().queue(maxsize, naps=naps)

    def monotonic(self):
        return self.now


def test_every_thread_comes_from_the_runtime():
    """All threads of a run are the runtime's, those of async stages and frontends' stops too."""
    runtime = Counting()
    seen = set()

    class Source(Frontend):
        def produce(self):
            yield from range(10)

        def stop(self):
            pass

    async def later(item):
        await asyncio.sleep(0)
        seen.update(t for t in threading.enumerate() if t.name.startswith("m3-"))
        return item

    plan = Pipeline(Source).transport(str, workers=2).transport(later).plan()
    report = Engine(plan, runtime=runtime).start()
    assert report.delivered == 10
    assert seen <= set(runtime.threads)
    names = {thread.name for thread in runtime.threads}
    assert names == {
        "m3-Source-0",
        "m3-Source-0-stop",
        "m3-str-0",
        "m3-str-1",
        "m3-later-0",
        "m3-later-0-feeder",
        "m3-later-0-sender",
    }
    assert all(thread.daemon for thread in runtime.threads)


class Database(Component):
    def shutdown(self):
        pass


class Broken(Database):
    def setup(self):
        raise OSError("no route")


def run_to_its_end(runtime, folder, asked_for):
    """Run a pipeline with threads of all kinds."""

    class Source(Frontend):
        def produce(self):
            yield from range(10)

        def stop(self):
            pass

    class Asking(Transport):
        database: asked_for

        def transport(self, item):
            return item

    async def later(item):
        return item

    plan = (
        Pipeline(Source, state=str(folder), on_error="dead_letter")
        .transport(Asking, timeout=SOON)
        .transport(later)
        .backend(print)
        .plan()
    )
    with suppress(ComponentError):
        Engine(plan, runtime=runtime).start()


@pytest.mark.parametrize("asked_for", [Database, Broken])
def test_no_thread_outlives_the_run(asked_for, tmp_path):
    """When a run has ended, well or not, so have its threads, whichever of them is slow to go."""
    runtime = Dawdling()
    run_to_its_end(runtime, tmp_path / "first", asked_for)
    names = sorted({thread.name for thread in runtime.threads})
    assert "m3-resources" in names
    for name in names:
        runtime = Dawdling(name)
        run_to_its_end(runtime, tmp_path / name, asked_for)
        left = [thread.name for thread in runtime.threads if thread.is_alive()]
        assert left == [], f"{name} was slow to go"


def test_times_are_those_of_the_runtimes_clock():
    """The run's wall time is measured with the runtime's clock."""
    runtime = Counting()

    def move(item):
        runtime.now += 5

    plan = Pipeline([1, 2]).backend(move).plan()
    report = Engine(plan, runtime=runtime).start()
    assert report.wall == 10.0
    assert report.stages[1].busy <= 10.0


def test_the_deadline_is_one_of_the_runtimes_clock():
    """A stop's deadline is looked up on the runtime's clock."""
    runtime = Counting()
    gate = threading.Event()

    class Source(Frontend):
        def produce(self):
            yield 1
            gate.wait(SOON)

        def stop(self):
            runtime.now += 1000
            gate.set()

    engine = Engine(Pipeline(Source).plan(), runtime=runtime)
    engine.start(block=False)
    assert engine.stop(timeout=500).hung == ()
