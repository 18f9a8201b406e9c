"""Stages written with async def: in flight together, cancelled at an abort, settled always."""

import asyncio
import threading

import pytest
from workbench import SOON, Keep, assert_accounted, join_threads, meet

from m3 import DROP, Backend, Frontend, Pipeline, Transport
from m3.errors import PlanError, StageError


def test_as_many_items_are_in_flight_as_concurrency_says():
    """One worker works on `concurrency` items at once, and on no more."""
    in_flight, most = set(), []

    async def transport(item):
        in_flight.add(item)
        most.append(len(in_flight))
        if len(in_flight) == 8 or item >= 96:
            all_there.set()
        await all_there.wait()
        in_flight.discard(item)
        await asyncio.sleep(0)
        return item

    class Work:
        def setup(self):
            nonlocal all_there
            all_there = asyncio.Event()

        async def transport(self, data):
            return await transport(data)

    all_there = None
    report = Pipeline(range(100)).transport(Work(), concurrency=8).run()
    assert report.delivered == 100
    assert max(most) == 8


def test_all_kinds_of_async_stages_in_one_pipeline():
    """Frontend, transport, generator transport and backend may all be async."""
    kept = []

    class Source(Frontend):
        async def produce(self):
            for number in range(20):
                await asyncio.sleep(0)
                yield number

    async def double(item):
        await asyncio.sleep(0)
        return DROP if item % 2 else item * 2

    async def twice(item):
        yield item
        await asyncio.sleep(0)
        yield -item

    class Sink(Backend):
        async def process(self, data):
            await asyncio.sleep(0)
            kept.append(data)

    report = Pipeline(Source).transport(double).transport(twice).backend(Sink, workers=2).run()
    assert sorted(kept) == sorted([n * 2 * s for n in range(0, 20, 2) for s in (1, -1)])
    assert (report.produced, report.delivered, report.dropped) == (20, 10, 10)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_a_coroutine_that_raises_fails_the_run(kind):
    """What a coroutine raises reaches the caller; those in flight are cancelled and abandoned."""
    cancelled = []

    async def transport(item):
        if item == 5:
            raise kind
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    engine = Pipeline(range(100)).transport(transport, concurrency=10).engine()
    with pytest.raises(StageError) as caught:
        engine.start()
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.item == 5
    assert set(cancelled) >= {0, 1, 2, 3, 4}
    report = engine.report()
    assert (report.failed, report.delivered) == (1, 0)
    assert_accounted(report)


def test_skipped_errors_of_coroutines():
    """on_error holds for coroutines, and for generators that raise between two results."""

    async def transport(item):
        yield item
        if item % 3 == 0:
            raise ValueError
        yield item

    kept = []
    report = Pipeline(range(9)).transport(transport, on_error="skip").backend(Keep(kept)).run()
    assert sorted(kept) == sorted([n for n in range(9) for _ in range(1 if n % 3 == 0 else 2)])
    assert (report.failed, report.delivered) == (3, 6)
    assert_accounted(report)


def test_abandon_cancels_what_is_in_flight():
    """Coroutines that wait for ever are cancelled when the run is given up."""
    in_flight = threading.Semaphore(0)

    async def transport(item):
        in_flight.release()
        await asyncio.Event().wait()

    engine = Pipeline(range(100)).transport(transport, concurrency=5).start()
    for _ in range(5):
        assert in_flight.acquire(timeout=SOON)
    engine.abandon()
    report = engine.wait()
    assert report.abandoned == report.produced >= 5
    assert_accounted(report)


def test_a_coroutine_that_is_cancelled_before_it_began_is_accounted_for():
    """Giving up between the making of a task and its first step loses no item."""

    async def transport(item):
        engine.abandon()
        await asyncio.sleep(1000)

    for _ in range(20):
        engine = Pipeline(range(10)).transport(transport, concurrency=10).engine()
        assert_accounted(engine.start())


def test_a_stop_waits_for_coroutines():
    """A stop drains: what is in flight ends and is delivered."""
    in_flight, gate = threading.Event(), threading.Event()

    async def transport(item):
        in_flight.set()
        await asyncio.to_thread(gate.wait, SOON)
        return item

    engine = Pipeline(range(3)).transport(transport).start()
    meet(in_flight)
    engine.request_stop()
    gate.set()
    report = engine.wait()
    assert report.delivered == report.produced
    assert_accounted(report)


def test_the_event_loop_goes_on_while_a_queue_behind_it_is_full():
    """Results that wait for room do not block the coroutines beside them."""
    both = []
    ticked = threading.Event()

    class Work:
        async def transport(self, data):
            if data < 4:
                return data
            for _ in range(3):
                await asyncio.sleep(0.001)
            ticked.set()
            return data

    def sink(item):
        if item == 0:
            meet(ticked)
        both.append(item)

    # Item 0 is held by the sink, 1 in the queue, 2 waits for room: 4 must end all the same.
    report = Pipeline(range(5)).transport(Work()).backend(sink, queue_size=1).run()
    assert report.delivered == 5
    assert sorted(both) == list(range(5))


def test_a_coroutine_that_hangs_in_its_loop_is_named():
    """Blocking code in a coroutine that does not end by the deadline is told with its stack."""
    at_end, in_flight = threading.Event(), threading.Event()

    async def blocks_the_loop(item):
        in_flight.set()
        at_end.wait()

    engine = Pipeline([1]).transport(blocks_the_loop, name="bad").start()
    meet(in_flight)
    report = engine.stop(timeout=0.5)
    assert [error.stage for error in report.hung] == ["bad"]
    assert "blocks_the_loop" in report.hung[0].stack
    at_end.set()
    engine.workers[0].thread.join(SOON)
    join_threads()


def test_an_async_frontend_that_raises_is_a_failure():
    """An async frontend's exception is no end of the input either."""

    async def source():
        yield 1
        raise OSError

    kept = []
    with pytest.raises(StageError) as caught:
        Pipeline(source).backend(Keep(kept)).run()
    assert isinstance(caught.value.__cause__, OSError)
    assert kept == [1]


def test_an_async_stage_needs_a_thread_of_its_own():
    """An async stage with workers=0, or one with workers=0 behind it, is refused at once."""

    async def transport(item):
        return item

    with pytest.raises(PlanError, match="at least 1 worker"):
        Pipeline([1]).transport(transport, workers=0).engine()
    with pytest.raises(PlanError, match="event loop of 'transport' and block it"):
        Pipeline([1]).transport(transport).transport(str, workers=0).engine()
    with pytest.raises(PlanError, match="event loop"):
        Pipeline([1]).transport(transport).backend(print, workers=0).engine()


def test_setup_that_nobody_would_await_is_refused():
    """What the engine calls beside the items is plain, in an async stage as well."""

    class Opening(Transport):
        async def setup(self):
            raise AssertionError

        async def transport(self, data):
            return data

    class Closing(Backend):
        def process(self, data):
            pass

        def cleanup(self):
            yield

    pipeline = Pipeline([1]).transport(Opening).backend(Closing)
    with pytest.raises(PlanError) as caught:
        pipeline.run()
    assert "'Opening': setup() cannot be async" in str(caught.value)
    assert "'Closing': cleanup() contains a yield" in str(caught.value)


def test_batches_cannot_be_async():
    """An async process_batch would never be awaited, so it is refused at once."""

    class Sink(Backend):
        async def process_batch(self, items):
            pass

    with pytest.raises(PlanError, match="cannot be async"):
        Pipeline([1]).backend(Sink).engine()
