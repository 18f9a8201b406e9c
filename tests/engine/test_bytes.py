"""Queues that are bounded in bytes."""

import subprocess
import sys
import sysconfig
import threading
from textwrap import dedent

import pytest
from workbench import assert_accounted

from m3 import Pipeline, StageError

KIB = 1024
MIB = 1024 * KIB


class Meter:
    """Counts the bytes between the frontend and the stage behind the queue."""

    def __init__(self):
        self.lock = threading.RLock()  # an item may die while it is held
        self.now = self.peak = 0

    def add(self, size):
        with self.lock:
            self.now += size
            self.peak = max(self.peak, self.now)


@pytest.mark.parametrize("size", [1 * KIB, 64 * KIB, 1024 * KIB])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_queue_holds_no_more_bytes_than_it_may(size, workers):
    """However large the items are, what is queued stays within the bound, beside those in hand."""
    bound, meter = 4096 * KIB, Meter()
    count = 3 * bound // size

    def source():
        for _ in range(count):
            item = bytes(size)
            meter.add(size)
            yield item

    def consume(item):
        meter.add(-len(item))

    pipeline = Pipeline(source).backend(consume, workers=workers, queue_bytes=bound)
    report = pipeline.run()
    assert report.delivered == count
    # One item in the frontend's hand, and one in that of each worker.
    assert meter.peak <= bound + (1 + workers) * size


class Weight:
    """An item of 64 MiB, as far as anybody asks it."""

    nbytes = 64 * MIB

    def __init__(self, meter):
        self.meter = meter
        meter.add(self.nbytes)

    def __del__(self):
        self.meter.add(-self.nbytes)


@pytest.mark.parametrize("workers", [1, 4])
def test_nothing_keeps_an_item_that_was_delivered(workers):
    """Of items that are as large as a quarter of the bound no more are alive than it says."""
    bound, meter = 256 * MIB, Meter()
    described = Pipeline(Weight(meter) for _ in range(500))
    described.backend(lambda item: None, workers=workers, queue_bytes=bound).run()
    assert meter.peak <= bound + (1 + workers) * Weight.nbytes
    assert meter.now == 0


PEAK = dedent(
    """
    import sys, threading
    from m3 import Pipeline

    SIZE, BOUND, WORKERS = map(int, sys.argv[1:])
    FULL = WORKERS + BOUND // SIZE
    COUNT = max(40, 2 * FULL)
    is_full = threading.Event()

    def memory(name):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))

    def source():
        for number in range(COUNT):
            if number == FULL:  # those before it are in the queue and in the workers' hands
                is_full.set()
            yield b"x" * SIZE

    described = Pipeline(source).backend(
        lambda item: is_full.wait(), workers=WORKERS, queue_bytes=BOUND, queue_size=COUNT
    )
    described.engine()
    before = memory("VmRSS")
    assert described.run().delivered == COUNT
    print(memory("VmHWM") - before)
    """
)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="the allocator of the free-threaded build takes up to thrice what a plain loop holds",
)
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    ("size", "bound"),
    [(KIB, 64 * MIB), (64 * KIB, 64 * MIB), (MIB, 64 * MIB), (64 * MIB, 256 * MIB)],
)
def test_the_memory_of_the_process_stays_within_a_fifth_of_the_bound(size, bound, workers):
    """With a full queue: the bound, a fifth of it, and an item in the hand of each worker."""
    arguments = [str(number) for number in (size, bound, workers)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 1.2 * bound + (1 + workers) * size


def test_an_item_larger_than_the_bound_goes_through_alone():
    """What is larger than the bound waits until the queue is empty, and is delivered."""
    seen = []
    items = [bytes(10), bytes(1000), bytes(10), bytes(2000)]
    Pipeline(items).backend(lambda item: seen.append(len(item)), queue_bytes=100).run()
    assert seen == [10, 1000, 10, 2000]


def test_sizeof_says_what_an_item_counts_as():
    """With sizeof, the items count as what it returns."""
    meter, seen = Meter(), []

    def source():
        for number in range(100):
            meter.add(1)
            yield {"number": number}

    def consume(item):
        meter.add(-1)
        seen.append(item["number"])

    Pipeline(source).backend(consume, queue_bytes=30, sizeof=lambda item: 10).run()
    assert seen == list(range(100))
    assert meter.peak <= 3 + 2


def test_a_sizeof_that_raises_is_an_error_of_its_item():
    """What sizeof raises goes the way of the policy of the stage that produced the item."""
    seen = []
    described = Pipeline([b"a", 1, b"b"], on_error="skip").backend(
        seen.append, queue_bytes=30, sizeof=len
    )
    report = described.run()
    assert seen == [b"a", b"b"]
    assert report.failed == 1
    assert_accounted(report)


@pytest.mark.parametrize("options", [{"ordering": "input"}, {"concurrency": 3}])
def test_ordered_and_async_stages_are_bounded_too(options):
    """All ways into a queue and out of it count bytes, and nothing is lost."""
    seen = []

    async def later(item):
        return item

    function = later if "concurrency" in options else (lambda item: item)
    described = Pipeline([bytes([n]) * 100 for n in range(200)]).transport(
        function, workers=2, queue_bytes=300, **options
    )
    report = described.backend(seen.append, queue_bytes=300).run()
    assert sorted(seen) == [bytes([n]) * 100 for n in range(200)]
    assert report.ok


def test_a_run_that_fails_frees_who_waits_for_bytes():
    """A producer that waits for room in bytes ends when the run does."""

    def fail(item):
        raise ValueError

    engine = Pipeline(bytes(1000) for _ in range(10**9)).backend(fail, queue_bytes=10).engine()
    with pytest.raises(StageError):
        engine.start()
    assert_accounted(engine.report())
