"""Compressed input: every format, in bounded memory, and nothing damaged is taken for an end."""

import bz2
import gzip
import importlib
import lzma
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3.connectors._input import compression
from m3.connectors._input.compression import DECOMPRESSORS, Decompression, Zstandard, recognise
from m3.connectors.file import FileFrontend
from m3.connectors.jsonl import JsonlFrontend
from m3.errors import CompressedInputError, ConfigError, MissingExtraError

pytestmark = pytest.mark.once

try:
    zstd = importlib.import_module(
        "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    )
except ImportError:
    zstd = None

PACKERS = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
if zstd is not None:
    PACKERS["zstd"] = zstd.compress
every_format = pytest.mark.parametrize("kind", PACKERS)
needs_zstd = pytest.mark.skipif(zstd is None, reason="there is no zstd")


def cut(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpack(blocks, **options):
    applied = Decompression(**options).applied("input", blocks, lambda: False)
    return b"".join(applied)


@every_format
@given(
    parts=st.lists(st.tuples(st.binary(max_size=50), st.sampled_from([1, 10_000])), min_size=1),
    size=st.sampled_from([3, 1000, 16384, 300_000]),
)
@settings(max_examples=50)
def test_all_streams_of_a_file_are_read(kind, parts, size):
    """One compressed stream after the other, cut anywhere, gives what went into all of them."""
    plain = [part * times for part, times in parts]
    packed = b"".join(map(PACKERS[kind], plain))
    for named in ({}, {"compression": kind}):
        assert unpack(cut(packed, size), max_ratio=1e9, **named) == b"".join(plain)


@given(data=st.binary(), size=st.integers(1, 20))
def test_plain_data_stays(data, size):
    """What does not begin as a compressed file does is not touched, and no byte is lost."""
    assert unpack(cut(b"x" + data, size)) == b"x" + data


@pytest.mark.parametrize("data", [b"", b"B", b"BZh", b"BZh9", b"\x1f", b"BZh91AY&S", b"BZha1AY&SY"])
def test_what_only_begins_like_a_format_is_plain(data):
    """A file that ends, or differs, within the first bytes of a format is not of that format."""
    assert unpack(cut(data, 1)) == data


@every_format
def test_a_name_says_nothing(tmp_path, kind, read_all):
    """A compressed file is recognised without the ending, and a plain one with it."""
    packed, plain = tmp_path / "plain.txt", tmp_path / "packed.gz"
    packed.write_bytes(PACKERS[kind](b"a\nb"))
    plain.write_bytes(b"c\n")
    assert read_all(FileFrontend(path=[packed, plain])) == [b"a", b"b", b"c"]


@every_format
def test_none_leaves_it_compressed(tmp_path, kind, read_all):
    """With ``compression="none"`` the records are those of the bytes that are there."""
    path = tmp_path / "file"
    path.write_bytes(PACKERS[kind](b"a\nb"))
    frontend = FileFrontend(path=path, compression="none")
    assert b"\n".join(read_all(frontend)) == path.read_bytes().removesuffix(b"\n")


def test_jsonl_is_decompressed_too(tmp_path, read_all):
    """Documents in a gzip file are read as if it were none."""
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b'{"a":1}\n[]\n'))
    assert read_all(JsonlFrontend(path=path)) == [{"a": 1}, []]


@pytest.mark.parametrize("program", ["gzip", "bzip2", "xz", "zstd"])
def test_what_the_programs_write_is_read(program, tmp_path, read_all):
    """Files of the usual programs are read, several written into one as well."""
    if program == "zstd" and zstd is None:
        pytest.skip("there is no zstd")
    path = tmp_path / "file"
    try:
        packed = [
            subprocess.run([program, "-c"], input=text, capture_output=True, check=True).stdout
            for text in (b"one\n" * 100_000, b"", b"two\n")
        ]
    except FileNotFoundError:
        pytest.skip(f"{program} is not installed")
    path.write_bytes(b"".join(packed))
    assert read_all(FileFrontend(path=path)) == [b"one"] * 100_000 + [b"two"]


def test_padding_behind_a_stream_is_no_data():
    """Zeros, as tapes and ``xz`` have them, are passed over."""
    padding = b"\0" * 512
    assert unpack([gzip.compress(b"a") + padding, padding + gzip.compress(b"b") + padding]) == b"ab"
    assert unpack([lzma.compress(b"a") + padding + lzma.compress(b"b")]) == b"ab"


@every_format
def test_a_truncated_file_is_an_error_at_every_length(kind):
    """However much is cut off, the end is not taken for the end of the input."""
    packed = PACKERS[kind](b"some lines\n" * 20)
    for length in range(11, len(packed)):
        with pytest.raises(CompressedInputError, match=r"input: the .* too early.* at byte"):
            unpack([packed[:length]])


@every_format
def test_records_before_the_damage_are_delivered(tmp_path, kind):
    """What could be read comes; then the run fails and says where."""
    path = tmp_path / "file"
    packed = PACKERS[kind](b"".join(b"%d\n" % number for number in range(300_000)))
    path.write_bytes(packed[: len(packed) * 3 // 4])
    frontend = FileFrontend(path=path)
    frontend.setup()
    items = []
    with pytest.raises(CompressedInputError, match=r"file: .*at byte \d+ of the file"):
        items.extend(frontend.produce())
    frontend.cleanup()
    assert items == [b"%d" % number for number in range(len(items))]


@pytest.mark.parametrize("kind", ["gzip", "bz2", "xz"])  # zstd has a sum only if told so
def test_damage_is_an_error(kind):
    """A changed byte in the data, or what is no stream behind one, is found out."""
    packed = bytearray(PACKERS[kind](bytes(range(256)) * 10))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(CompressedInputError, match="is damaged"):
        unpack([bytes(packed)])
    with pytest.raises(CompressedInputError, match="is damaged"):
        unpack([PACKERS[kind](b"good") + b"no stream, but long enough to be seen as such"])


@every_format
def test_a_named_format_must_be_it(kind):
    """With the format named, anything else, nothing at all included, is an error."""
    for data in (b"plain text that is long enough for every format to be sure", b""):
        with pytest.raises(CompressedInputError):
            unpack([data], compression=kind)


@every_format
def test_a_bomb_is_refused_in_little_memory(kind):
    """100 MB of zeros end the run after 1 MiB, or the ratio, and memory stays flat."""
    packed = PACKERS[kind](bytes(100_000_000))
    produced = 0
    tracemalloc.start()
    try:
        with pytest.raises(CompressedInputError, match="max_ratio=200"):
            for block in Decompression().applied("bomb", [packed], lambda: False):
                produced += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert produced <= max(2**20, 200 * min(len(packed), 2**17)) + compression.BLOCK
    assert peak < 16 * 2**20  # the window of xz alone has 8 MiB


@every_format
def test_limits_can_be_moved(kind):
    """A higher ratio lets the same through; a most output stops what is too much."""
    packed = PACKERS[kind](bytes(3_000_000))
    assert len(unpack([packed], max_ratio=1e9)) == 3_000_000
    with pytest.raises(CompressedInputError, match="max_output=1000 "):
        unpack([packed], max_output=1000)


@every_format
def test_decompressing_is_flat_in_memory(kind):
    """Of output of any length no more than a block is there at once."""
    packed = PACKERS[kind](bytes(50_000_000))
    tracemalloc.start()
    try:
        blocks = Decompression(max_ratio=1e9).applied("input", cut(packed, 65536), lambda: False)
        assert max(map(len, blocks)) <= compression.BLOCK
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20  # the window of xz alone has 8 MiB


def test_the_package_zstandard_will_do():
    """Where only that is installed, frames are read with it, cut anywhere."""
    package = pytest.importorskip("zstandard")
    data = bytes(1_000_000) + b"end"
    packed = package.compress(data)
    frame = Zstandard(package)
    found = [frame.decompress(piece, 1000) for piece in cut(packed + b"more", 7)]
    while not frame.eof:
        found.append(frame.decompress(b"", 1000))
    assert b"".join(found) == data
    assert frame.eof
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DECOMPRESSORS, "zstd", lambda: Zstandard(package))
        assert unpack(cut(packed * 3, 100), max_ratio=1e9) == data * 3


def test_a_missing_zstd_says_what_to_install(monkeypatch):
    """The error is one line with the command."""
    for name in ("compression.zstd", "backports.zstd", "zstandard", "pyzstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'm3-pipeline\[zstd\]'"):
        unpack([b"\x28\xb5\x2f\xfd rest"])


@pytest.mark.parametrize(
    "options",
    [{"compression": "zip"}, {"max_ratio": 0}, {"max_output": 0}, {"max_ratio": float("nan")}],
)
def test_options_that_cannot_be_are_refused(options):
    """Said when the stage is made."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        FileFrontend(path="file", **options)


def test_recognising_needs_few_bytes():
    """A format is known by the first bytes, and a lack of them is not taken for a no."""
    assert recognise(b"\x1f\x8b") is None
    assert recognise(b"\x1f\x8b\x08") == "gzip"
    assert recognise(b"\n") == "none"
