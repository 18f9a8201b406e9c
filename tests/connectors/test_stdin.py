"""The frontend ``stdin``: exact, prompt, bounded, and awake when told to stop."""

import io
import os
import pty
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from m3.connectors.stdin import StdinFrontend
from m3.errors import ConfigError, RecordTooLongError

PRINT_ALL = """
import sys
from m3.connectors.stdin import StdinFrontend
frontend = StdinFrontend()
frontend.setup()
for item in frontend.produce():
    sys.stdout.buffer.write(b"[%s]" % item)
    sys.stdout.buffer.flush()
frontend.cleanup()
"""


@pytest.fixture
def pipe(monkeypatch):
    """Make a pipe standard input; return its other end, unbuffered."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stdin, os.fdopen(write_end, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield writer


def feed(monkeypatch, data):
    """Make a file object without a descriptor standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"\n\n\n", [b"", b"", b""]),
        (b"a", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
        (b"a\0b\n\0\n", [b"a\0b", b"\0"]),
        ("a\u2028b\x85c\x0bd\x0ce\x1cf\n".encode(), ["a\u2028b\x85c\x0bd\x0ce\x1cf".encode()]),
        (b"\xef\xbb\xbfa\n\xff\xfe\n", [b"\xef\xbb\xbfa", b"\xff\xfe"]),
    ],
)
def test_only_a_line_feed_ends_a_record(monkeypatch, data, records, read_all):
    """Records are bytes between line feeds; the last needs none; nothing is changed in them."""
    feed(monkeypatch, data)
    assert read_all(StdinFrontend()) == records


def test_random_bytes_through_a_process_come_out_exact(python):
    """A megabyte of random bytes, through a real pipe, is what it was when joined again."""
    data = random.Random(2).randbytes(1_000_000) + bytes(range(256)) * 100
    process = python(PRINT_ALL, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(data)
    assert output == b"".join(b"[%s]" % record for record in data.split(b"\n"))


def test_a_record_comes_as_soon_as_it_is_complete(pipe, reading):
    """A record is an item at once, though the next has begun and the pipe stays open."""
    reader = reading(StdinFrontend())
    pipe.write(b"first\nsec")
    reader.wait_for_items(1)
    pipe.write(b"ond\nthird\n")
    reader.wait_for_items(2)
    pipe.close()
    assert reader.join() == [b"first", b"second", b"third"]


def test_stop_wakes_a_blocked_read(pipe, reading):
    """``stop()`` ends a frontend that waits on a pipe that is open and silent."""
    reader = reading(StdinFrontend())
    pipe.write(b"one\nhalf of anoth")
    reader.wait_for_items(1)
    assert reader.stop() == [b"one"]


def test_stop_wakes_a_read_from_a_terminal(monkeypatch, reading):
    """``stop()`` ends a frontend that waits for somebody to type; a line typed is an item."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        reader = reading(StdinFrontend())
        keyboard.write(b"typed\n")
        reader.wait_for_items(1)
        assert reader.stop() == [b"typed"]


def test_the_end_of_transmission_ends_a_terminal(monkeypatch, reading):
    """Ctrl-D at the beginning of a line is the end of the input."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        keyboard.write(b"typed\n\x04")
        assert reading(StdinFrontend()).join() == [b"typed"]


@pytest.mark.parametrize("content", [b"", b"a\nb"])
def test_regular_files_and_devices_can_be_standard_input(monkeypatch, tmp_path, content, read_all):
    """What cannot be waited for with epoll, a file or /dev/null, is read to its end."""
    path = tmp_path / "input"
    path.write_bytes(content)
    for source, records in ((path, content.split()), (Path(os.devnull), [])):
        with source.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert read_all(StdinFrontend()) == records


@pytest.mark.parametrize("stream", [io.BytesIO(b"a\nb\n"), io.StringIO("a\nb\n")])
def test_objects_without_a_descriptor_are_read(monkeypatch, stream, read_all):
    """What a test puts in place of ``sys.stdin`` works, binary or text."""
    monkeypatch.setattr(sys, "stdin", stream)
    assert read_all(StdinFrontend()) == [b"a", b"b"]


def test_standard_input_is_looked_up_when_the_run_begins(monkeypatch, read_all):
    """A frontend made before ``sys.stdin`` was replaced reads the replacement."""
    frontend = StdinFrontend()
    feed(monkeypatch, b"late\n")
    assert read_all(frontend) == [b"late"]


def test_what_somebody_read_too_much_is_not_lost(pipe, read_all):
    """The records that a ``readline`` before the run left in the buffer are items."""
    pipe.write(b"header\nfirst\nsecond\n")
    assert sys.stdin.buffer.readline() == b"header\n"
    pipe.close()
    assert read_all(StdinFrontend()) == [b"first", b"second"]


def test_a_closed_standard_input_is_an_error_that_says_so(monkeypatch, read_all):
    """Without standard input (``<&-``) the frontend refuses, and names the way out."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="< /dev/null"):
        read_all(StdinFrontend())


def test_text_with_an_encoding_fails_record_by_record(monkeypatch, read_all):
    """A record that does not decode is a failure with its raw bytes; the others are text."""
    feed(monkeypatch, "gut\n\nschön\n".encode() + b"sch\xf6n\nend")
    first, empty, second, failure, last = read_all(StdinFrontend(encoding="utf-8"))
    assert (first, empty, second, last) == ("gut", "", "schön", "end")
    assert isinstance(failure.error, UnicodeDecodeError)
    assert failure.value == b"sch\xf6n"
    assert failure.position == ("stdin", 4, 12)


def test_a_limit_below_one_byte_is_refused():
    """A limit that no record can keep is an error of the configuration."""
    with pytest.raises(ConfigError, match="limit=0"):
        StdinFrontend(limit=0)


def test_a_giant_record_costs_no_memory(python):
    """64 MiB without a line feed, at a limit of 1 MiB: one failure, and memory stays flat."""
    program = """
import resource, sys
from m3.connectors.stdin import StdinFrontend
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
frontend = StdinFrontend(limit=1024 * 1024)
frontend.setup()
items = frontend.produce()
before = next(items), peak()
failure, last = items
print(type(failure.error).__name__, last.decode(), peak() - before[1])
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"first\n")
    for _ in range(64):
        process.stdin.write(b"x" * 1024 * 1024)
    output, _ = process.communicate(b"\nlast\n")
    kind, last, growth = output.decode().split()
    assert (kind, last) == (RecordTooLongError.__name__, "last")
    assert int(growth) < 8


def test_a_reader_without_input_costs_no_processor_time(pipe, reading):
    """A blocked reader uses less than 1 % of a core."""
    used: list[float] = []

    class Measured(StdinFrontend):
        def produce(self):
            before = time.thread_time()
            yield from super().produce()
            used.append(time.thread_time() - before)

    reader = reading(Measured())
    pipe.write(b"one\n")
    reader.wait_for_items(1)
    threading.Event().wait(1)
    reader.stop()
    assert used[0] < 0.01


def test_no_descriptor_is_left(pipe, read_all, descriptors):
    """Fifty runs leave as many descriptors open as there were."""
    pipe.close()
    before = descriptors()
    for _ in range(50):
        read_all(StdinFrontend())
    assert descriptors() == before
