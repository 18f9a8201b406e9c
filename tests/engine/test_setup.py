"""Setup and cleanup: all before the first item, in reverse when one fails."""

import signal
import subprocess
import sys
import threading
from textwrap import dedent

import pytest
from workbench import SOON, in_thread, meet

from m3 import Backend, Frontend, Pipeline, Transport
from m3.errors import (
    CleanupError,
    EngineStateError,
    HungWorkerError,
    PipelineError,
    SetupError,
)


class Logged:
    """A stage of any kind that logs its life, and whose setup or cleanup may raise."""

    def __init__(self, log, name, bad_setup=None, bad_cleanup=None):
        self.log = log
        self.name = name
        self.bad_setup = bad_setup
        self.bad_cleanup = bad_cleanup

    def setup(self):
        if self.bad_setup:
            raise self.bad_setup
        self.log.append(f"setup {self.name}")

    def cleanup(self):
        self.log.append(f"cleanup {self.name}")
        if self.bad_cleanup:
            raise self.bad_cleanup

    def produce(self):
        self.log.append("produce")
        yield 1

    def transport(self, data):
        return data

    def process(self, data):
        self.log.append("process")


class Source(Logged, Frontend):
    pass


class Middle(Logged, Transport):
    pass


class Sink(Logged, Backend):
    pass


def test_no_item_is_handled_before_every_worker_is_set_up():
    """Every setup of every worker has returned before any frontend is asked for an item."""
    produced = threading.Event()
    ready = []

    class Slow(Transport):
        def setup(self):
            assert not produced.wait(0.05)
            ready.append(self)

    class Eager(Frontend):
        def setup(self):
            ready.append(self)

        def produce(self):
            produced.set()
            yield len(ready)

    class Late(Backend):
        def setup(self):
            assert not produced.wait(0.05)
            ready.append(self)

        def process(self, data):
            assert data == 7

    class Passing(Slow):
        def transport(self, data):
            return data

    pipeline = Pipeline(Eager).transport(Passing, workers=3).backend(Late, workers=3)
    assert pipeline.run().delivered == 1


def test_setup_failure_is_raised_and_leaves_nothing_running():
    """A failing setup is raised from start(), with the original; no item was asked for."""
    log = []
    error = OSError("no such host")
    engine = (
        Pipeline(Source(log, "source"))
        .transport(Middle(log, "middle"))
        .backend(Sink(log, "sink", bad_setup=error))
        .engine()
    )
    with pytest.raises(SetupError) as caught:
        engine.start()
    assert caught.value.__cause__ is error
    assert (caught.value.stage, caught.value.phase) == ("Sink", "setup")
    assert log == []
    assert engine.stopped()
    assert engine.report().produced == 0


def test_failing_setup_cleans_up_in_reverse_exactly_what_was_set_up():
    """The stages before the failing one are cleaned up, last first; the failing one is not."""
    log = []
    engine = (
        Pipeline(Source(log, "source", bad_setup=OSError()))
        .transport(Middle(log, "chained"), workers=0, name="chained")
        .transport(Middle(log, "middle"), name="middle")
        .backend(Sink(log, "one"), name="one")
        .backend(Sink(log, "two"), name="two")
        .engine()
    )
    with pytest.raises(SetupError):
        engine.start()
    set_up = [line.removeprefix("setup ") for line in log if line.startswith("setup")]
    cleaned_up = [line.removeprefix("cleanup ") for line in log if line.startswith("cleanup")]
    assert sorted(set_up) == ["middle", "one", "two"]
    assert cleaned_up == set_up[::-1]


def test_chained_stage_whose_setup_fails_has_its_head_cleaned_up():
    """In one thread too, what was set up before the failing stage is cleaned up."""
    log = []
    engine = (
        Pipeline(Source(log, "source"))
        .transport(Middle(log, "chained", bad_setup=OSError()), workers=0)
        .engine()
    )
    with pytest.raises(SetupError):
        engine.start()
    assert log == ["setup source", "cleanup source"]


def test_a_constructor_that_raises_is_a_failing_setup():
    """The instances are made in the workers; what a constructor raises is told like a setup's."""

    class Bad(Backend):
        def __init__(self):
            raise ZeroDivisionError

        def process(self, data):
            raise AssertionError

    with pytest.raises(SetupError) as caught:
        Pipeline([1]).backend(Bad).run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_all_that_fails_in_setup_and_in_undoing_it_is_raised_together():
    """Several failing setups, and cleanups that fail because of them, come as one group."""
    log = []
    engine = (
        Pipeline(Source(log, "source", bad_setup=OSError("first")))
        .frontend(Source(log, "other", bad_setup=OSError("second")), name="other")
        .backend(Sink(log, "sink", bad_cleanup=OSError("third")))
        .engine()
    )
    # Frontends are pools of their own: the second is never started once the first failed.
    with pytest.raises(PipelineError) as caught:
        engine.start()
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [SetupError, CleanupError]


def test_workers_of_one_stage_that_all_fail_are_all_told():
    """Eight failing setups are eight errors in the group, each with its worker."""

    class Bad(Backend):
        def setup(self):
            raise OSError

        def process(self, data):
            raise AssertionError

    with pytest.raises(PipelineError) as caught:
        Pipeline([1]).backend(Bad, workers=8).run()
    assert [error.worker for error in caught.value.exceptions] == list(range(8))


def test_setup_and_cleanup_run_once_in_the_thread_of_each_worker():
    """A worker's instance is made, set up, used and cleaned up in one thread, once."""
    lives = []
    barrier = threading.Barrier(3)

    class Worker(Transport):
        def __init__(self):
            self.life = [("made", threading.current_thread())]
            lives.append(self.life)

        def setup(self):
            self.life.append(("setup", threading.current_thread()))

        def transport(self, data):
            barrier.wait(SOON)
            self.life.append(("item", threading.current_thread()))
            return data

        def cleanup(self):
            self.life.append(("cleanup", threading.current_thread()))

    Pipeline(range(3)).transport(Worker, workers=3, name="w").run()
    assert sorted(life[0][1].name for life in lives) == ["m3-w-0", "m3-w-1", "m3-w-2"]
    for life in lives:
        assert [what for what, _ in life] == ["made", "setup", "item", "cleanup"]
        assert len({thread for _, thread in life}) == 1


def test_cleanup_knows_whether_the_run_failed():
    """`failed` is set before cleanup: true when the run failed or was given up."""
    told = []

    class Sink(Backend):
        def process(self, data):
            if data == "bad":
                raise ValueError

        def cleanup(self):
            told.append(self.failed)

    Pipeline(["good"]).backend(Sink).run()
    with pytest.raises(Exception, match="ValueError"):
        Pipeline(["bad"]).backend(Sink).run()
    assert told == [False, True]


def test_an_attribute_called_failed_of_a_foreign_class_is_its_own():
    """Only subclasses of m3's stages are told of the outcome; other objects are not touched."""

    class Foreign:
        def process(self, data):
            pass

        def failed(self):
            pass

    sink = Foreign()
    Pipeline([1]).backend(sink).run()
    assert callable(sink.failed)


def test_stop_during_setup_lets_the_run_end_without_an_item():
    """A stop that comes while workers are set up is obeyed once they are: nothing is produced."""
    in_setup, may_go_on = threading.Event(), threading.Event()

    class Slow(Backend):
        def setup(self):
            in_setup.set()
            meet(may_go_on)

        def process(self, data):
            raise AssertionError

    engine = Pipeline(range(10)).backend(Slow).engine()
    started = in_thread(engine.start)
    meet(in_setup)
    engine.request_stop()
    may_go_on.set()
    report = started()
    assert (report.state, report.produced, report.stopped) == ("finished", 0, True)


def test_stop_during_a_setup_that_hangs_returns_and_so_does_start():
    """stop() by its deadline names the worker that hangs in setup; start() raises the same."""
    in_setup, at_end = threading.Event(), threading.Event()
    cleaned_up = []

    class Hanging(Backend):
        def setup(self):
            in_setup.set()
            at_end.wait()

        def process(self, data):
            raise AssertionError

        def cleanup(self):
            cleaned_up.append(self)

    engine = Pipeline([1]).backend(Hanging, name="hanging").engine()
    started = in_thread(engine.start)
    meet(in_setup)
    report = engine.stop(timeout=0.2)
    assert [error.stage for error in report.hung] == ["hanging"]
    assert "in setup" in report.hung[0].stack
    with pytest.raises(HungWorkerError, match="hanging"):
        started()
    at_end.set()
    for worker in engine.workers:
        if worker.thread:
            worker.thread.join(SOON)
    assert len(cleaned_up) == 1


def test_abandon_during_setup_ends_the_run_without_an_item():
    """Given up while workers are set up, the rest is not; what was is cleaned up; no failure."""
    log = []

    class Abandons(Sink):
        def setup(self):
            super().setup()
            engine.abandon()

    engine = Pipeline(Source(log, "source")).backend(Abandons(log, "sink")).engine()
    report = engine.start()
    assert (report.state, report.produced, report.stopped) == ("finished", 0, True)
    assert log == ["setup sink", "cleanup sink"]


def test_a_layout_that_cannot_be_made_ends_the_engine():
    """When the queues themselves cannot be made, start() raises and nothing waits for ever."""
    engine = Pipeline([1]).transport(str, workers=2, ordering="input", queue_size=1 << 60).engine()
    with pytest.raises(MemoryError):
        engine.start()
    assert engine.stopped()
    with pytest.raises(EngineStateError):
        engine.start()
    assert engine.stop().state == "failed"


@pytest.mark.parametrize("moment", ["setup", "work"])
def test_ctrl_c_without_a_handler_ends_start(moment):
    """SIGINT during start() raises KeyboardInterrupt out of it, once all was cleaned up."""
    program = dedent(
        """
        import sys, threading
        from m3 import Backend, Frontend, Pipeline

        at_work = threading.Event()

        class Endless(Frontend):
            def produce(self):
                while True:
                    yield 1
                    at_work.wait(0.001)

            def cleanup(self):
                print("cleaned up", flush=True)

        class Sink(Backend):
            def setup(self):
                if sys.argv[1] == "setup":
                    print("ready", flush=True)
                    at_work.wait(0.3)

            def process(self, data):
                if not at_work.is_set():
                    at_work.set()
                    print("ready", flush=True)

        try:
            Pipeline(Endless).backend(Sink).run()
        except KeyboardInterrupt:
            print(threading.active_count(), flush=True)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, moment], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=SOON)
    assert child.returncode == 0
    assert out.split("\n")[-2] == "1"
    assert ("cleaned up" in out) == (moment == "work")
