"""F10: descriptors or threads run out: an error that says so, no hang, no spinning."""

import resource
import threading
import time

import pytest
from outcomes import residual
from sturdy import Lines, Numbers

from m3 import Backoff, Frontend, Item, Pipeline, Retry
from m3.engine import Engine
from m3.engine.runtime import Runtime
from m3.errors import M3Error

COUNT = 2000


@pytest.mark.parametrize("most", [7, 8, 10, 12, 16, 24, 32])
def test_descriptors_run_out(m3_run, most):
    """However few there are, the run is right or says why not; then it goes on exactly."""
    (m3_run.folder / "in").write_bytes(b"".join(b"%d\n" % n for n in range(COUNT)))
    words = ["--frontend", "file", "--transport", "faulty:same", "--backend", "file"]
    words += ["--set", "frontend.path=in", "--set", "backend.path=out", "--state", "state"]
    ended = m3_run.run(*words, limits={"RLIMIT_NOFILE": most})
    assert ended.code in (0, 1, 2)
    assert ended.code == 0 or "open" in ended.said
    assert "Traceback" not in ended.said
    assert not ended.counts or residual(ended.counts) == 0
    ended = m3_run.run(*words)
    assert ended.code == 0, ended.said
    assert (m3_run.folder / "out").read_bytes() == (m3_run.folder / "in").read_bytes()


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_descriptors_run_out_in_user_code(m3_run, policy):
    """With 32 of them, and user code that opens one per item: item errors, and little work."""
    (m3_run.folder / "in").write_bytes(b"".join(b"%d\n" % n for n in range(COUNT)))
    words = ["--frontend", "file", "--transport", "faulty:Opening", "--backend", "null"]
    words += [
        "--set",
        "frontend.path=in",
        "--set",
        f"transport.on_error={policy}",
        "--workers",
        "4",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = m3_run.run(*words, limits={"RLIMIT_NOFILE": 32})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.code == {"fail": 1, "skip": 3}[policy]
    assert "Too many open files" in ended.said
    assert residual(ended.counts) == 0
    assert ended.counts["delivered"] < 32
    assert after.ru_utime - before.ru_utime < 5


class FewThreads(Runtime):
    """Threads run out after so many; the clock and the queues are the usual ones."""

    def __init__(self, most):
        self.left = most

    def spawn(self, target, name, last):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("can't start new thread")
        return super().spawn(target, name, last)


class Told(Frontend):
    """Numbers, with their answers; its ``stop`` wants a thread, too."""

    def __init__(self, answers):
        self.answers = answers

    def produce(self):
        for number in range(COUNT):
            yield Item(number, number)

    def stop(self):
        pass

    def ack(self, position):
        self.answers.append(position)

    def nack(self, position, error):
        self.answers.append(position)


async def later(item):
    return item


def told(folder):
    answers = []
    pipeline = Pipeline(Told, answers=answers).transport(lambda item: item, workers=3, timeout=30)
    return pipeline.backend(lambda item: None, name="end"), answers


def kept(folder):
    again = Retry(attempts=2, backoff=Backoff(initial=0.001))
    pipeline = Pipeline(Numbers, count=COUNT, state=folder / "state", checkpoint_interval=0.01)
    pipeline.transport(lambda item: item, workers=2, ordering="input", on_error=again)
    return pipeline.backend(Lines, path=folder / "out"), None


def asynchronous(folder):
    return Pipeline(range(COUNT)).transport(later, concurrency=8).backend(lambda item: None), None


@pytest.mark.parametrize("describe", [told, kept, asynchronous])
def test_threads_run_out(tmp_path, describe):
    """
    Whichever thread is the first that cannot be started, the run fails with what the system says.

    Every item and every answer is accounted for, and no thread is left.
    """
    for most in range(20):
        folder = tmp_path / str(most)
        folder.mkdir()
        pipeline, answers = describe(folder)
        engine = Engine(pipeline.plan(), runtime=FewThreads(most))
        error = ended_with(engine)
        report = engine.report()
        assert residual(report) == 0
        assert not report.hung
        if answers is not None:
            assert sorted(answers) == list(range(report.produced))
        if error is None:
            assert report.delivered == COUNT
            assert engine.runtime.left >= 0
            return
        assert "can't start new thread" in "".join(map(str, leaves(error)))
    pytest.fail("it wants more threads than it should")


def ended_with(engine):
    """Run *engine* in a thread, as it may hang; return what it raised."""
    errors = []

    def start():
        try:
            engine.start()
        except (M3Error, RuntimeError) as error:
            errors.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), [it.name for it in threading.enumerate()]
    until = time.monotonic() + 5
    while left := [it.name for it in threading.enumerate() if it.name.startswith("m3-")]:
        assert time.monotonic() < until, left
    return errors[0] if errors else None


def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
