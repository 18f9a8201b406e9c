"""Many items through many threads: each exactly once, in order where it is promised."""

import random
import sys
import threading

import pytest

from m3 import Backend, Batch, Frontend, Pipeline
from m3.errors import StageError

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]

COUNT = 1_000_000
SOURCES = 4


@pytest.fixture(autouse=True, params=[None, 1e-6], ids=["usual", "hurried"])
def switch_interval(request):
    """Run at the usual pace, and with threads switched as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(request.param or interval)
    yield
    sys.setswitchinterval(interval)


class Numbers(Frontend):
    """Each worker produces numbers of its own, in their order."""

    taken = 0
    lock = threading.Lock()

    def setup(self):
        with self.lock:
            self.number = type(self).taken % SOURCES
            type(self).taken += 1

    def produce(self):
        yield from range(self.number, COUNT, SOURCES)


class Seen(Backend):
    """Marks each number in a table; each worker its own."""

    def __init__(self, tables):
        self.table = bytearray(COUNT)
        tables.append(self.table)

    def process(self, data):
        self.table[data] += 1


def assert_each_once(tables):
    total = [sum(column) for column in zip(*tables, strict=True)]
    assert min(total) == max(total) == 1


@pytest.mark.parametrize("queue_size", [1, 7, 1024])
@pytest.mark.parametrize("ordering", ["completion", "input"])
def test_each_item_exactly_once(queue_size, ordering):
    """A million items through 4 × 4 × 4 threads: each arrives once at a backend."""
    tables = []
    count = COUNT
    report = (
        Pipeline(Numbers, workers=SOURCES)
        .transport(lambda item: item, workers=4, queue_size=queue_size, ordering=ordering)
        .backend(Seen, tables=tables, workers=4, queue_size=queue_size)
        .run()
    )
    assert report.delivered == count
    assert_each_once(tables)


def test_order_of_each_source_is_kept_through_single_workers():
    """Through stages of one worker, and ordered ones of many, each source's items keep order."""
    last = [-1] * SOURCES

    def check(item):
        source = item % SOURCES
        assert item > last[source]
        last[source] = item

    report = (
        Pipeline(Numbers, workers=SOURCES)
        .transport(lambda item: item, queue_size=16)
        .transport(lambda item: item, workers=4, ordering="input", queue_size=16, name="ordered")
        .backend(check, queue_size=16)
        .run()
    )
    assert report.delivered == COUNT


def test_batches_and_fan_out_exactly_once():
    """Gathered, spread and gathered again, every item arrives once."""
    tables = []

    class Spread:
        def process_batch(self, items):
            return [items]

    def one_by_one(items):
        yield from items

    report = (
        Pipeline(Numbers, workers=SOURCES)
        .transport(Spread(), workers=3, batch=Batch(count=50), queue_size=64)
        .transport(one_by_one, workers=3, queue_size=64)
        .backend(Seen, tables=tables, workers=3)
        .run()
    )
    assert report.delivered == COUNT
    assert_each_once(tables)


def test_a_thousand_endings():
    """Runs that end in every way, at every moment: no hang, no thread, no item unaccounted for."""
    random_number = random.Random(1)
    threads = threading.active_count()
    for _ in range(1000):
        end_somehow(random_number)
        assert threading.active_count() == threads


def end_somehow(random_number):
    """Run a pipeline that is ended in a random way at a random moment."""
    moment = random_number.randrange(200)
    ending = random_number.choice(["stop", "abandon", "raise", "request_stop"])

    def work(item):
        if item == moment:
            if ending == "raise":
                raise ValueError
            getattr(engine, ending)()
        return item

    engine = (
        Pipeline(range(100_000))
        .transport(work, workers=random_number.randrange(4), queue_size=3)
        .transport(lambda item: item, workers=2, ordering="input", queue_size=2, name="o")
        .backend(lambda item: None, workers=2, queue_size=1)
        .engine()
    )
    try:
        engine.start()
    except StageError:
        assert ending == "raise"
    report = engine.report()
    ends = report.delivered + report.dropped + report.failed + report.abandoned
    assert report.produced == ends
    assert report.in_flight == 0
