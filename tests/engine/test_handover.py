"""An item reaches an idle worker at once, and none is held behind another."""

import asyncio
import threading
import time

import pytest
from workbench import SOON, Keep, meet

from m3 import Batch, Frontend, Pipeline


@pytest.mark.parametrize("queue_size", [1, 2, 1024])
@pytest.mark.parametrize(("ordering", "last"), [("completion", 50), ("input", 3)])
def test_a_blocked_worker_holds_no_other_item(queue_size, ordering, last):
    """While one worker works on the first item, the other handles those that come after it."""
    last_seen = threading.Event()

    def work(item):
        if item == 0:
            meet(last_seen)
        elif item == last:
            last_seen.set()
        return item

    pipeline = Pipeline(range(60))
    pipeline.transport(work, workers=2, queue_size=queue_size, ordering=ordering)
    assert pipeline.run().delivered == 60


@pytest.mark.parametrize("workers", [2, 4, 16])
def test_all_workers_of_a_slow_stage_work(workers):
    """As many items as workers are in work at once: none waits in the hands of a busy one."""
    barrier = threading.Barrier(workers)

    def meet_the_others(item):
        barrier.wait(SOON)
        return item

    report = Pipeline(range(workers * 5)).transport(meet_the_others, workers=workers).run()
    assert report.delivered == workers * 5


@pytest.mark.parametrize("queue_size", [1, 1024])
def test_each_item_goes_all_the_way_before_the_next_is_made(queue_size):
    """A frontend that waits for the fate of each item before it makes the next is never stuck."""

    class Source(Frontend):
        def setup(self):
            type(self).consumed = [threading.Event() for _ in range(20)]

        def produce(self):
            for number, event in enumerate(self.consumed):
                yield number
                meet(event)

    class Batched:
        def process_batch(self, items):
            assert len(items) == 1
            return items

    async def later(item):
        await asyncio.sleep(0)
        return item

    report = (
        Pipeline(Source, queue_size=queue_size)
        .transport(lambda item: item, queue_size=queue_size, workers=2)
        .transport(Batched(), batch=Batch(count=100), queue_size=queue_size)
        .transport(later, queue_size=queue_size)
        .transport(lambda item: item, ordering="input", workers=3, queue_size=queue_size, name="o")
        .transport(lambda item: item, workers=0, name="chained")
        .backend(lambda item: Source.consumed[item].set(), queue_size=queue_size)
        .run()
    )
    assert report.delivered == 20


def test_a_generators_results_go_on_one_by_one():
    """What a fan-out yields is on its way while it makes the next."""
    arrived = [threading.Event() for _ in range(10)]

    def fan_out(item):
        for number, event in enumerate(arrived):
            yield number
            meet(event)

    report = Pipeline([1]).transport(fan_out).backend(lambda number: arrived[number].set()).run()
    assert report.delivered == 1


def test_memory_is_bounded_by_the_queues():
    """A frontend is never ahead of a blocked backend by more than queues and hands can hold."""
    made, gate, full = [], threading.Event(), threading.Event()

    def numbers():
        for number in range(100):
            made.append(number)
            # One in each hand, three in each queue; this one is in the frontend's.
            if number == 4 + 4:
                full.set()
            yield number

    def hold(item):
        meet(gate)

    engine = (
        Pipeline(numbers)
        .transport(lambda item: item, queue_size=3)
        .backend(hold, queue_size=3)
        .start()
    )
    meet(full)
    assert len(made) == 9
    assert [stage.queue.size for stage in engine.report().stages[1:]] == [3, 3]
    gate.set()
    report = engine.wait()
    assert report.delivered == 100
    assert all(stage.queue.high_water == 3 for stage in report.stages[1:])


def test_an_idle_pipeline_burns_no_cpu():
    """While nothing comes, nothing polls: a second of waiting costs next to no CPU time."""
    end = threading.Event()

    class Silent(Frontend):
        def produce(self):
            yield 1
            end.wait()

        def stop(self):
            end.set()

    class Gatherer:
        def process_batch(self, items):
            return items

    async def later(item):
        return item

    taken = threading.Event()
    engine = (
        Pipeline(Silent)
        .transport(lambda item: item, workers=4)
        .transport(later, workers=2)
        .transport(Gatherer())
        .backend(lambda item: taken.set(), workers=4)
        .start()
    )
    meet(taken)
    began = time.process_time()
    with pytest.raises(TimeoutError):
        engine.wait(timeout=1.0)
    assert time.process_time() - began < 0.01
    engine.stop()


def test_merged_frontends_and_shared_backends():
    """All items of all frontends reach every backend, each once."""
    one, two = [], []
    report = (
        Pipeline(range(100))
        .frontend(range(100, 200))
        .frontend(lambda: iter(range(200, 210)), workers=3)
        .backend(Keep(one), workers=2, name="one")
        .backend(Keep(two), name="two")
        .run()
    )
    expected = [*range(200), *sorted([*range(200, 210)] * 3)]
    assert sorted(one) == sorted(two) == expected
    assert report.produced == report.delivered == len(expected)


def test_the_first_frontend_to_end_does_not_end_the_others():
    """A frontend that has no more leaves the others at work."""
    short_is_gone = threading.Event()

    class Short(Frontend):
        def produce(self):
            yield "short"

        def cleanup(self):
            short_is_gone.set()

    def long():
        meet(short_is_gone)
        yield from range(300)

    assert Pipeline(Short).frontend(long).run().delivered == 301
