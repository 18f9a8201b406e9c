"""
Many threads on one BoundedQueue: each item exactly once, in order per producer.

The runs share M3_STRESS_ITEMS items (200,000 unless set); ``tox -e stress``
sets ten million.
"""

import math
import os
import sys
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, count

import pytest

from m3._queue import BoundedQueue
from m3.errors import Empty, Full, ShutDown

pytestmark = [pytest.mark.stress, pytest.mark.timeout(3600), pytest.mark.usefixtures("hurried")]

ITEMS = int(os.environ.get("M3_STRESS_ITEMS", "200000"))
# An item is producer * SPAN + number.
SPAN = 1 << 32

CONFIGURATIONS = [  # producers, consumers, maxsize, share of the items
    (1, 1, 1, 0.05),
    (4, 4, 1, 0.05),
    (1, 1, 1024, 0.2),
    (4, 4, 1024, 0.2),
    (8, 2, 100, 0.12),
    (2, 8, 100, 0.12),
    (3, 3, 0, 0.21),
    (16, 16, 7, 0.05),
]


def check(takings, put):
    """Each producer's *put* numbers from 0 on were taken once, by each consumer in order."""
    expected = [first * SPAN + number for first, n in enumerate(put) for number in range(n)]
    assert sorted(chain.from_iterable(takings)) == expected
    for taken in takings:
        last = [-1] * len(put)
        for item in taken:
            producer = item // SPAN
            assert item > last[producer]
            last[producer] = item


def put_one_by_one(queue, items):
    for item in items:
        queue.put(item)


def put_in_batches(queue, items):
    while items:
        size = 1 + len(items) % 97
        queue.put_many(items[:size])
        items = items[size:]


def put_with_timeouts(queue, items):
    for turn in count():
        if not items:
            return
        try:
            queue.put(items[0], timeout=(turn % 3) * 0.0005)
            items = items[1:]
        except Full:
            pass


def take_one_by_one(queue, taken):
    while True:
        taken.append(queue.get())


def take_in_batches(queue, taken):
    while True:
        taken.extend(queue.get_many(1 + len(taken) % 89))


def take_with_timeouts(queue, taken):
    for turn in count():
        with suppress(Empty):
            taken.append(queue.get(timeout=(turn % 3) * 0.0005))


PUTS = {"one": put_one_by_one, "batch": put_in_batches, "timeout": put_with_timeouts}
TAKES = {"one": take_one_by_one, "batch": take_in_batches, "timeout": take_with_timeouts}
WAYS = ["one", "batch", "timeout", "mixed"]


def choose(ways, way, number):
    return list(ways.values())[number % len(ways)] if way == "mixed" else ways[way]


def run(queue, producers, consumers, each, way):
    """Let *producers* put *each* items; return what each of the consumers took."""
    barrier = threading.Barrier(producers + consumers)
    handles = [queue.producer() for _ in range(producers)]
    takings = [array("q") for _ in range(consumers)]

    def produce(number):
        with handles[number]:
            barrier.wait()
            choose(PUTS, way, number)(queue, range(number * SPAN, number * SPAN + each))

    def consume(number):
        barrier.wait()
        with pytest.raises(ShutDown):
            choose(TAKES, way, number)(queue, takings[number])

    with ThreadPoolExecutor(producers + consumers) as pool:
        calls = [pool.submit(produce, number) for number in range(producers)]
        calls += [pool.submit(consume, number) for number in range(consumers)]
        for call in calls:
            call.result()
    return takings


@pytest.mark.parametrize("patient", [False, True], ids=["", "patient"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("producers", "consumers", "maxsize", "share"), CONFIGURATIONS)
def test_each_item_exactly_once(producers, consumers, maxsize, share, way, patient):
    """N producers, M consumers, through queues of any size: nothing lost, doubled, overtaken."""
    each = math.ceil(ITEMS * share / (2 * len(WAYS)) / producers)
    queue = BoundedQueue(maxsize, patient=patient)
    takings = run(queue, producers, consumers, each, way)
    check(takings, [each] * producers)
    assert queue.statistics().puts == queue.statistics().gets == each * producers
    assert queue.statistics().high_water <= (maxsize or sys.maxsize)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("maxsize", [1, 64])
def test_shutdown_in_the_middle(maxsize, way):
    """A shutdown at any moment: what put accepted is taken, what it refused is not."""
    for round_ in range(max(10, ITEMS // 200_000 * 10)):
        queue = BoundedQueue(maxsize)
        put = [0] * 3
        takings = [array("q") for _ in range(3)]
        barrier = threading.Barrier(7)

        def produce(number, queue=queue, put=put, barrier=barrier):
            barrier.wait()
            while True:
                batch = range(number * SPAN + put[number], number * SPAN + put[number] + 5)
                try:
                    if way == "batch":
                        queue.put_many(batch)
                        put[number] += 5
                    else:
                        queue.put(batch[0])
                        put[number] += 1
                except ShutDown as error:
                    put[number] += getattr(error, "accepted", 0)
                    return

        def consume(number, queue=queue, takings=takings, barrier=barrier):
            barrier.wait()
            with pytest.raises(ShutDown):
                choose(TAKES, way, number)(queue, takings[number])

        def end(queue=queue, barrier=barrier, after=round_ * 37 % 1000):
            barrier.wait()
            while queue.statistics().puts < after:
                os.sched_yield()
            queue.shutdown()

        with ThreadPoolExecutor(7) as pool:
            calls = [pool.submit(f, n) for f in (produce, consume) for n in range(3)]
            for call in [*calls, pool.submit(end)]:
                call.result()
        check(takings, put)


def test_join_while_others_work():
    """join returns when all is done, and never before, with tasks coming in all the time."""
    tasks = ITEMS // 80 * 4
    queue = BoundedQueue(16)
    done = []

    def work():
        for _ in range(tasks // 4):
            done.append(queue.get())
            queue.task_done()

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(work) for _ in range(4)]
        queue.put_many(range(tasks))
        queue.join()
        assert len(done) == tasks
        for call in calls:
            call.result()


def test_everything_at_once():
    """Every method in many threads at once ends without an error or a deadlock."""
    for _ in range(max(5, ITEMS // 100_000)):
        queue = BoundedQueue(5)
        producer = queue.producer()
        barrier = threading.Barrier(9)

        calls = [
            lambda turn, queue=queue: queue.put(turn, timeout=0.001),
            lambda turn, queue=queue: queue.get(timeout=0.001),
            lambda turn, queue=queue: queue.put_many(range(turn % 9), timeout=0.001),
            lambda turn, queue=queue: queue.get_many(1 + turn % 9, timeout=0.001),
            lambda turn, queue=queue: setattr(queue, "maxsize", 1 + turn % 9),
            lambda turn, queue=queue: queue.task_done(),
            lambda turn, queue=queue: queue.statistics(),
            lambda turn, queue=queue: queue.producer(),
            lambda turn, queue=queue: 0 <= queue.qsize() <= 9 or pytest.fail("absurd size"),
        ]

        def use(number, calls=calls, barrier=barrier):
            barrier.wait()
            for turn in range(200):
                with suppress(Empty, Full, ShutDown, ValueError):
                    calls[(number + turn) % 9](turn)

        with ThreadPoolExecutor(9) as pool:
            for call in [pool.submit(use, number) for number in range(9)]:
                call.result()
        producer.close()
        assert queue.is_shutdown
