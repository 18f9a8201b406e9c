"""workers=0: a stage in the threads of the one before it, with the same meaning."""

import threading

import pytest
from workbench import Keep, assert_accounted

from m3 import DROP, Backend, Batch, Frontend, Pipeline, Transport
from m3.errors import PlanError, StageError


def thread_names():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("m3-")}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_same_meaning_in_the_same_thread(workers):
    """Calls, filters, fan-out and skipped errors come to the same, chained or not."""
    kept = []

    def fan_out(item):
        yield item
        yield -item

    def refuse(item):
        if item in (5, -7):
            raise ValueError
        return item

    report = (
        Pipeline(range(20))
        .transport(lambda item: DROP if item % 2 == 0 else item, workers=workers, name="odd")
        .transport(fan_out, workers=workers)
        .transport(refuse, workers=workers, on_error="skip")
        .backend(Keep(kept), workers=workers)
        .run()
    )
    expected = [n for item in range(1, 20, 2) for n in (item, -item) if n not in (5, -7)]
    assert sorted(kept) == sorted(expected)
    assert (report.dropped, report.delivered, report.failed) == (10, 8, 2)
    assert [stage.items_in for stage in report.stages] == [20, 20, 10, 20, 18]
    assert [stage.dropped for stage in report.stages] == [0, 10, 0, 0, 0]
    assert [stage.errors for stage in report.stages] == [0, 0, 0, 2, 0]
    assert_accounted(report)


def test_a_chained_stage_has_no_thread_and_no_queue():
    """It runs in the frontend's own thread, item by item, in their order."""
    seen = []

    class Source(Frontend):
        def produce(self):
            for number in range(3):
                seen.append(("produce", number, threading.current_thread().name))
                yield number

    class Sink(Backend):
        def process(self, data):
            seen.append(("process", data, threading.current_thread().name))
            assert thread_names() == {"m3-Source-0"}

    report = Pipeline(Source).transport(lambda item: item, workers=0).backend(Sink, workers=0).run()
    assert seen == [
        (what, number, "m3-Source-0") for number in range(3) for what in ("produce", "process")
    ]
    assert [stage.queue for stage in report.stages] == [None, None, None]


def test_each_thread_of_the_head_has_its_own_instance_of_the_chained():
    """A chained class is instantiated, set up and cleaned up in each thread of its head."""
    threads = []

    class Chained(Transport):
        def setup(self):
            threads.append(threading.current_thread().name)

        def transport(self, data):
            return data

        def cleanup(self):
            threads.append(threading.current_thread().name)

    Pipeline(range(10)).transport(str, workers=3).transport(Chained, workers=0).run()
    assert sorted(threads) == sorted(["m3-str-0", "m3-str-1", "m3-str-2"] * 2)


def test_a_failure_in_a_chained_stage_names_that_stage():
    """The error has the chained stage's name and what that stage was given."""

    def double(item):
        return item * 2

    def refuse(item):
        raise ValueError

    engine = Pipeline([4]).transport(double, workers=0).transport(refuse, workers=0).engine()
    with pytest.raises(StageError) as caught:
        engine.start()
    assert (caught.value.stage, caught.value.item) == ("refuse", 8)
    assert_accounted(engine.report())


def test_backends_beside_each_other_chained_or_not():
    """One backend may run in the thread before it while another has threads of its own."""
    one, two, three = [], [], []
    report = (
        Pipeline(range(50))
        .backend(Keep(one), workers=0, name="one")
        .backend(Keep(two), workers=2, name="two")
        .backend(Keep(three), workers=0, name="three")
        .run()
    )
    assert one == three == sorted(two) == list(range(50))
    assert report.delivered == 50


def test_a_frontend_cannot_be_chained():
    """workers=0 is for stages that have one before them."""
    with pytest.raises(PlanError, match="at least 1"):
        Pipeline([1], workers=0).engine()


def test_batches_that_nothing_could_flush_are_refused():
    """Chained to a frontend a gathering stage would wait while the frontend waits for input."""

    class Sink(Backend):
        def process_batch(self, items):
            pass

    with pytest.raises(PlanError, match="nothing could flush"):
        Pipeline([1]).backend(Sink, workers=0).engine()
    with pytest.raises(PlanError, match="item by item"):
        Pipeline([1]).transport(str, workers=2, ordering="input").backend(Sink, workers=0).engine()
    report = Pipeline([1]).backend(Sink, workers=0, batch=Batch(count=1)).run()
    assert report.delivered == 1
