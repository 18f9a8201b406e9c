"""Ends of a run that come at once: stops of several, in handlers, in answers, beside a start."""

import math
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing, suppress

import pytest
from workbench import SOON, assert_accounted, in_thread, join_threads, meet

from m3 import Backend, Batch, Component, Frontend, Item, Pipeline, Transport
from m3.engine import Runtime, checkpoints
from m3.engine import engine as engine_module
from m3.engine.dead_letter import EVERY
from m3.engine.deadline import Deadline
from m3.engine.errands import Errands
from m3.engine.last_out import LastOut
from m3.engine.letters import open_dead_letters
from m3.engine.state import StateStore
from m3.engine.waits import Waits
from m3.engine.workers import Worker
from m3.errors import M3Error, SetupError, StageError, StateError

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def on_signal():
    """Return a function that sets the handler of SIGUSR1, until the end of the test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, lambda *_: handler())
    signal.signal(signal.SIGUSR1, before)


def interrupt():
    """Run the handler of SIGUSR1, as a signal just now would."""
    signal.raise_signal(signal.SIGUSR1)


class Store:
    """Dead letters of which there are none."""

    note = ""

    def put(self, *_, **__):
        pass

    def hasten(self, seconds):
        pass

    def commit(self):
        pass

    def close(self):
        pass


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


def test_there_may_be_no_end_to_the_patience(tmp_path):
    """A stop may take for ever, and still closes all that is open."""
    engine = Pipeline("stdin", state=tmp_path / "state", stop_timeout=math.inf).engine()
    assert engine.plan.stop_timeout == math.inf
    (tmp_path / "in.txt").write_text("a\n")
    pipeline = Pipeline("file", path=tmp_path / "in.txt", state=tmp_path / "state")
    engine = pipeline.backend("file", path=tmp_path / "out.txt").start()
    assert engine.stop(math.inf).state == "finished"
    StateStore(tmp_path / "state").close()

    class Bad(Backend):
        def setup(self):
            raise ValueError("bad")

        def process(self, data):
            pass

    with pytest.raises(SetupError, match="bad"):
        Pipeline([1], stop_timeout=math.inf).backend(Bad).run()


def test_a_stop_is_in_time_while_the_run_that_has_ended_is_closed():
    """A stop by a deadline does not wait for a slow store that a run without one closes."""
    closing_it, may_close = threading.Event(), threading.Event()

    class Slow(Store):
        def close(self):
            closing_it.set()
            meet(may_close)

    engine = Pipeline([1], dead_letters=Slow()).backend(lambda item: None).start()
    meet(closing_it)
    began = time.monotonic()
    engine.stop(timeout=0.1)
    assert time.monotonic() - began < SOON / 2
    may_close.set()
    assert engine.wait().state == "finished"
    join_threads()


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

    class Interrupted(Store):
        def close(self):
            interrupt()

    pipeline = Pipeline([1], dead_letters=Interrupted()).backend(Stuck(has_item, at_end))
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


def test_a_handler_may_stop_while_its_thread_names_who_hangs(at_end, on_signal, monkeypatch):
    """A signal handler that stops the run just when that is given up waits for no lock of it."""
    has_item = threading.Event()
    engine = Pipeline([1]).backend(Stuck(has_item, at_end)).start()
    hung_error = Worker.hung_error
    calls = []

    def interrupted(worker):
        calls.append(worker)
        if len(calls) == 1:
            interrupt()
        return hung_error(worker)

    monkeypatch.setattr(Worker, "hung_error", interrupted)
    on_signal(lambda: engine.stop(timeout=0.1))
    meet(has_item)
    assert len(engine.stop(timeout=0.2).hung) == 1
    assert len(calls) >= 2


def test_an_abandoned_start_raises_nothing_foreign(monkeypatch):
    """A run that is abandoned before there are workers has nothing to do, and ends."""
    staff = engine_module.staff

    def late(pool, engine):
        engine.abandon()
        return staff(pool, engine)

    monkeypatch.setattr(engine_module, "staff", late)
    report = Pipeline([1]).backend(lambda item: None).run()
    assert (report.produced, report.state) == (0, "finished")


class Interrupted(Exception):
    """Raised by a handler, as KeyboardInterrupt is."""


def test_no_result_is_lost_with_an_interrupt(on_signal):
    """Whenever a handler raises while results are taken, each result is had once, and all ends."""
    count, kept, interrupts, armed = 200_000, [], 0, []
    is_over, this = threading.Event(), threading.get_ident()

    def raise_it():
        if armed:
            armed.clear()
            raise Interrupted

    def shoot():
        while not is_over.wait(0.0002):
            signal.pthread_kill(this, signal.SIGUSR1)

    on_signal(raise_it)
    results = Pipeline(range(count)).transport(lambda item: item).engine().results()
    shooting = in_thread(shoot)
    while len(kept) < count or not results.engine.stopped():
        try:
            armed.append(True)
            for item in results:
                kept.append(item)  # noqa: PERF402  # a call of its own for each
        except Interrupted:
            interrupts += 1
    armed.clear()
    is_over.set()
    shooting()
    assert kept == [*range(count)]
    assert interrupts > 0
    assert results.engine.wait().delivered == count


def test_an_end_that_is_interrupted_is_done_by_the_next(on_signal):
    """If a handler raises in who ends the run, whoever waits for the end brings it about."""
    was_interrupted = threading.Event()

    class Database(Component):
        def shutdown(self):
            os.kill(os.getpid(), signal.SIGUSR1)
            meet(was_interrupted)

    class Look(Transport):
        database: Database

        def transport(self, item):
            return item

    def raise_it():
        raise Interrupted

    on_signal(raise_it)
    results = Pipeline([1, 2]).transport(Look).engine().results()
    began = time.monotonic()
    try:
        assert list(results) == [1, 2]
    except Interrupted:
        was_interrupted.set()
    was_interrupted.set()
    report = results.engine.stop()
    assert time.monotonic() - began < SOON / 2
    assert (report.state, report.delivered) == ("finished", 2)
    join_threads()  # one of them may just have been started when that was interrupted


# -- what is open at the end


class Late(Runtime):
    """Has the first thread of resources wait before it does anything, or has no second one."""

    def __init__(self, gate=None):
        self.gate = gate
        self.names = []

    def spawn(self, target, name, last):
        self.names.append(name)
        gate = self.gate if self.names.count("m3-resources") == 1 else None
        if name == "m3-resources" and self.gate is None and self.names.count(name) > 1:
            raise RuntimeError("can't start new thread")

        def body():
            if gate is not None and name == "m3-resources":
                meet(gate)
            target()

        return super().spawn(body, name, last)


def pipeline_with(component):
    """Return a pipeline of which a stage asks for *component*."""

    class Look(Transport):
        resource: component

        def transport(self, item):
            return item

    return Pipeline([1]).transport(Look).backend(lambda item: None)


def test_components_are_not_left_set_up_by_a_stop_before_their_setup():
    """However a setup and the shutdown of a stop come together, what was set up is shut down."""
    gate, seen = threading.Event(), []

    class Database(Component):
        def setup(self):
            seen.append("up")

        def shutdown(self):
            seen.append("down")

    engine = engine_module.Engine(pipeline_with(Database).plan(), runtime=Late(gate))
    result = in_thread(engine.start)
    while "m3-resources" not in engine.runtime.names:
        pass
    engine.stop(timeout=0)
    gate.set()
    with suppress(M3Error):
        result()
    join_threads()
    assert seen.count("up") == seen.count("down")
    assert not [each for each in threading.enumerate() if each.name == "m3-conductor"]


def test_a_shutdown_that_begins_after_the_deadline_is_not_late(at_end):
    """Components are shut down after a worker hung; that they take a while then is no failure."""
    has_item, may_end = threading.Event(), threading.Event()

    class Database(Component):
        def shutdown(self):
            meet(may_end)

    class Hung(Hanging):
        database: Database

    engine = Pipeline([1]).backend(Hung(has_item, at_end)).start()
    meet(has_item)
    report = engine.stop(timeout=0.1)
    assert len(report.hung) == 1
    at_end.set()
    engine.workers[0].thread.join(SOON)
    assert engine.report().errors == ()
    may_end.set()


def test_a_run_ends_though_there_is_no_thread_for_the_shutdown():
    """Where no further thread can be started that is told, and who ends the run does it all."""
    downs = []

    class Database(Component):
        def setup(self):
            pass

        def shutdown(self):
            downs.append(self)

    engine = engine_module.Engine(pipeline_with(Database).plan(), runtime=Late())
    with pytest.raises(StageError, match="can't start new thread"):
        engine.start()
    assert engine.report().delivered == 1
    assert engine.stopped()
    assert len(downs) == 1


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
        assert hasty.close(0.0) is True, "it was said once that it is left to another"
        assert closed == ["patient"]
    assert closed == ["patient", "hasty"]
    interrupted = LastOut(lambda: closed.append("interrupted"))
    with interrupted.use():
        assert interrupted.close() is False, "a signal handler closes it under its own thread"
        assert closed == ["patient", "hasty"]
    assert closed == ["patient", "hasty", "interrupted"]


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


def test_a_batch_that_a_checkpoint_has_asked_for_may_go_over_its_time(tmp_path):
    """A call that is given up ends its worker, also where it was made for a checkpoint."""
    skipped, gate, returned = threading.Event(), threading.Event(), threading.Event()
    calls = []

    def skip(failure):
        skipped.set()
        return "skip"

    class Source(Frontend):
        def resume(self, position):
            pass

        def produce(self):
            yield from (Item(number, number) for number in range(3))
            meet(skipped)
            gate.set()
            meet(returned)
            yield from (Item(number, number) for number in range(3, 4003))

    class Gather(Transport):
        def process_batch(self, items):
            calls.append(items)
            if len(calls) == 1:
                meet(gate)
                returned.set()
            return items

    class Sink(Backend):
        def commit(self):
            return 0

        def resume(self, mark):
            pass

        def process(self, data):
            pass

    pipeline = Pipeline(Source, state=tmp_path / "state", checkpoint_interval=0.05)
    pipeline.transport(Gather, batch=Batch(5, period=30), timeout=0.2, on_error=skip)
    report = pipeline.backend(Sink).run()
    assert (report.produced, report.delivered, report.failed) == (4003, 4000, 3)


def test_a_worker_that_comes_after_the_last_checkpoint_waits_for_none(tmp_path):
    """A successor that is made when all rounds are over does not wait for errands."""
    (tmp_path / "in.txt").write_text("a\n")
    pipeline = Pipeline("file", path=tmp_path / "in.txt", state=tmp_path / "state")
    engine = pipeline.backend("file", path=tmp_path / "out.txt").engine()
    engine.start()

    class Successor:
        errands = Errands(Runtime())

    engine.stores.take_in(Successor)
    in_thread(Successor.errands.serve)()


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
