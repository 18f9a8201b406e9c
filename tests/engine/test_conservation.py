"""
Whatever pipeline is run, whatever fails and whenever it is stopped: no item is lost.

``produced = delivered + dropped + dead_lettered + failed + abandoned``, nothing
is in flight, no thread is left, each position is answered once; and when
nothing ends the run early, every backend has got exactly the items that a
simple loop would give it.
"""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workbench import assert_accounted, failures_in

from m3 import DROP, Batch, Failure, Item, Pipeline
from m3.errors import AbandonedError, StageError

LONG = 1000.0


class Poisoned(Exception):
    pass


# What each kind of transport makes of an item.
MEANING = {
    "map": lambda item: [item + 1],
    "filter": lambda item: [item] if item % 3 else [],
    "fan out": lambda item: [item] * (item % 4),
    "batch": lambda item: [item + 1],
    "async": lambda item: [item + 2],
    "async fan out": lambda item: [item, item + 1],
}


@dataclass(frozen=True)
class Spec:
    """One stage of a random pipeline."""

    kind: str
    workers: int
    queue_size: int
    ordering: str
    concurrency: int
    poison: int | None
    on_error: str
    period: float
    count: int

    @property
    def is_async(self):
        return self.kind.startswith("async")

    def check(self, item, trip):
        trip()
        if self.poison is not None and item % 11 == self.poison:
            raise Poisoned(item)

    def options(self, before, kind):
        """Return the engine's options for it, behind the stage *before* (None for a frontend)."""
        options = {"queue_size": self.queue_size, "on_error": self.on_error}
        options["workers"] = self.workers
        is_batch = self.kind == "batch"
        if is_batch or self.is_async or (before and before.is_async):
            options["workers"] = max(1, self.workers)
        if kind == "transport" and not (is_batch and options["workers"] > 1):
            options["ordering"] = self.ordering
        if is_batch:
            options["batch"] = Batch(count=self.count, period=self.period)
        if self.is_async:
            options["concurrency"] = self.concurrency
        return options


specs = st.builds(
    Spec,
    kind=st.sampled_from(sorted(MEANING)),
    workers=st.integers(0, 4),
    queue_size=st.integers(1, 3),
    ordering=st.sampled_from(["completion", "input"]),
    concurrency=st.integers(1, 3),
    poison=st.none() | st.none() | st.integers(0, 10),
    on_error=st.sampled_from(["skip", "skip", "fail"]),
    period=st.sampled_from([0, 0, 0.001, LONG]),
    count=st.integers(1, 5),
)


@dataclass(frozen=True)
class Source:
    """One frontend: how many items, what it has instead of some, whether it wants answers."""

    count: int
    raises_at: int | None
    unreadable: int | None
    is_told: bool

    def items(self):
        for number in range(self.count):
            if number == self.raises_at:
                raise Poisoned("source")
            yield Failure(Poisoned("record")) if number == self.unreadable else number


class Answered:
    """A frontend with a position for each item of a source; it keeps the answers."""

    def __init__(self, source):
        self.source = source
        self.positions = self.acks = self.nacks = 0
        self.open = set()

    def produce(self):
        for item in self.source.items():
            position = self.positions
            self.positions += 1
            self.open.add(position)
            if isinstance(item, Failure):
                yield Failure(item.error, position=position)
            else:
                yield Item(item, position)

    def ack(self, position):
        self.open.remove(position)
        self.acks += 1

    def nack(self, position, error):
        assert isinstance(error, (Poisoned, AbandonedError))
        self.open.remove(position)
        self.nacks += 1


sources = st.builds(
    Source,
    count=st.integers(0, 60),
    raises_at=st.sampled_from([None] * 9 + [5]),
    unreadable=st.none() | st.just(3),
    is_told=st.booleans(),
)


@dataclass(frozen=True)
class Interruption:
    """What happens when stages have been called so many times: nothing, a stop, or a giving up."""

    what: str | None
    after: int


interruptions = st.builds(
    Interruption,
    what=st.sampled_from([None, None, None, "request_stop", "abandon", "stop"]),
    after=st.integers(0, 100),
)


def transport_of(spec, trip):
    """Return the stage that *spec* describes; it calls *trip* for every item."""
    meaning = MEANING[spec.kind]

    class Plain:
        def transport(self, data):
            spec.check(data, trip)
            results = meaning(data)
            return results[0] if results else DROP

    class FansOut:
        def transport(self, data):
            spec.check(data, trip)
            yield from meaning(data)

    class Batches:
        def process_batch(self, items):
            for item in items:
                spec.check(item, trip)
            return [result for item in items for result in meaning(item)]

    class Async:
        async def transport(self, data):
            spec.check(data, trip)
            await asyncio.sleep(0)
            return meaning(data)[0]

    class AsyncFansOut:
        async def transport(self, data):
            spec.check(data, trip)
            for result in meaning(data):
                await asyncio.sleep(0)
                yield result

    classes = {
        "fan out": FansOut,
        "batch": Batches,
        "async": Async,
        "async fan out": AsyncFansOut,
    }
    return classes.get(spec.kind, Plain)()


def backend_of(spec, trip, kept):
    """Return a backend in the manner of *spec* that keeps what it gets."""

    class Plain:
        def process(self, data):
            spec.check(data, trip)
            kept.append(data)

    class Batches:
        def process_batch(self, items):
            for item in items:
                spec.check(item, trip)
            kept.extend(items)

    class Async:
        async def process(self, data):
            spec.check(data, trip)
            await asyncio.sleep(0)
            kept.append(data)

    return {"batch": Batches}.get(spec.kind, Async if spec.is_async else Plain)()


@dataclass
class Trial:
    """A random pipeline, run once."""

    fronts: list
    middle: list
    ends: list
    interruption: Interruption

    def __post_init__(self):
        self.kept = [[] for _ in self.ends]
        self.calls = 0
        self.told = [Answered(source) for source in self.fronts if source.is_told]
        self.engine = self.pipeline().engine()

    def trip(self):
        """Count a call of a stage; it may be the one that interrupts."""
        self.calls += 1
        if self.interruption.what and self.calls == self.interruption.after:
            getattr(self.engine, self.interruption.what)()

    def pipeline(self):
        told = iter(self.told)
        targets = [next(told) if source.is_told else source.items for source in self.fronts]
        first, *others = targets
        pipeline = Pipeline(first, stop_timeout=20, on_error="skip")
        for other in others:
            pipeline.frontend(other, on_error="skip")
        before = None
        for spec in self.middle:
            target = transport_of(spec, self.trip)
            pipeline.transport(target, **spec.options(before, "transport"))
            chained = spec.workers == 0 and not (spec.is_async or spec.kind == "batch")
            before = before if chained and before and not before.is_async else spec
        for number, (spec, kept) in enumerate(zip(self.ends, self.kept, strict=True)):
            target = backend_of(spec, self.trip, kept)
            pipeline.backend(target, name=f"end {number}", **spec.options(before, "backend"))
        return pipeline

    def run(self):
        try:
            self.engine.start()
        except (StageError, ExceptionGroup) as error:
            return failures_in(error)
        return []

    def expected(self, end):
        """Return what a loop would give to a backend, whose stages skip what they raise on."""
        items = [
            item
            for source in self.fronts
            for item in range(source.count)
            if item != source.unreadable
        ]
        for spec in self.middle:
            good = [item for item in items if item % 11 != spec.poison]
            items = [result for item in good for result in MEANING[spec.kind](item)]
        return Counter(item for item in items if item % 11 != end.poison)

    @property
    def is_predictable(self):
        """Whether every item's fate is known beforehand."""
        stages = [*self.middle, *self.ends]
        return (
            self.interruption.what is None
            and all(source.raises_at is None for source in self.fronts)
            and all(spec.on_error == "skip" or spec.poison is None for spec in stages)
            and all(spec.kind != "batch" or spec.poison is None for spec in stages)
        )

    def check(self):
        failures = self.run()
        report = self.engine.report()
        assert_accounted(report)
        assert report.hung == ()
        assert all(front.open == set() for front in self.told)
        if len(self.told) == len(self.fronts):
            acks, nacks = (sum(getattr(f, n) for f in self.told) for n in ("acks", "nacks"))
            assert acks == report.delivered + report.dropped
            assert nacks == report.failed + report.abandoned
        assert all(isinstance(failure.__cause__, Poisoned) for failure in failures)
        assert bool(failures) == (report.state == "failed")
        if self.is_predictable:
            assert failures == []
            assert report.produced == sum(source.count for source in self.fronts)
            assert report.abandoned == 0
            for end, kept in zip(self.ends, self.kept, strict=True):
                assert Counter(kept) == self.expected(end)
        left = [thread for thread in threading.enumerate() if thread.name.startswith("m3-")]
        assert left == []


trials = {
    "fronts": st.lists(sources, min_size=1, max_size=3),
    "middle": st.lists(specs, max_size=4),
    "ends": st.lists(specs, min_size=1, max_size=3),
    "interruption": interruptions,
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(**trials)
def test_no_item_is_ever_lost(fronts, middle, ends, interruption):
    """The law of conservation holds for random pipelines, failures and interruptions."""
    Trial(fronts, middle, ends, interruption).check()


@pytest.mark.timeout(120)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
@given(**trials)
def test_no_item_is_ever_lost_in_a_hurry(hurried, fronts, middle, ends, interruption):
    """The same while the interpreter switches threads as often as it can."""
    Trial(fronts, middle, ends, interruption).check()
