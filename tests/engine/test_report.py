"""The report: counts by outcome and by stage, times, queues, and plain data of it all."""

import json
import threading

import pytest
from workbench import SOON, assert_accounted, meet

from m3 import DROP, Pipeline
from m3.errors import StageError


def test_a_report_before_the_start():
    """An engine that was not started reports zeroes."""
    report = Pipeline([1], name="demo").transport(str).engine().report()
    assert (report.name, report.state, report.produced, report.wall) == ("demo", "created", 0, 0.0)
    assert [stage.items_in for stage in report.stages] == [0, 0]


def test_counts_by_outcome_and_by_stage():
    """Each item is counted by what became of it, and each stage by what it did with it."""

    def sift(item):
        if item % 10 == 1:
            raise ValueError
        return DROP if item % 10 == 2 else item

    report = Pipeline(range(100)).transport(sift, on_error="skip").backend(lambda item: None).run()
    assert (report.produced, report.delivered, report.dropped, report.failed) == (100, 80, 10, 10)
    assert_accounted(report)
    source, transport, backend = report.stages
    assert (source.kind, source.items_in, source.items_out) == ("frontend", 100, 100)
    assert (transport.items_in, transport.items_out) == (100, 80)
    assert (transport.errors, transport.dropped) == (10, 10)
    assert (backend.items_in, backend.items_out) == (80, 80)
    assert (transport.queue.puts, transport.queue.gets, backend.queue.puts) == (100, 100, 80)


def test_ok_means_that_nothing_was_lost():
    """ok is true of a run that did not fail and delivered or filtered every item."""
    assert Pipeline([1, 2]).transport(lambda item: DROP).run().ok
    assert Pipeline([]).run().ok

    def refuse(item):
        raise ValueError

    assert not Pipeline([1]).transport(refuse, on_error="skip").run().ok


def test_waiting_is_told_apart_from_work():
    """A stage that waits for the one before or behind it is not counted as busy meanwhile."""
    ticks = threading.Event()

    def slow(item):
        ticks.wait(0.02)
        return item

    def source():
        yield from range(10)

    engine = Pipeline(source).transport(slow, queue_size=1).backend(lambda item: None).engine()
    report = engine.start()
    first, middle, last = report.stages
    assert middle.busy >= 0.15
    assert first.wait_out >= 0.1
    assert first.busy < middle.busy
    assert last.wait_in >= 0.15
    assert last.busy < middle.busy
    assert report.wall >= 0.2
    assert middle.queue.put_wait >= 0.1


def test_a_report_of_a_running_engine():
    """A report may be asked for at any time; what is on its way is in flight."""
    gate, there = threading.Event(), threading.Event()

    def hold(item):
        there.set()
        meet(gate)

    engine = Pipeline(range(5)).backend(hold).start()
    meet(there)
    report = engine.report()
    assert report.state == "running"
    assert report.in_flight == report.produced - report.delivered > 0
    assert report.wall > 0
    gate.set()
    assert engine.wait(SOON).in_flight == 0


def test_a_report_as_plain_data():
    """as_dict() is what JSON can hold, with a version, the stages and the errors as text."""

    def refuse(item):
        raise ValueError("no")

    engine = Pipeline([1]).transport(refuse, name="t").backend(print).engine()
    with pytest.raises(StageError):
        engine.start()
    plain = json.loads(json.dumps(engine.report().as_dict()))
    assert plain["schema"] == 1
    assert (plain["state"], plain["ok"], plain["failed"]) == ("failed", False, 1)
    assert plain["errors"] == ["StageError: stage 't', worker 0: ValueError: no (item: 1)"]
    assert [stage["name"] for stage in plain["stages"]] == ["list", "t", "print"]
    assert plain["stages"][1]["queue"]["maxsize"] == 1024
    assert plain["stages"][0]["queue"] is None


def test_reports_of_a_busy_run_never_go_backwards():
    """Snapshots taken while all workers count are plausible: nothing shrinks or is negative."""
    done = threading.Event()

    def source():
        yield from range(20_000)
        done.set()

    engine = Pipeline(source).transport(lambda item: item, workers=3).start()
    last = engine.report()
    while not done.is_set():
        report = engine.report()
        assert report.produced >= last.produced
        assert report.delivered >= last.delivered
        assert report.in_flight >= 0
        last = report
    assert engine.wait().delivered == 20_000
