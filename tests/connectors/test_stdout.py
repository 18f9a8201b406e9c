"""The backend ``stdout``: exact, prompt, whole, and clear when the reader is gone."""

import io
import os
import random
import subprocess
import sys
import threading

import pytest

from m3.connectors._output.sinks import STDOUT
from m3.connectors.stdout import StdoutBackend
from m3.errors import BatchError, ConfigError

WRITE_LINES = """
import sys
from m3.connectors.stdout import StdoutBackend
backend = StdoutBackend()
backend.setup()
backend.process_batch(sys.stdin.buffer.read().split(b"\\n"))
backend.cleanup()
"""


def test_random_bytes_through_a_process_come_out_exact(python):
    """Records of any bytes are written as they are, through a real pipe."""
    data = random.Random(4).randbytes(1_000_000) + bytes(range(256)) * 100
    process = python(WRITE_LINES, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(data)
    assert output == data + b"\n"


def test_bytes_and_text_as_they_are_and_the_rest_as_str(capfdbinary, write_all):
    """Bytes are not shown as ``b'...'``, text is UTF-8, other objects are their ``str``."""
    write_all(StdoutBackend(), [b"a", "ä", bytearray(b"c")], [{"a": 1}, None, 1.5])
    assert capfdbinary.readouterr().out == "a\nä\nc\n{'a': 1}\nNone\n1.5\n".encode()


def test_an_item_that_cannot_be_encoded_fails_by_itself(capfdbinary, write_all):
    """An item that has no bytes fails, and the others of its batch are written."""
    with pytest.raises(BatchError, match="UnicodeEncodeError"):
        write_all(StdoutBackend(encoding="ascii"), ["a", "ä", "b"])
    assert capfdbinary.readouterr().out == b"a\nb\n"
    write_all(StdoutBackend(errors="surrogateescape"), ["\udcff"])
    assert capfdbinary.readouterr().out == b"\xff\n"


def test_a_batch_is_out_when_it_is_done(python):
    """What was written reaches the reader while the process goes on."""
    program = """
import sys
from m3.connectors.stdout import StdoutBackend
backend = StdoutBackend()
backend.setup()
backend.process_batch([b"prompt"])
sys.stdin.read()
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"prompt\n"
    process.communicate()
    assert process.returncode == 0


def test_what_was_printed_before_stays_before(python):
    """What the program printed into the buffer of ``sys.stdout`` comes first."""
    program = """
import sys
from m3.connectors.stdout import StdoutBackend
sys.stdout = open(1, "w", closefd=False)
print("printed")
backend = StdoutBackend()
backend.setup()
backend.process_batch([b"written"])
"""
    output, _ = python(program, stdout=subprocess.PIPE).communicate()
    assert output == b"printed\nwritten\n"


def test_output_that_does_not_block_gets_everything(python):
    """A full pipe with O_NONBLOCK set is waited for; nothing is lost, nothing spins."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    program = """
import sys, time
from m3.connectors.stdout import StdoutBackend
backend = StdoutBackend()
backend.setup()
backend.process_batch([b"x" * 1000] * 5000)
print(time.process_time(), file=sys.stderr)
"""
    process = python(program, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read() == (b"x" * 1000 + b"\n") * 5000
    _, cpu = process.communicate()
    assert process.returncode == 0
    assert float(cpu) < 5


def test_parts_of_writes_are_continued(monkeypatch, capfdbinary, write_all):
    """A system that takes three bytes at a time gets all of them, in order."""
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:3]))
    write_all(StdoutBackend(), [b"0123456789", b"abc"])
    assert capfdbinary.readouterr().out == b"0123456789\nabc\n"


def test_a_reader_that_is_gone_is_told_from_other_broken_pipes(python):
    """The error is a BrokenPipeError that names standard output."""
    program = """
import sys
from m3.connectors.stdout import StdoutBackend
backend = StdoutBackend()
backend.setup()
sys.stdin.read()
try:
    backend.process_batch([b"for nobody"])
except BrokenPipeError as error:
    print(error.filename, file=sys.stderr)
backend.cleanup()
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read().decode().strip() == STDOUT
    assert process.wait(timeout=30) == 0


def test_a_full_device_fails_the_batch(python):
    """An error of the system is raised as it is."""
    program = """
import errno
from m3.connectors.stdout import StdoutBackend
backend = StdoutBackend()
backend.setup()
try:
    backend.process_batch([b"too much"])
except OSError as error:
    assert error.errno == errno.ENOSPC
    raise SystemExit(7)
"""
    with open("/dev/full", "wb") as full:
        assert python(program, stdout=full).wait(timeout=30) == 7


@pytest.mark.parametrize("binary", [True, False])
def test_objects_without_a_descriptor_are_written(monkeypatch, write_all, binary):
    """What a test puts in place of ``sys.stdout`` gets the records, binary or text."""
    stream = io.TextIOWrapper(io.BytesIO()) if binary else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    write_all(StdoutBackend(), [b"a", "ä"])
    written = stream.buffer.getvalue().decode() if binary else stream.getvalue()
    assert written == "a\nä\n"


def test_a_closed_standard_output_is_an_error_that_says_so(monkeypatch, write_all):
    """Without standard output (``>&-``) the backend refuses, and names the way out."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ConfigError, match="> /dev/null"):
        write_all(StdoutBackend(), [b"a"])


def test_a_slow_reader_blocks_the_backend(monkeypatch):
    """A full pipe is back-pressure: the batch ends when its last byte is taken."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as reader, os.fdopen(write_end, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        backend = StdoutBackend()
        backend.setup()
        batch = [b"x" * 999] * 300
        thread = threading.Thread(target=backend.process_batch, args=(batch,))
        thread.start()
        received = reader.read(300_000)
        thread.join(timeout=20)
        assert received == (b"x" * 999 + b"\n") * 300
        backend.cleanup()


def test_one_worker_at_most():
    """The stage says that several workers would write into each other's records."""
    assert StdoutBackend.max_workers == 1
