"""A slow consumer and a source without end: memory stays, and a stop comes at once."""

import os
import threading
import time
import tracemalloc

import pytest

from m3 import Frontend, Pipeline


class Endless(Frontend):
    """Blocks of 10 kB without end."""

    def produce(self):
        number = 0
        while True:
            yield b"%010d" % number * 1000
            number += 1


@pytest.mark.parametrize("workers", [1, 4])
def test_memory_is_bounded_by_the_queues(workers):
    """However long a sink stays behind, what waits for it is what the queues may hold."""
    size, queue_size, count = 10_000, 20, 3000
    highest = 0
    seen = threading.Semaphore(0)

    def sink(item):
        nonlocal highest
        highest = max(highest, tracemalloc.get_traced_memory()[0])
        seen.release()
        time.sleep(0.0005)

    pipeline = Pipeline(Endless).transport(bytes, workers=workers, queue_size=queue_size)
    engine = pipeline.backend(sink, queue_size=queue_size).engine()
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        engine.start(block=False)
        for _ in range(count):
            assert seen.acquire(timeout=10)
        report = engine.stop(timeout=10)
    finally:
        tracemalloc.stop()
    most_items = 2 * queue_size + workers + 3
    assert highest - base < most_items * size + 200_000
    assert report.delivered == report.produced >= count
    assert all(
        stage.queue is None or stage.queue.high_water <= queue_size for stage in report.stages
    )


def test_a_blocked_pipeline_costs_nothing():
    """While a sink does not return, the workers that wait for it use no CPU."""
    is_there, may_go = threading.Event(), threading.Event()

    def sink(item):
        is_there.set()
        may_go.wait(20)

    pipeline = Pipeline(Endless).transport(bytes, workers=4, queue_size=10)
    engine = pipeline.backend(sink, queue_size=10).engine()
    engine.start(block=False)
    assert is_there.wait(10)
    await_full(engine)
    used = cpu_used_in(1)
    may_go.set()
    engine.stop(timeout=10)
    assert used < 0.05


def await_full(engine):
    """Wait until somebody waits at each queue."""
    while True:
        queues = [stage.queue for stage in engine.report().stages if stage.queue is not None]
        if all(queue.putters for queue in queues):
            return
        os.sched_yield()


def cpu_used_in(seconds):
    """Return the CPU time of this process in so many seconds of doing nothing."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


def slow_sink_that_tells(taken):
    """Return a sink that takes a millisecond for an item, and says when it begins."""

    def sink(item):
        taken.release()
        time.sleep(0.001)

    return sink


@pytest.mark.parametrize("abandons", [False, True])
def test_stopping_a_source_without_end(abandons):
    """From a stop to the end it takes what the queues hold; when they are abandoned, one item."""
    times = []
    for _ in range(20):
        taken = threading.Semaphore(0)
        engine = Pipeline(Endless).backend(slow_sink_that_tells(taken), queue_size=20).engine()
        engine.start(block=False)
        for _ in range(5):
            assert taken.acquire(timeout=10)
        began = time.perf_counter()
        if abandons:
            engine.abandon()
        report = engine.stop(timeout=10)
        times.append(time.perf_counter() - began)
        assert report.produced == report.delivered + report.abandoned
        assert abandons or report.abandoned == 0
    print(f"{max(times) * 1000:.1f} ms")
    assert sorted(times)[-2] < 0.3


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_a_minute_of_a_slow_consumer(m3_run):
    """For a minute, memory does not grow, and hardly any CPU is used."""
    words = ["--frontend", "faulty:Counting", "--backend", "faulty:SlowSink"]
    process = m3_run.start(*words, stdout=None)
    process.stderr.readline()
    peaks = list(memory_every_five_seconds(process.pid, 12))
    process.terminate()
    ended = m3_run.end(process)
    assert ended.code == -15
    assert ended.is_accounted_for()
    print([peak // 1024 for peak in peaks], "KiB;", f"{ended.counts['cpu']:.2f} s of CPU")
    assert max(peaks) - peaks[0] < 2**20
    assert ended.counts["cpu"] < 6


def memory_of(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def memory_every_five_seconds(pid, times):
    for _ in range(times):
        time.sleep(5)
        yield memory_of(pid)
