"""stop(), request_stop(), abandon() and wait(): drain, deadline, who hangs, and where."""

import signal
import subprocess
import sys
import threading
import time
from textwrap import dedent

import pytest
from workbench import SOON, Blocked, Keep, assert_accounted, in_thread, meet

from m3 import Backend, Batch, Frontend, Pipeline
from m3.errors import EngineStateError, HungWorkerError, PipelineError, StageError


class Endless(Frontend):
    def produce(self):
        while True:
            yield 1


class Waiting(Frontend):
    """Waits for input that never comes; stop() wakes it."""

    def setup(self):
        self.woken = threading.Event()

    def produce(self):
        yield 1
        meet(self.woken)

    def stop(self):
        self.woken.set()


class Gate(Backend):
    """Says that it has an item, then holds it until the test lets it go."""

    def __init__(self, has_item, gate):
        self.has_item = has_item
        self.gate = gate

    def process(self, data):
        self.has_item.set()
        self.waits_in_user_code()

    def waits_in_user_code(self):
        self.gate.wait()


def test_stop_delivers_what_is_queued():
    """Frontends end at their next item, and all that they produced is delivered."""
    kept, has_item, gate = [], threading.Event(), threading.Event()

    class Slow(Keep):
        def process(self, data):
            super().process(data)
            has_item.set()
            meet(gate)

    engine = Pipeline(Endless).backend(Slow(kept), queue_size=50).start()
    meet(has_item)
    engine.request_stop()
    gate.set()
    report = engine.wait()
    assert (report.state, report.stopped, report.ok) == ("finished", True, True)
    assert report.delivered == report.produced == len(kept) >= 1
    assert_accounted(report)


def test_stop_while_a_producer_is_blocked_on_a_full_queue(at_end):
    """It returns by its deadline; the producer is woken, the worker that hangs is named."""
    has_item = threading.Event()
    full = threading.Event()

    class Source(Frontend):
        def produce(self):
            for number in range(10):
                if number == 3:  # one is in hand, two are queued: this one must wait
                    full.set()
                yield number

    engine = Pipeline(Source).backend(Gate(has_item, at_end), queue_size=2, name="gate").start()
    meet(full)
    meet(has_item)
    began = time.monotonic()
    report = engine.stop(timeout=0.5)
    assert time.monotonic() - began < 0.5 + 2
    assert [(error.stage, error.worker) for error in report.hung] == [("gate", 0)]
    assert "waits_in_user_code" in report.hung[0].stack
    assert report.state == "failed"
    assert_accounted(report)
    assert (report.delivered, report.abandoned) == (0, report.produced)


def test_stop_while_a_consumer_waits_on_an_empty_queue():
    """Consumers of an empty queue end as soon as the frontend does; none is named."""
    kept = []
    engine = Pipeline(Waiting).backend(Keep(kept), workers=3).start()
    report = engine.stop(timeout=SOON)
    assert (report.state, report.hung) == ("finished", ())
    assert report.produced == len(kept) <= 1


def test_stop_while_user_code_sleeps_for_ever(at_end):
    """stop() returns by its deadline, with stage, worker and line of each that hangs."""
    barrier = threading.Barrier(4)

    def sleeps_for_ever(item):
        barrier.wait(SOON)
        at_end.wait()

    engine = Pipeline(range(100)).transport(sleeps_for_ever, workers=3, name="sleeper").start()
    barrier.wait(SOON)
    began = time.monotonic()
    report = engine.stop(timeout=0.5)
    assert time.monotonic() - began < 0.5 + 2
    assert [(error.stage, error.worker) for error in report.hung] == [
        ("sleeper", 0),
        ("sleeper", 1),
        ("sleeper", 2),
    ]
    assert all("sleeps_for_ever" in error.stack for error in report.hung)
    assert all("at_end.wait()" in str(error) for error in report.hung)
    assert_accounted(report)
    with pytest.raises(PipelineError):
        engine.wait()


def test_stop_while_a_frontend_is_blocked_in_its_generator(at_end):
    """A frontend without a stop() that never yields again is named; its items are delivered."""
    kept, taken = [], threading.Event()

    def take(item):
        kept.append(item)
        taken.set()

    engine = Pipeline(Blocked(at_end, [1]), name="demo").backend(take).start()
    meet(taken)
    report = engine.stop(timeout=0.5)
    assert [error.stage for error in report.hung] == ["Blocked"]
    assert "in produce" in report.hung[0].stack
    assert (report.produced, report.delivered, kept) == (1, 1, [1])
    assert isinstance(report.hung[0], TimeoutError)


def test_a_worker_that_ends_after_the_deadline_leaves_nothing(at_end):
    """What a hung worker holds counts as abandoned; when it ends after all, it cleans up."""
    has_item, cleaned_up = threading.Event(), threading.Event()

    class Sink(Gate):
        def cleanup(self):
            cleaned_up.set()

    engine = Pipeline(range(5)).backend(Sink(has_item, at_end)).start()
    meet(has_item)
    assert engine.stop(timeout=0.5).abandoned == 5
    at_end.set()
    meet(cleaned_up)
    engine.workers[0].thread.join(SOON)
    assert_accounted(engine.report())


def test_stop_wakes_a_frontend_that_waits_for_input():
    """A frontend's stop() is called from another thread, once, and wakes it at once."""
    callers = []

    class Source(Waiting):
        def produce(self):
            callers.append(threading.current_thread())
            yield from super().produce()

        def stop(self):
            callers.append(threading.current_thread())
            super().stop()

    taken = threading.Event()
    engine = Pipeline(Source).backend(lambda item: taken.set()).start()
    meet(taken)
    engine.stop()
    engine.stop()
    assert len(callers) == len(set(callers)) == 2
    assert threading.current_thread() not in callers


def test_the_failure_of_another_stage_wakes_a_frontend_that_waits_for_input():
    """Not only a stop of the user: the end of the run calls stop() too."""

    def refuse(item):
        raise ValueError

    with pytest.raises(StageError):
        Pipeline(Waiting).backend(refuse).run()


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_frontends_stop_that_raises_is_a_failure(kind):
    """What a frontend's stop() raises fails the run, and is told by wait(), not by stop()."""

    class Source(Waiting):
        def stop(self):
            super().stop()
            raise kind("in stop")

    taken = threading.Event()
    engine = Pipeline(Source).backend(lambda item: taken.set()).start()
    meet(taken)
    report = engine.stop()
    assert (report.state, report.delivered) == ("failed", 1)
    with pytest.raises(StageError) as caught:
        engine.wait()
    assert isinstance(caught.value.__cause__, kind)


def test_a_frontends_stop_that_hangs_keeps_nobody(at_end):
    """Its worker is named at the deadline; the other frontends are woken all the same."""
    taken = threading.Semaphore(0)

    class Stubborn(Waiting):
        def stop(self):
            at_end.wait()
            super().stop()

    engine = (
        Pipeline(Stubborn, name="a")
        .frontend(Waiting, workers=2)
        .backend(lambda item: taken.release())
        .start()
    )
    for _ in range(3):
        assert taken.acquire(timeout=SOON)
    began = time.monotonic()
    engine.request_stop(timeout=SOON)
    assert time.monotonic() - began < SOON / 2
    report = engine.stop(timeout=0.5)
    assert [error.stage for error in report.hung] == ["Stubborn"]


def test_a_frontend_that_has_ended_is_not_told_to_stop():
    """After produce() has ended, and so after cleanup(), stop() is not called."""
    ended = threading.Event()

    class Short(Frontend):
        def produce(self):
            yield 1

        def cleanup(self):
            ended.set()

        def stop(self):
            assert not ended.is_set()

    engine = Pipeline(Short).frontend(Waiting).backend(lambda item: None).start()
    meet(ended)
    assert engine.stop().ok
    assert engine.stop().ok


def test_stop_twice_and_after_the_end():
    """A second stop(), and one of a run that has ended, return the report of the end."""
    engine = Pipeline([1, 2]).backend(lambda item: None).engine()
    first = engine.start()
    assert engine.stop() == first.__class__(**{**_fields(first), "stopped": True})
    assert engine.stop().delivered == 2


def _fields(report):
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


def test_stop_and_wait_from_many_threads():
    """All who stop and wait get the same end, from any number of threads."""
    kept = []
    engine = Pipeline(Endless, workers=2).backend(Keep(kept), workers=2, queue_size=4).start()
    barrier = threading.Barrier(9)

    def wait():
        barrier.wait(SOON)
        return engine.wait()

    def stop():
        barrier.wait(SOON)
        return engine.stop()

    results = [in_thread(function) for function in [wait, stop] * 4]
    barrier.wait(SOON)
    counts = {(report().state, report().delivered) for report in results}
    assert counts == {("finished", len(kept))}


def test_wait_keeps_its_timeout():
    """wait(timeout) raises TimeoutError after that time: while it runs, and while it stops."""
    has_item, gate = threading.Event(), threading.Event()
    engine = Pipeline(range(3)).backend(Gate(has_item, gate)).start()
    with pytest.raises(TimeoutError, match="still runs after 0"):
        engine.wait(timeout=0)
    meet(has_item)
    engine.request_stop(timeout=SOON)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        engine.wait(timeout=0.05)
    assert time.monotonic() - began < SOON / 2
    assert engine.report().state == "stopping"
    gate.set()
    assert engine.wait(timeout=SOON).delivered == 3


def test_who_waits_returns_when_another_gives_up(at_end):
    """start() blocks in one thread; a stop() in another that gives up ends both."""
    has_item = threading.Event()
    engine = Pipeline(range(3), stop_timeout=1000).backend(Gate(has_item, at_end)).engine()
    started = in_thread(engine.start)
    meet(has_item)
    engine.request_stop()
    assert len(engine.stop(timeout=0.5).hung) == 1
    with pytest.raises(HungWorkerError):
        started()


def test_stop_by_a_stage_itself_does_not_wait_for_that_stage():
    """A stage may stop its own run: the call returns at once, the rest is drained."""

    def count(item):
        if item == 3:
            states.append(engine.stop().state)

    states = []

    def numbers():
        number = 0
        while True:
            yield number
            number += 1

    engine = Pipeline(numbers).backend(count, queue_size=1).engine()
    report = engine.start()
    assert states == ["stopping"]
    assert report.ok
    assert report.delivered >= 4


def test_abandon_gives_up_what_is_queued():
    """Each worker ends its item; what is queued is counted as abandoned; it returns at once."""
    has_item, gate, full = threading.Event(), threading.Event(), threading.Event()

    def numbers():
        for number in range(100):
            if number == 8:
                full.set()
            yield number

    engine = Pipeline(numbers).backend(Gate(has_item, gate), queue_size=7).start()
    meet(full)
    meet(has_item)
    engine.abandon()
    gate.set()
    report = engine.wait()
    assert (report.state, report.ok, report.stopped) == ("finished", False, True)
    assert report.delivered == 1
    assert report.abandoned == report.produced - 1 >= 7
    assert_accounted(report)


def test_calls_at_the_wrong_time():
    """Nothing can be stopped or waited for before the start, and an engine runs once."""
    engine = Pipeline([1]).backend(print).engine()
    for call in (engine.stop, engine.wait, engine.request_stop, engine.abandon):
        with pytest.raises(EngineStateError, match="not started"):
            call()
        with pytest.raises(RuntimeError):
            call()
    engine = Pipeline([1]).engine()
    engine.start()
    with pytest.raises(RuntimeError, match="runs once"):
        engine.start()
    with pytest.raises(EngineStateError):
        engine.results()
    assert engine.report().delivered == 1


def test_stopped_is_true_of_a_run_that_ended_by_itself():
    """Nobody needs to wait for it: stopped() and the state tell of the end."""
    ended = threading.Event()

    class Last(Backend):
        def process(self, data):
            pass

        def cleanup(self):
            ended.set()

    engine = Pipeline([1]).backend(Last).start()
    meet(ended)
    for worker in engine.workers:
        worker.thread.join(SOON)
    assert engine.stopped()
    assert engine.report().state == "finished"


def test_engine_as_a_context_manager_stops_at_the_end_of_the_block():
    """`with engine:` starts it, stops it, and raises what it has failed with."""
    kept = []
    with Pipeline(Endless).backend(Keep(kept)).engine() as engine:
        assert engine.started()
        assert not engine.stopped()
    assert engine.stopped()
    assert engine.report().delivered == len(kept)

    def refuse(item):
        raise ValueError

    with pytest.raises(StageError), Pipeline([1]).backend(refuse).engine() as engine:
        for worker in engine.workers:
            worker.thread.join(SOON)


def test_a_body_that_raises_keeps_its_exception():
    """What is raised in the block comes out, whatever became of the run."""
    with pytest.raises(KeyError), Pipeline(Endless).backend(lambda item: None).engine():
        raise KeyError


def test_a_batch_that_is_gathered_is_delivered_at_a_stop():
    """What a stage has gathered but not handed over when the stop comes is handed over."""
    batches, has_one = [], threading.Event()

    class Source(Waiting):
        def produce(self):
            yield from range(3)
            has_one.set()
            meet(self.woken)

    class Sink(Backend):
        def process_batch(self, items):
            batches.append(items)

    engine = Pipeline(Source).backend(Sink, batch=Batch(count=100, period=1000)).start()
    meet(has_one)
    assert engine.stop().delivered == 3
    assert batches == [[0, 1, 2]]


# -- processes and signals


def run_and_signal(program, *signals):
    """Run *program*, send it *signals* once it prints "ready"; return its exit code and output."""
    child = subprocess.Popen(
        [sys.executable, "-c", dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,  # or what comes with the line is not in what communicate() returns
    )
    with child:
        assert child.stdout.readline() == b"ready\n"
        for number in signals:
            child.send_signal(number)
        out, _ = child.communicate(timeout=SOON)
    return child.returncode, out.decode()


def test_stop_from_a_signal_handler():
    """As os-m3-engine's page shows: the handler calls stop(), all is drained, start() returns."""
    code, out = run_and_signal(
        """
        import signal
        from m3.launcher import create
        from m3 import Backend, Frontend

        class Source(Frontend):
            def produce(self):
                number = 0
                while True:
                    yield number
                    number += 1

        class Sink(Backend):
            ready = False

            def process(self, data):
                if data == 1000:
                    print("ready", flush=True)

        engine = create(frontend_cls=Source, transport_cls=None, backend_cls=Sink)

        def stop(signum, frame):
            engine.stop()

        signal.signal(signal.SIGINT, stop)

        report = engine.start()
        assert report.produced == report.delivered > 1000, report
        assert report.stopped and report.state == "finished"
        print("ended")
        """,
        signal.SIGINT,
    )
    assert (code, out) == (0, "ended\n")


def test_abandon_from_a_second_signal():
    """A handler may ask for a stop first and give up at the second signal."""
    code, out = run_and_signal(
        """
        import signal, threading
        from m3 import Pipeline

        stuck = threading.Event()

        def numbers():
            yield 1
            print("ready", flush=True)
            yield from range(100)

        engine = Pipeline(numbers).backend(lambda item: stuck.wait(), queue_size=3).engine()
        signals = []

        def handle(signum, frame):
            signals.append(signum)
            if len(signals) == 1:
                engine.request_stop()
                signal.raise_signal(signal.SIGTERM)
            else:
                engine.abandon()
                stuck.set()

        signal.signal(signal.SIGINT, handle)
        signal.signal(signal.SIGTERM, handle)
        report = engine.start()
        assert report.produced == report.delivered + report.abandoned, report
        print("ended")
        """,
        signal.SIGINT,
    )
    assert (code, out) == (0, "ended\n")


@pytest.mark.parametrize("transport", ["lambda item: item", "later"])
def test_a_program_that_ends_without_a_stop(transport):
    """At exit a run that nobody stopped is stopped and drained, async stages too."""
    program = f"""
        import asyncio, itertools, threading
        from m3 import Pipeline

        under_way = threading.Event()

        async def later(item):
            await asyncio.sleep(0)
            return item

        class Sink:
            def process(self, data):
                if data == 100:
                    under_way.set()

            def cleanup(self):
                print("cleaned up", flush=True)

        engine = Pipeline(itertools.count(), stop_timeout=5).transport({transport})
        engine = engine.backend(Sink).start()
        under_way.wait()
        print("ready", flush=True)
        """
    assert run_and_signal(program) == (0, "cleaned up\n")


def test_a_program_that_ends_with_results_untaken():
    """At exit nobody takes results any more, so the run is given up instead of drained."""
    program = """
        import itertools
        from m3 import Pipeline

        results = Pipeline(itertools.count(), stop_timeout=1000).transport(str).results()
        print(next(results) and "ready", flush=True)
        """
    assert run_and_signal(program) == (0, "")


def test_a_program_that_ends_while_user_code_hangs():
    """The deadline holds at exit too: the program ends, and tells who hangs."""
    program = """
        import threading
        from m3 import Pipeline

        hangs = threading.Event()

        def hang(item):
            hangs.set()
            threading.Event().wait()

        engine = Pipeline([1], stop_timeout=0.5).backend(hang).start()
        hangs.wait()
        print("ready", flush=True)
        """
    code, told = run_and_signal(program)
    assert code == 0
    assert "stage 'hang', worker 0 did not end by the deadline" in told
