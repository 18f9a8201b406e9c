"""F20–F25: input that is too long, packed, nested or no text: item errors, in little memory."""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sysconfig
from contextlib import suppress

import pytest
from outcomes import residual

pytestmark = pytest.mark.once

INCOMPLETE, FAILED = 3, 1
MIB = 2**20
GIB = 2**30

ADDRESSES = 4 * GIB if sysconfig.get_config_var("Py_GIL_DISABLED") else 512 * MIB
"""The address space of a run; without the GIL Python itself reserves more than 1 GiB."""


def copy(frontend, *options):
    words = ["--frontend", frontend, "--backend", "file", "--set", "backend.path=out"]
    for option in ("frontend.path=in", "frontend.on_error=skip", *options):
        words += ["--set", option]
    return words


def peak_of(m3_run, *words, **options):
    """
    Run the pipeline; return what it did and the most memory that it had, in bytes.

    The kernel is asked while it runs: what it says at the end includes what this process had
    when it started the other.
    """
    process = m3_run.start(*words, stdout=None, **options)
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_so_far(process.pid))
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.005)
    said = process.stderr.read().decode()
    process.stderr.close()
    return process.returncode, said, peak


def peak_so_far(pid):
    """Return the most memory that a process has had; 0 if it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def make_long_line(path, length):
    """Write three short lines and, between them, a hole that is so long."""
    with path.open("wb") as file:
        file.write(b"first\n")
        file.seek(length, os.SEEK_CUR)
        file.write(b"\nlast\nend\n")


@pytest.mark.parametrize("frontend", ["file", "jsonl", "csv"])
def test_no_line_end(m3_run, frontend):
    """256 MiB without a line end, with 512 MiB of address space: one item error, the rest comes."""
    check_long_line(m3_run, frontend, 256 * MIB)


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("frontend", ["file", "jsonl", "csv"])
def test_two_gibibytes_without_a_line_end(m3_run, frontend):
    """The same with 2 GiB."""
    print(frontend, check_long_line(m3_run, frontend, 2 * GIB) // MIB, "MiB")


def check_long_line(m3_run, frontend, length):
    make_long_line(m3_run.folder / "in", length)
    limits = {"RLIMIT_AS": ADDRESSES}
    words = copy(frontend)
    words += ["--transport", "builtins:repr"]
    code, said, peak = peak_of(m3_run, *words, limits=limits)
    assert code == INCOMPLETE, said
    assert "RecordTooLongError" in said
    counts = m3_run.counts()
    assert residual(counts) == 0
    lines = (m3_run.folder / "out").read_text().splitlines()
    if frontend == "file":
        assert lines == ["b'first'", "b'last'", "b'end'"]
        assert (counts["delivered"], counts["failed"]) == (3, 1)
    elif frontend == "csv":
        assert lines == ["{'first': 'last'}", "{'first': 'end'}"]
    else:
        assert counts["failed"] == 4
    assert peak < 160 * MIB
    return peak


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb(m3_run, packer):
    """What becomes 200 times as long as it was is refused, in little memory, and fails the run."""
    packed = PACKERS[packer](bytes(8 * MIB))
    (m3_run.folder / "in").write_bytes(packed * 40)
    words = copy("file", "frontend.limit=1024")
    code, said, peak = peak_of(m3_run, *words, limits={"RLIMIT_AS": ADDRESSES})
    assert code == FAILED
    assert "CompressedInputError" in said
    assert residual(m3_run.counts()) == 0
    assert peak < 160 * MIB
    assert not (m3_run.folder / "out").exists()


PAIRS = b"".join(bytes([first, second, 10]) for first in range(256) for second in range(256))


@pytest.mark.parametrize("workers", [0, 1])
def test_all_pairs_of_bytes_pass(m3_run, workers):
    """Bytes out are bytes in: nothing but the line feed ends a line, and nothing is changed."""
    (m3_run.folder / "in").write_bytes(PAIRS)
    words = [*copy("file"), "--transport", "faulty:same", "--set", f"transport.workers={workers}"]
    ended = m3_run.run(*words)
    assert ended.code == 0
    assert ended.counts["delivered"] == PAIRS.count(b"\n")
    written = (m3_run.folder / "out").read_bytes()
    assert hashlib.sha256(written).digest() == hashlib.sha256(PAIRS).digest()


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "shift_jis", "latin-1"])
def test_what_is_no_text_is_an_item_error(m3_run, encoding):
    """With an encoding, exactly those lines fail that it cannot decode; the others come as text."""
    (m3_run.folder / "in").write_bytes(PAIRS)
    good, bad = [], 0
    for line in PAIRS.split(b"\n")[:-1]:
        try:
            good.append(line.decode(encoding))
        except UnicodeDecodeError:
            bad += 1
    ended = m3_run.run(
        *copy("file", f"frontend.encoding={encoding}", f"backend.encoding={encoding}")
    )
    assert ended.code == (INCOMPLETE if bad else 0)
    assert (ended.counts["delivered"], ended.counts["failed"]) == (len(good), bad)
    assert residual(ended.counts) == 0
    written = (m3_run.folder / "out").read_bytes()
    assert written == "".join(f"{line}\n" for line in good).encode(encoding)


DEEP = 100_000

BAD = {
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b"[" * DEEP,
    "not a number": b"NaN",
    "infinity": b"[Infinity]",
    "zero byte": b'"\x00"',
    "no utf-8": b'"\xff"',
    "two values": b"1 2",
    "nothing": b" ",
}


@pytest.mark.parametrize("with_msgspec", [True, False])
def test_json_that_is_none(m3_run, with_msgspec):
    """Each is an item error, the process lives, and the 100 good ones come."""
    lines = [b'{"id": %d}' % number for number in range(100)]
    for place, bad in enumerate(BAD.values()):
        lines.insert(place * 7, bad)
    (m3_run.folder / "in").write_bytes(b"\n".join(lines) + b"\n")
    words = ["--frontend", "jsonl", "--backend", "jsonl", "--set", "backend.path=out"]
    words += ["--set", "frontend.path=in", "--set", "frontend.on_error=skip"]
    ended = m3_run.run(*words, environment=None if with_msgspec else without_msgspec(m3_run))
    assert ended.code == INCOMPLETE, ended.said
    assert residual(ended.counts) == 0
    values = [json.loads(line) for line in (m3_run.folder / "out").read_text().splitlines()]
    assert [it["id"] for it in values if isinstance(it, dict) and "id" in it] == list(range(100))
    assert ended.counts["failed"] == len(BAD), ended.said


def without_msgspec(m3_run):
    """Return an environment in which msgspec cannot be imported."""
    (m3_run.folder / "hidden").mkdir()
    (m3_run.folder / "hidden" / "msgspec.py").write_text("raise ImportError")
    return {"PYTHONPATH": os.pathsep.join([str(m3_run.folder / "hidden"), m3_run.sources])}


def test_huge_numbers(m3_run):
    """A whole number of 5,000 digits goes through or is an item error; the process lives."""
    digits = b"9" * 5000
    lines = [
        b'{"id": 1}',
        b'{"id": ' + digits + b"}",
        b'{"id": 1e999}',
        b'{"id": -0.0}',
        b'{"id": 2}',
    ]
    (m3_run.folder / "in").write_bytes(b"\n".join(lines) + b"\n")
    words = ["--frontend", "jsonl", "--backend", "jsonl", "--set", "backend.path=out"]
    words += ["--set", "frontend.path=in", "--set", "frontend.on_error=skip"]
    ended = m3_run.run(*words, "--set", "backend.on_error=skip")
    assert ended.code in (0, INCOMPLETE), ended.said
    assert residual(ended.counts) == 0
    assert ended.counts["delivered"] + ended.counts["failed"] == len(lines)
    written = (m3_run.folder / "out").read_text().splitlines()
    assert (written[0], written[-1]) == ('{"id":1}', '{"id":2}')


def test_a_huge_field_of_csv(m3_run):
    """A field of 140,000 letters in row 500 of 1,000 comes whole; it is no reason to stop."""
    rows = [f"{number},{'x' * (140_000 if number == 500 else 1)}" for number in range(1000)]
    (m3_run.folder / "in").write_text("\n".join(["a,b", *rows]) + "\n")
    ended = m3_run.run(*copy("csv"), "--transport", "faulty:length_of_b")
    assert ended.code == 0, ended.said
    lengths = [int(line) for line in (m3_run.folder / "out").read_text().split()]
    assert (len(lengths), lengths[500], sum(lengths)) == (1000, 140_000, 140_999)


def test_deep_recursion_in_user_code(m3_run):
    """User code that calls itself without end, in eight threads: item errors, no crash."""
    (m3_run.folder / "in").write_text("".join(f"{number}\n" for number in range(200)))
    words = [*copy("file"), "--transport", "faulty:endless", "--set", "transport.workers=8"]
    ended = m3_run.run(*words, "--set", "transport.on_error=skip")
    assert ended.code == INCOMPLETE, ended.said
    assert (ended.counts["failed"], ended.counts["delivered"]) == (100, 100)
    assert "RecursionError" in ended.said
