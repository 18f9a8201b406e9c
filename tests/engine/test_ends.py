"""Ends of a run that come at once: stops of several, in handlers, in answers, beside a start."""

import signal
import sqlite3
import threading
import time
from contextlib import closing, suppress

import pytest
from workbench import SOON, assert_accounted, in_thread, join_threads, meet

from m3 import Backend, Component, Frontend, Item, Pipeline, Transport
from m3.engine import Runtime, checkpoints
from m3.engine.dead_letter import EVERY
from m3.engine.deadline import Deadline
from m3.engine.last_out import LastOut
from m3.engine.letters import open_dead_letters
from m3.engine.state import StateStore
from m3.engine.waits import Waits
from m3.errors import M3Error, StateError

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def at_end():
    """An event that is set at the end of the test, for user code to hang on until then."""
    event = threading.Event()
    yield event
    event.set()
    join_threads()


@pytest.fixture
def on_signal():
    """Return a function that sets the handler of SIGUSR1, until the end of the test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, lambda *_: handler())
    signal.signal(signal.SIGUSR1, before)


def interrupt():
    """Run the handler of SIGUSR1, as a signal just now would."""
    signal.raise_signal(signal.SIGUSR1)


class Stuck(Backend):
    """Says that it has an item, and hangs until the test lets it go; then it fails."""

    def __init__(self, has_item, gate):
        self.has_item = has_item
        self.gate = gate

    def process(self, data):
        self.has_item.set()
        self.gate.wait()
        raise ValueError("late")


# -- deadlines


def test_the_earliest_deadline_counts():
    """Whoever has given a deadline can keep it; that of the plan counts if nobody has."""
    deadline = Deadline(Runtime(), 30)
    assert deadline.left() is None
    deadline.set(None)
    assert deadline.seconds == 30
    deadline.set(40)
    assert deadline.seconds == 40
    deadline.set(8)
    deadline.set(None)
    deadline.set(20)
    assert deadline.seconds == 8
    assert 0 < deadline.left() <= 8


def test_who_waits_learns_of_a_nearer_deadline():
    """A deadline that is set while somebody waits ends the wait, however long it was to be."""
    deadline = Deadline(Runtime(), 30)
    waits = Waits(deadline)
    has_asked = threading.Event()

    def patience():
        left = deadline.left()
        has_asked.set()
        return left

    result = in_thread(lambda: waits.until(lambda: False, patience))
    meet(has_asked)
    deadline.set(0.01)
    waits.tell()
    assert result() is False


def test_several_wait_for_different_ends():
    """Each wait ends with what it is for, and an end that is there is not waited for."""
    waits = Waits(Deadline(Runtime(), 30))
    ends = [threading.Event() for _ in range(3)]
    results = [in_thread(lambda end=end: waits.until(end.is_set)) for end in ends]
    for end, result in zip(ends, results, strict=True):
        end.set()
        waits.tell()
        assert result() is True
    assert waits.until(ends[0].is_set) is True


def test_a_stop_that_may_take_less_ends_one_that_may_take_more(at_end):
    """A second stop with a nearer deadline ends the first one, too."""
    has_item = threading.Event()
    engine = Pipeline([1]).backend(Stuck(has_item, at_end)).start()
    meet(has_item)
    first = in_thread(lambda: engine.stop(timeout=1000))
    assert len(engine.stop(timeout=0.2).hung) == 1
    assert len(first().hung) == 1


# -- who stops


class Told(Frontend):
    """Yields one item, and stops the run when it is told of its end."""

    def __init__(self, reports):
        self.reports = reports

    def watch_run(self, run):
        self.run = run

    def produce(self):
        yield Item(1, 1)

    def stop(self):
        self.reports.append(self.run.stop(timeout=SOON))

    def ack(self, position):
        self.reports.append(self.run.stop(timeout=SOON))


def test_a_stop_in_an_answer_does_not_wait_for_itself():
    """ack() and stop() of a frontend may stop the run, which goes on to its end."""
    reports = []
    engine = Pipeline(Told, reports=reports).backend(lambda item: None).start()
    began = time.monotonic()
    report = engine.wait()
    assert time.monotonic() - began < SOON / 2
    assert (report.delivered, report.hung) == (1, ())
    assert reports
    assert {report.state for report in reports} == {"stopping"}


def test_a_handler_may_stop_while_its_thread_closes_the_books(at_end, on_signal):
    """A signal handler that stops the run just when its thread ends it waits for nobody."""
    has_item = threading.Event()

    class Store:
        """Dead letters that are interrupted when they are closed."""

        note = ""

        def put(self, *_, **__):
            pass

        def hasten(self, seconds):
            pass

        def commit(self):
            pass

        def close(self):
            interrupt()

    pipeline = Pipeline([1], dead_letters=Store()).backend(Stuck(has_item, at_end))
    engine = pipeline.start()
    seen = []
    on_signal(lambda: seen.append(engine.stop(timeout=1000).state))
    meet(has_item)
    assert engine.stop(timeout=0.2).state == "failed"
    assert seen == ["stopping"]


def test_a_handler_may_stop_while_its_thread_takes_the_last_result(on_signal):
    """It does not wait for workers that wait for what its own thread holds."""
    may_end = threading.Event()

    class Slow(Transport):
        def transport(self, item):
            return item

        def cleanup(self):
            meet(may_end)

    engine = Pipeline([1]).transport(Slow).engine()
    seen = []

    def handler():
        may_end.set()
        seen.append(engine.stop(timeout=SOON).hung)

    on_signal(handler)
    results = engine.results()
    engine.stores.end = interrupt
    began = time.monotonic()
    assert list(results) == [1]
    assert time.monotonic() - began < SOON / 2
    assert seen == [()]


# -- what is open at the end


def test_a_letter_that_comes_too_late_opens_no_store(at_end, tmp_path):
    """What fails after the run was given up leaves the store to others."""
    has_item = threading.Event()
    path = tmp_path / "letters.jsonl"
    pipeline = Pipeline([1], dead_letters=path)
    engine = pipeline.backend(Stuck(has_item, at_end), on_error="dead_letter").start()
    meet(has_item)
    report = engine.stop(timeout=0.2)
    assert (report.abandoned, len(report.hung)) == (1, 1)
    at_end.set()
    join_threads()
    with closing(open_dead_letters(path)) as store:
        assert list(store.select(EVERY)) == []


def test_a_state_that_is_opened_after_the_run_was_given_up_is_closed(tmp_path, monkeypatch):
    """A stop ends at its deadline also beside a start; what that opens later, it closes."""
    stopped, opening = threading.Event(), threading.Event()
    store_of = checkpoints.store_of

    def late(plan):
        opening.set()
        meet(stopped)
        return store_of(plan)

    monkeypatch.setattr(checkpoints, "store_of", late)
    (tmp_path / "in.txt").write_text("a\n")
    pipeline = Pipeline("file", path=tmp_path / "in.txt", state=tmp_path / "state")
    engine = pipeline.backend("file", path=tmp_path / "out.txt").engine()
    result = in_thread(engine.start)
    meet(opening)
    engine.stop(timeout=0.2)
    stopped.set()
    with pytest.raises(M3Error):
        result()
    join_threads()
    with closing(StateStore(tmp_path / "state")):
        pass


def test_a_stop_does_not_wait_for_the_letters_of_others(at_end, tmp_path):
    """A store that another process keeps busy holds no stop up; what was not kept is told."""
    path = tmp_path / "letters.db"
    open_dead_letters(path).close()
    is_writing = threading.Event()

    def fail(item):
        is_writing.set()
        raise ValueError("no")

    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        pipeline = Pipeline([1], dead_letters=path)
        engine = pipeline.backend(fail, on_error="dead_letter").engine()
        result = in_thread(engine.start)
        meet(is_writing)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        report = engine.stop(timeout=0.2)
        took = time.monotonic() - began
        other.execute("ROLLBACK")
    assert took < 5
    assert report.state in ("finished", "failed")
    if report.state == "failed":
        with pytest.raises(M3Error):
            result()
    join_threads()
    open_dead_letters(path).close()


def test_letters_that_cannot_be_kept_in_time_are_told(tmp_path):
    """What waits to be written when a busy store is closed in a hurry is an error."""
    path = tmp_path / "letters.db"
    pipeline = Pipeline([1, 2, 3], dead_letters=path)
    failed = threading.Event()
    may_go_on = threading.Event()

    def fail(item):
        if item == 3:
            failed.set()
            meet(may_go_on)
        raise ValueError("no")

    engine = pipeline.backend(fail, on_error="dead_letter").engine()
    result = in_thread(engine.start)
    meet(failed)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        engine.request_stop(timeout=0.2)
        may_go_on.set()
        with pytest.raises(M3Error, match=r"cannot be written|still being written"):
            result()
        other.execute("ROLLBACK")
    join_threads()
    open_dead_letters(path).close()


def test_a_state_is_in_use_until_the_last_write_is_over(tmp_path):
    """A state that is closed in a hurry goes to nobody else before what is under way is written."""
    store = StateStore(tmp_path / "state")
    writing, may_write = threading.Event(), threading.Event()
    write = store._database.write

    def slowly(*arguments):
        writing.set()
        meet(may_write)
        write(*arguments)

    store._database.write = slowly
    checkpoint = type(store.checkpoint)(number=1, sources={"a/0": 7})
    result = in_thread(lambda: store.write(checkpoint))
    meet(writing)
    with pytest.raises(StateError, match="still being written"):
        store.close(0.0)
    with pytest.raises(StateError, match="used by another run"):
        StateStore(tmp_path / "state")
    may_write.set()
    result()
    with closing(StateStore(tmp_path / "state")) as again:
        assert again.checkpoint == checkpoint
    with pytest.raises(StateError, match="closed"):
        store.write(checkpoint)


def test_what_is_used_is_closed_once_by_the_last():
    """Who closes waits for who uses it, or leaves it to them; a second close does nothing."""
    closed = []
    patient = LastOut(lambda: closed.append("patient"))
    with patient.use():
        assert closed == []
    assert patient.close() is True
    assert patient.close() is True
    assert closed == ["patient"]
    hasty = LastOut(lambda: closed.append("hasty"))
    with hasty.use():
        assert in_thread(lambda: hasty.close(0.0))() is False
        assert hasty.is_closed
        assert closed == ["patient"]
    assert closed == ["patient", "hasty"]


def test_a_close_that_fails_is_told_once():
    """A close that raises is not tried again; one that a handler cuts short is."""
    calls = []

    def close():
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyboardInterrupt
        raise OSError("full")

    usage = LastOut(close)
    with pytest.raises(KeyboardInterrupt):
        usage.close()
    with pytest.raises(OSError, match="full"):
        usage.close()
    assert usage.close() is True
    assert calls == [0, 1]


# -- calls that are given up when the run was


class Hanging(Backend):
    """Hangs in its first call, and keeps what it needs for it in its setup."""

    def __init__(self, has_item, gate):
        self.has_item = has_item
        self.gate = gate

    def setup(self):
        self.wait = self.gate.wait

    def process(self, data):
        self.has_item.set()
        self.wait()


class Committing(Hanging):
    """One that is not replaced, for what it has written is committed by it."""

    def commit(self):
        pass


@pytest.mark.parametrize("backend", [Hanging, Committing])
def test_a_call_that_is_over_its_time_after_the_run_is_no_failure(backend, at_end):
    """When a run is abandoned, the item of a call that hangs is abandoned, not failed."""
    has_item = threading.Event()
    engine = Pipeline([1]).backend(backend(has_item, at_end), timeout=0.3, on_error="skip").start()
    meet(has_item)
    engine.abandon()
    with suppress(TimeoutError):
        engine.wait(0.6)
    at_end.set()
    report = engine.wait()
    assert (report.abandoned, report.failed, report.errors) == (1, 0, ())
    assert_accounted(report)


def test_a_worker_that_was_replaced_does_not_end_the_run(at_end):
    """The run has not ended before its components are down, whoever ends meanwhile."""
    former, seen = [], []

    class Store(Component):
        def shutdown(self):
            at_end.set()
            former[0].thread.join(0.5)
            seen.append(engine.stopped())

    class Sink(Backend):
        store: Store

        def process(self, data):
            at_end.wait()

    engine = Pipeline([1]).backend(Sink, timeout=0.1, on_error="skip").engine()
    engine.start(block=False)
    former.append(engine.workers[0])
    assert former[0].pool.head.name == "Sink"
    report = engine.wait()
    assert seen == [False]
    assert (report.failed, report.errors) == (1, ())


def test_several_threads_take_results():
    """Each result is taken once, and all are counted, whoever takes them."""
    count = 20_000
    results = Pipeline(range(count)).transport(lambda item: item, queue_size=64).engine().results()
    taken = [in_thread(lambda: list(results)) for _ in range(4)]
    assert sorted(item for each in taken for item in each()) == [*range(count)]
    report = results.engine.report()
    assert (report.delivered, report.state) == (count, "finished")
