"""The connectors in whole pipelines: what comes out, what is counted, what is left behind."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from m3.connectors._output.sinks import STDOUT
from m3.connectors.count import CountBackend
from m3.errors import PlanError, RecordTooLongError, StageError
from m3.pipeline import Pipeline

COPY = """
from m3.pipeline import Pipeline
report = Pipeline("stdin").transport(bytes).backend("stdout").run()
assert report.ok
"""


def test_random_bytes_pass_through_exactly(python):
    """Standard input to standard output changes nothing but a missing last line feed."""
    data = random.Random(5).randbytes(3_000_000) + bytes(range(256)) + b"\nend"
    process = python(COPY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(data)
    assert process.returncode == 0
    assert output == data + b"\n"


def test_each_line_is_answered_at_once(python):
    """A line typed comes out while the input stays open: nothing is held back."""
    process = python(COPY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for number in range(20):
        process.stdin.write(b"%d\n" % number)
        process.stdin.flush()
        assert process.stdout.readline() == b"%d\n" % number
    process.communicate()
    assert process.returncode == 0


def test_stop_returns_at_once_from_a_silent_input(monkeypatch):
    """An engine whose frontend waits for input stops cleanly, far before its deadline."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stdin, os.fdopen(write_end, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", stdin)
        arrived = threading.Event()
        engine = Pipeline("stdin").backend(lambda _item: arrived.set()).engine()
        engine.start(block=False)
        writer.write(b"one\nand a half")
        assert arrived.wait(timeout=20)
        report = engine.stop(timeout=30)
    assert (report.delivered, report.ok, report.hung) == (1, True, ())
    assert report.wall < 20


def test_a_failed_run_leaves_the_file_as_it_was(tmp_path):
    """An error in the middle of the input is raised, and the target keeps its content."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"1\n2\nthree\n4\n")
    target.write_bytes(b"old\n")
    pipeline = Pipeline("file", path=source).transport(int).transport(str)
    with pytest.raises(StageError, match="three"):
        pipeline.backend("file", path=target).run()
    assert target.read_bytes() == b"old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_whole_run_replaces_the_file(tmp_path):
    """When all went well the new content is there, and nothing else."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"1\n2\n")
    target.write_bytes(b"old\n")
    report = Pipeline("file", path=source).backend("file", path=target).run()
    assert report.ok
    assert target.read_bytes() == b"1\n2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_an_abandoned_run_leaves_the_file_as_it_was(tmp_path):
    """A run that was given up has not ended well: the target keeps its content."""
    target = tmp_path / "target"
    target.write_bytes(b"old\n")
    started, go_on = threading.Event(), threading.Event()

    def hold(item):
        started.set()
        go_on.wait(timeout=20)
        return item

    engine = Pipeline([b"a"] * 100).transport(hold).backend("file", path=target).engine()
    engine.start(block=False)
    assert started.wait(timeout=20)
    engine.abandon()
    go_on.set()
    assert engine.stop().abandoned > 0
    assert target.read_bytes() == b"old\n"


@pytest.mark.parametrize("workers", [1, 4])
def test_bad_records_are_counted_and_the_rest_delivered(tmp_path, workers):
    """With ``skip``, records that cannot be read are failed, all others arrive."""
    source, target = tmp_path / "source.jsonl", tmp_path / "target.jsonl"
    lines = [b'{"n":%d}' % number for number in range(1000)]
    lines[100], lines[500], lines[900] = b"{", b"\xff", b"[" * 2000
    source.write_bytes(b"\n".join(lines))
    pipeline = Pipeline("jsonl", path=source, limit=1000, on_error="skip")
    pipeline = pipeline.transport(lambda item: item["n"], workers=workers)
    report = pipeline.backend("jsonl", path=target).run()
    assert (report.produced, report.delivered, report.failed) == (1000, 997, 3)
    expected = set(range(1000)) - {100, 500, 900}
    assert {json.loads(line) for line in target.read_bytes().splitlines()} == expected


def test_a_bad_record_fails_the_run_with_its_position(tmp_path):
    """By default a record over the limit ends the run; the error says which it was."""
    source = tmp_path / "source"
    source.write_bytes(b"short\n" + b"x" * 100 + b"\n")
    with pytest.raises(StageError) as caught:
        Pipeline("file", path=source, limit=50).backend("null").run()
    assert isinstance(caught.value.__cause__, RecordTooLongError)
    assert caught.value.position == (str(source), 2, 6)
    assert "line=2" in str(caught.value)


def test_a_closed_output_is_recognisable_in_the_error(python):
    """What reaches the caller has as its cause a BrokenPipeError that names stdout."""
    program = """
import sys
from m3.errors import StageError
from m3.pipeline import Pipeline
sys.stdin.readline()
try:
    Pipeline([b"a"] * 100_000).backend("stdout").run()
except StageError as error:
    print(error.__cause__.filename, file=sys.stderr)
"""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = python(program, **streams)
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(b"go\n")
    assert errors.decode().strip() == STDOUT


@pytest.mark.parametrize("name", ["stdout", "file", "jsonl", "count"])
def test_several_workers_are_refused_where_they_would_do_harm(tmp_path, name):
    """A backend that one worker alone can be says so before anything starts."""
    options = {"path": tmp_path / "file"} if name == "file" else {}
    with pytest.raises(PlanError, match="1 worker"):
        Pipeline([]).backend(name, workers=2, **options).engine()


def test_the_count_is_the_data(capfdbinary):
    """The backend's number goes to stdout, the transport's to stderr, the sum is right."""
    report = Pipeline(range(10_000)).transport("count").backend("count").run()
    assert report.delivered == 10_000
    assert capfdbinary.readouterr() == (b"10000\n", b"count: 10000\n")


def test_the_count_can_be_asked_for(capfdbinary):
    """An instance keeps the number for its maker."""
    counter = CountBackend()
    Pipeline(range(7)).backend(counter).run()
    assert counter.total == 7
    assert capfdbinary.readouterr().out == b"7\n"


def test_several_sinks_get_the_same(tmp_path, monkeypatch):
    """Two files and a null backend each get every record."""
    monkeypatch.setattr(sys, "stdin", io.BytesIO(b"a\nb\n"))
    pipeline = Pipeline("stdin").backend("null")
    for name in ("one", "two"):
        pipeline = pipeline.backend("file", path=tmp_path / name)
    assert pipeline.run().delivered == 2
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == b"a\nb\n"


def test_kill_in_the_middle_of_a_run_leaves_the_file_as_it_was(tmp_path, python):
    """SIGKILL while items flow: the target has its old content, whole."""
    target = tmp_path / "target"
    target.write_bytes(b"old\n")
    program = """
import itertools, sys
from m3.pipeline import Pipeline
def tell(number):
    if number == 50_000:
        print("flowing", flush=True)
    return b"%d" % number
Pipeline(itertools.count()).transport(tell).backend("file", path=sys.argv[1]).run()
"""
    process = python(program, target, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"flowing\n"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    assert target.read_bytes() == b"old\n"


def test_no_descriptor_is_left(tmp_path, descriptors):
    """Fifty pipelines over files leave as many descriptors open as there were."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"a\nb\n")

    def run():
        Pipeline("file", path=source).transport("log").backend("file", path=target).run()

    run()
    before = descriptors()
    for _ in range(50):
        run()
    assert descriptors() == before


def test_a_silent_input_costs_no_processor_time(python):
    """A whole pipeline that waits for input uses less than 1 % of a core."""
    program = """
import sys, threading, time
from m3.pipeline import Pipeline
engine = Pipeline("stdin").transport(bytes).backend("stdout").engine()
engine.start(block=False)
before = time.process_time()
threading.Event().wait(2)
print((time.process_time() - before) / 2, file=sys.stderr)
engine.stop()
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert float(process.stderr.read()) < 0.01
    process.communicate()


def test_memory_is_flat_when_the_output_is_slow(python):
    """A million records into a pipe that nobody reads fill the queues and then wait."""
    program = """
import resource, sys, threading
from m3.pipeline import Pipeline
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
engine = Pipeline("stdin").backend("stdout").engine()
before = peak()
engine.start(block=False)
engine.wait()
print(peak() - before, file=sys.stderr)
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def feed():
        with process.stdin as stdin:
            stdin.write(b"the quick brown fox jumps over the lazy dog\n" * 1_000_000)

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(timeout=1)
    assert feeder.is_alive(), "44 MB fitted into the queues"
    assert sum(1 for _ in process.stdout) == 1_000_000
    feeder.join(timeout=20)
    assert int(process.stderr.read()) < 8
