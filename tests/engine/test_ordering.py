"""ordering="input": results in the order of the input, from any number of threads."""

import asyncio
import random
import threading

import pytest
from workbench import SOON, assert_accounted, meet

from m3 import DROP, Pipeline
from m3.errors import StageError

COUNT = 400


class Shuffled:
    """A transport of *width* workers that ends each group of items in a random order."""

    def __init__(self, width):
        self.width = width
        self.random = random.Random(width)
        self.events = [threading.Event() for _ in range(COUNT)]
        self.after = {}
        for start in range(0, COUNT, width):
            group = list(range(start, min(start + width, COUNT)))
            self.random.shuffle(group)
            self.after.update(zip(group[1:], group, strict=False))

    def transport(self, data):
        if data in self.after:
            meet(self.events[self.after[data]])
        self.events[data].set()
        return data


@pytest.mark.parametrize("width", [2, 3, 8])
def test_results_are_in_input_order(width):
    """Whatever order the items end in, they go on in the order in which they came."""
    pipeline = Pipeline(range(COUNT)).transport(Shuffled(width), workers=width, ordering="input")
    with pipeline.results() as results:
        assert list(results) == list(range(COUNT))


def test_completion_order_is_not_input_order():
    """Without it an item that is done overtakes one that is not (so the tests above can fail)."""
    second_done = threading.Event()

    def transport(item):
        if item == 0:
            meet(second_done)
        return item

    def sink(item):
        kept.append(item)
        second_done.set()

    kept = []
    Pipeline(range(2)).transport(transport, workers=2).backend(sink).run()
    assert kept == [1, 0]


def test_order_with_filters_fan_out_and_skipped_errors():
    """What is dropped or skipped leaves a gap that closes; what fans out stays together."""

    def fan_out(item):
        if item % 5 == 1:
            raise ValueError(item)
        for _ in range(item % 3):
            yield item

    pipeline = Pipeline(range(COUNT)).transport(
        lambda item: DROP if item % 7 == 0 else item, workers=4, ordering="input"
    )
    pipeline.transport(fan_out, workers=4, ordering="input", on_error="skip")
    engine = pipeline.engine()
    with engine.results() as results:
        kept = list(results)
    alive = [item for item in range(COUNT) if item % 7 and item % 5 != 1]
    assert kept == [item for item in alive for _ in range(item % 3)]
    report = engine.report()
    assert report.failed == sum(1 for item in range(COUNT) if item % 7 and item % 5 == 1)
    assert report.delivered == sum(1 for item in alive if item % 3)
    assert_accounted(report)


def test_order_of_an_async_stage():
    """Coroutines that end in any order are put back into that of the input."""

    async def transport(item):
        for _ in range(item * 7919 % 13):
            await asyncio.sleep(0)
        return item

    pipeline = Pipeline(range(COUNT)).transport(
        transport, workers=2, concurrency=16, ordering="input"
    )
    with pipeline.results() as results:
        assert list(results) == list(range(COUNT))


def test_order_of_an_async_fan_out_with_errors():
    """An async generator's results stay together and in order, with gaps for what was skipped."""

    async def transport(item):
        if item % 10 == 3:
            raise ValueError
        for number in range(item % 4):
            await asyncio.sleep(0)
            yield item, number

    pipeline = Pipeline(range(100)).transport(
        transport, concurrency=16, ordering="input", on_error="skip"
    )
    with pipeline.results() as results:
        kept = list(results)
    assert kept == [(item, n) for item in range(100) if item % 10 != 3 for n in range(item % 4)]


def test_chained_stages_keep_the_order():
    """Stages in the same threads behind an ordered one get the items in order."""
    pipeline = Pipeline(range(COUNT)).transport(Shuffled(4), workers=4, ordering="input")
    with pipeline.transport(str, workers=0).results() as results:
        assert list(results) == [str(item) for item in range(COUNT)]


def test_the_window_bounds_how_far_workers_run_ahead():
    """While the oldest item is not done, no more than the window is worked on behind it."""
    gate = threading.Event()
    done = []
    enough = threading.Event()

    def transport(item):
        if item == 0:
            meet(gate)
        else:
            done.append(item)
            if len(done) == 3:
                enough.set()
        return item

    pipeline = Pipeline(range(1000)).transport(transport, workers=2, queue_size=4, ordering="input")
    with pipeline.results() as results:
        meet(enough)
        assert max(done) < 4
        gate.set()
        assert list(results) == list(range(1000))


def test_a_failure_wakes_who_waits_for_the_window():
    """When the oldest item fails the run, workers that wait for it end too."""
    ahead = threading.Barrier(4)

    def transport(item):
        if item == 0:
            ahead.wait(SOON)
            raise ValueError
        if item in (1, 2, 3):
            ahead.wait(SOON)
        return item

    engine = (
        Pipeline(range(1000))
        .transport(transport, workers=4, queue_size=1, ordering="input")
        .engine()
    )
    with pytest.raises(StageError):
        engine.start()
    assert_accounted(engine.report())


def test_abandoned_results_that_wait_for_their_turn_are_accounted_for():
    """What is done but still waits for an older item when the run is given up is abandoned."""
    gate, ahead = threading.Event(), threading.Event()

    def transport(item):
        if item == 0:
            meet(gate)
        if item == 3:
            ahead.set()
        return item

    engine = (
        Pipeline(range(100))
        .transport(transport, workers=2, queue_size=8, ordering="input")
        .backend(lambda item: None)
        .start()
    )
    meet(ahead)
    engine.abandon()
    gate.set()
    report = engine.wait()
    assert report.abandoned == report.produced >= 4
    assert_accounted(report)
