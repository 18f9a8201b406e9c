"""Stages with process_batch: what is gathered, when it is handed over, and who it counts for."""

import threading

import numpy as np
import pytest
from workbench import Keep, assert_accounted, meet

from m3 import DROP, Backend, Batch, Frontend, Pipeline, Transport
from m3.errors import BatchError, StageError


class Sink(Backend):
    def __init__(self, batches):
        self.batches = batches

    def process_batch(self, items):
        self.batches.append(items)


class FirstThen(Frontend):
    """Yields one item, waits until it was handed over, and yields the rest while that is held."""

    def __init__(self, rest):
        self.rest = rest
        self.first_is_there = threading.Event()
        self.rest_is_queued = threading.Event()

    def produce(self):
        yield b"first"
        meet(self.first_is_there)
        yield from self.rest
        self.rest_is_queued.set()


def batches_of(rest, batch):
    """Return the batches that *rest*, all of it waiting in the queue, is cut into."""
    source = FirstThen(rest)
    batches = []

    class Holding(Sink):
        def process_batch(self, items):
            source.first_is_there.set()
            meet(source.rest_is_queued)
            super().process_batch(items)

    Pipeline(source).backend(Holding(batches), batch=batch).run()
    assert batches[0] == [b"first"]
    return batches[1:]


def test_an_item_is_not_held_back_when_nothing_else_waits():
    """By default a batch takes what is waiting: a single item is handed over at once."""
    assert batches_of([], Batch()) == []


def test_a_batch_takes_what_is_waiting_up_to_its_count():
    """What has gathered in the queue meanwhile comes in batches of at most `count`."""
    assert batches_of(list(range(7)), Batch(count=3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_batch_is_bounded_by_bytes():
    """A batch never has more than `bytes`, but an item that is larger makes one of its own."""
    rest = [b"aa", b"bb", b"c", b"0123456789", "dd", bytearray(b"eee"), b"f"]
    assert batches_of(rest, Batch(count=100, bytes=5)) == [
        [b"aa", b"bb", b"c"],
        [b"0123456789"],
        ["dd", bytearray(b"eee")],
        [b"f"],
    ]


def test_bytes_of_arrays_and_other_things():
    """Arrays count with their nbytes, what has no size with nothing."""
    rest = [np.zeros(4, "u1"), object(), 17, np.zeros(4, "u1"), None]
    assert [len(batch) for batch in batches_of(rest, Batch(count=100, bytes=7))] == [3, 2]


def test_an_item_whose_size_cannot_be_told_is_an_item_error():
    """What `nbytes` raises is judged like what the stage raises, and the rest goes on."""

    class Odd:
        @property
        def nbytes(self):
            raise ValueError("no size")

    batches = []
    pipeline = Pipeline([b"1", Odd(), b"2"])
    pipeline.backend(Sink(batches), batch=Batch(bytes=10), on_error="skip")
    report = pipeline.run()
    assert (report.delivered, report.failed) == (2, 1)
    assert_accounted(report)


def test_a_period_gathers_until_it_is_over():
    """With a period a batch waits for more, and is handed over when the time is up."""
    batches, handed_over = [], threading.Event()

    class Source(Frontend):
        def produce(self):
            yield from range(3)
            meet(handed_over)
            yield 3

    class Telling(Sink):
        def process_batch(self, items):
            super().process_batch(items)
            handed_over.set()

    Pipeline(Source).backend(Telling(batches), batch=Batch(count=100, period=0.3)).run()
    assert batches == [[0, 1, 2], [3]]


def test_a_full_batch_does_not_wait_for_its_period():
    """The count ends a batch at once, however long the period is."""
    batches = []
    batch = Batch(count=2, period=1000)
    Pipeline(range(5)).backend(Sink(batches), batch=batch).run()
    assert batches == [[0, 1], [2, 3], [4]]


def test_the_end_of_the_input_flushes_every_stage():
    """At the end what is gathered is handed over, through all stages that gather."""

    class Pairs(Transport):
        def process_batch(self, items):
            return items

    batches = []
    batch = Batch(count=100, period=1000)
    pipeline = Pipeline(range(7)).transport(Pairs, batch=batch).transport(Pairs, name="more")
    pipeline.backend(Sink(batches), batch=batch).run()
    assert batches == [list(range(7))]


def test_a_batch_with_a_result_for_each_item():
    """As many results as items belong to each other; DROP drops its own item."""

    class Halves(Transport):
        def process_batch(self, items):
            return [DROP if item % 2 else item // 2 for item in items]

    kept = []
    report = Pipeline(range(100)).transport(Halves).backend(Keep(kept)).run()
    assert kept == list(range(50))
    assert (report.delivered, report.dropped) == (50, 50)
    assert report.stages[1].dropped == 50


def test_a_batch_with_fewer_or_more_results():
    """Otherwise every result stands for every item: all are delivered, or none."""

    class Sum(Transport):
        def process_batch(self, items):
            return [sum(items)]

    class Refuse(Backend):
        def process(self, data):
            raise ValueError

    kept = []
    batch = Batch(count=10, period=1000)
    pipeline = Pipeline(range(100)).transport(Sum, batch=batch)
    report = pipeline.backend(Keep(kept)).run()
    assert (report.delivered, sum(kept), len(kept)) == (100, sum(range(100)), 10)
    report = Pipeline(range(100)).transport(Sum, batch=batch).backend(Refuse, on_error="skip").run()
    assert (report.failed, report.delivered) == (100, 0)


def test_a_batch_without_results_drops_its_items():
    """No results, or only DROP, filter the whole batch out."""

    class Nothing(Transport):
        def process_batch(self, items):
            return [DROP] * (len(items) % 2)

    report = Pipeline(range(100)).transport(Nothing, batch=Batch(count=3)).run()
    assert (report.dropped, report.delivered) == (100, 0)


def test_a_batch_that_fails_is_as_many_failed_items():
    """A batch that raises under "skip" counts all its items; the error has them as its item."""

    class Refuse(Backend):
        def process_batch(self, items):
            if 5 in items:
                items.clear()
                raise ValueError

    batch = Batch(count=4, period=1000)
    report = Pipeline(range(12)).backend(Refuse, batch=batch, on_error="skip").run()
    assert (report.delivered, report.failed) == (8, 4)
    assert report.stages[-1].errors == 4
    assert_accounted(report)


@pytest.mark.parametrize("policy", ["skip", lambda _: DROP])
def test_a_batch_error_is_about_the_items_it_names(policy):
    """A backend's BatchError is judged item by item; the rest of the batch is delivered."""
    judged = []

    def judge(failure):
        judged.append((failure.item, str(failure.error)))
        return policy if policy == "skip" else policy(failure)

    class Picky(Backend):
        def process_batch(self, items):
            odd = {at: ValueError(f"odd {x}") for at, x in enumerate(items) if x % 2}
            raise BatchError(odd)

    batch = Batch(count=4, period=1000)
    report = Pipeline(range(8)).backend(Picky, batch=batch, on_error=judge).run()
    assert judged == [(x, f"odd {x}") for x in (1, 3, 5, 7)]
    assert report.delivered == 4
    assert (report.failed if policy == "skip" else report.dropped) == 4
    assert_accounted(report)


def test_a_batch_error_fails_the_run_under_the_policy_fail():
    """Under "fail" each item that a BatchError names fails the run; the others are delivered."""

    class Picky(Backend):
        def process_batch(self, items):
            raise BatchError({1: ValueError("bad")})

    engine = Pipeline(range(4)).backend(Picky, batch=Batch(count=4, period=1000)).engine()
    with pytest.raises(StageError, match="bad") as caught:
        engine.start()
    assert caught.value.item == 1
    assert (engine.report().delivered, engine.report().failed) == (3, 1)


def test_results_that_raise_while_they_are_read_fail_the_batch():
    """A process_batch that is a generator is read to its end before anything goes on."""

    class Half(Transport):
        def process_batch(self, items):
            yield items[0]
            raise ValueError

    engine = Pipeline(range(4)).transport(Half).engine()
    with pytest.raises(StageError) as caught:
        engine.start()
    assert isinstance(caught.value.item, list)
    assert_accounted(engine.report())


def test_a_batch_of_a_class_attribute():
    """A class says how it wants its batches; its user may say otherwise."""

    class Two(Sink):
        batch = Batch(count=2, period=1000)

    for options, expected in (({}, [2, 2, 1]), ({"batch": Batch(count=3, period=1000)}, [3, 2])):
        batches = []
        Pipeline(range(5)).backend(Two, batches=batches, **options).run()
        assert [len(batch) for batch in batches] == expected


def test_a_chained_stage_gathers_in_the_thread_of_its_head():
    """Batches work in the same thread as the stage before, and flush when that one has no input."""
    batches, handed_over = [], threading.Event()
    threads = set()

    class Source(Frontend):
        def produce(self):
            yield 1
            meet(handed_over)
            yield 2

    class Chained(Sink):
        def process_batch(self, items):
            threads.add(threading.current_thread().name)
            super().process_batch(items)
            handed_over.set()

    Pipeline(Source).transport(str, name="head").backend(Chained(batches), workers=0).run()
    assert batches == [["1"], ["2"]]
    assert threads == {"m3-head-0"}
