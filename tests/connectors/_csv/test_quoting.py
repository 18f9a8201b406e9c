"""CSV records in blocks of bytes: against a reader that goes byte by byte, and the csv module."""

import csv
import io
import itertools
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3.connectors._csv.dialect import Dialect
from m3.connectors._csv.quoting import Quoting, Spoilt
from m3.errors import ConfigError, MalformedRecordError, RecordTooLongError

pytestmark = pytest.mark.once

COMMA = Dialect(delimiter=",", quotechar='"', encoding="utf-8")

awkward = st.lists(
    st.sampled_from([b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"a", "ä".encode(), b'","', b'"\n']),
    max_size=40,
).map(b"".join)


def told(quoting, blocks):
    """Return what comes of *blocks*: (line, offset, record, what is wrong) of each record."""
    found = []
    parts = [part for block in blocks for part in quoting.feed(block)]
    for part in [*parts, *quoting.end()]:
        if isinstance(part, Spoilt):
            found.append((part.line, part.offset, part.record, type(part.error)))
            continue
        line, offset = part.line, part.offset
        for record in part.records:
            found.append((line, offset, record, None))
            line += len(re.findall(rb"\r\n|\r|\n", record))
            offset += len(record)
    return found


def byte_by_byte(data, limit):
    """Return what the rules say of *data*, in the plainest way."""
    found, start, line = [], 0, 1
    while start < len(data):
        end, mistake = record_end(data, start)
        length = len(data[start:end].removesuffix(b"\n").removesuffix(b"\r"))
        if mistake is None and length > limit:
            mistake = RecordTooLongError
        if mistake:
            end = start + re.search(rb"\r\n|\r|\n|\Z", data[start:]).end()
        record = data[start:end]
        if mistake:
            record = record.removesuffix(b"\n").removesuffix(b"\r")
            mistake = RecordTooLongError if len(record) > limit else mistake
        found.append((line, start, record, mistake))
        line += len(re.findall(rb"\r\n|\r|\n", data[start:end]))
        start = end
    return found


def record_end(data, start):
    """Return where the record at *start* ends, or what is wrong with it."""
    at, within, begins = start, False, True
    while at < len(data):
        byte = data[at : at + 1]
        if within:
            if byte == b'"' and data[at + 1 : at + 2] == b'"':
                at += 1
            elif byte == b'"':
                within = False
                if data[at + 1 : at + 2] not in (b",", b"\r", b"\n", b""):
                    return at, MalformedRecordError
        elif byte == b'"':
            if not begins:
                return at, MalformedRecordError
            within = True
        elif byte in b"\r\n":
            return at + 1 + (data[at : at + 2] == b"\r\n"), None
        begins = byte == b"," and not within
        at += 1
    return at, MalformedRecordError if within else None


@given(data=awkward, cuts=st.lists(st.integers(0, 80)))
def test_records_are_what_the_rules_say_wherever_the_blocks_are_cut(data, cuts):
    """Any text of quotes and line ends is told as a byte-by-byte reader tells it."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    blocks = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert told(Quoting("x", COMMA, limit=1000), blocks) == byte_by_byte(data, 1000)


@given(data=awkward, size=st.integers(1, 9), limit=st.integers(1, 12))
def test_the_limit_does_not_depend_on_the_blocks(data, size, limit):
    """What is too long is the same in blocks of any size; reading goes on behind it."""
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    small = told(Quoting("x", COMMA, limit=limit), blocks)
    assert small == told(Quoting("x", COMMA, limit=limit), [data])
    for line, offset, record, mistake in small:
        assert data[offset:].startswith(record)
        assert line == 1 + len(re.findall(rb"\r\n|\r|\n", data[:offset]))
        assert mistake or len(record.rstrip(b"\r\n")) <= limit


@given(data=awkward)
def test_well_quoted_text_is_read_as_the_csv_module_reads_it(data):
    """Where all quotes are in order, the records and fields are those of ``csv.reader``."""
    records = told(Quoting("x", COMMA, limit=1000), [data])
    if any(mistake for *_, mistake in records):
        return
    fields = [COMMA.fields(record.decode()) for _, _, record, _ in records]
    assert fields == list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


@given(fields=st.lists(st.text(max_size=5), min_size=1))
def test_fields_over_the_limit_of_the_csv_module_are_read(fields):
    """A record that the csv module finds too large is taken apart all the same."""
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    record = text.getvalue()
    assert list(COMMA._long_fields(record[:-2])) == COMMA.fields(record)


@pytest.mark.parametrize(("delimiter", "quotechar"), [("|", "|"), (";;", '"'), ("\n", '"')])
def test_impossible_dialects_are_refused(delimiter, quotechar):
    """A delimiter is one character, no line end, and not the quote."""
    with pytest.raises(ConfigError, match="delimiter"):
        Dialect(delimiter=delimiter, quotechar=quotechar, encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "cp037", "iso2022_jp", "nonsense"])
def test_encodings_without_the_bytes_of_ascii_are_refused(encoding):
    """Records are told apart in the bytes, so commas and line ends must be theirs."""
    with pytest.raises(ConfigError, match=encoding):
        Dialect(delimiter=",", quotechar='"', encoding=encoding)


def test_a_delimiter_that_is_part_of_other_characters_is_refused():
    """In Shift JIS the byte of ``|`` can be the second of a character; a comma cannot."""
    Dialect(delimiter=",", quotechar='"', encoding="shift_jis")
    with pytest.raises(ConfigError, match="delimiter"):
        Dialect(delimiter="|", quotechar='"', encoding="shift_jis")
    Dialect(delimiter="§", quotechar='"', encoding="latin-1")


def test_random_bytes_are_all_accounted_for():
    """A megabyte of random bytes gives records and failures, and no byte is in none of them."""
    data = random.Random(4).randbytes(1_000_000)
    blocks = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    found = told(Quoting("x", COMMA, limit=100_000), blocks)
    assert [offset for _, offset, *_ in found] == sorted({offset for _, offset, *_ in found})
    rebuilt = sum(len(record.rstrip(b"\r\n")) for _, _, record, _ in found)
    assert rebuilt == len(data.replace(b"\r", b"").replace(b"\n", b"")) or rebuilt <= len(data)


@pytest.mark.parametrize(
    "line",
    [b'x","\n', b'"\n', b'"x\n', b'""\n', b'"","\n', b'"a""\n', b'a,"b\n', b'"",""\n', b'""""""'],
)
def test_no_file_of_quotes_takes_long(line):
    """A million bytes of one awkward line take about as long as plain ones."""
    data = b'start,"' + line * (1_000_000 // len(line))
    blocks = [data[at : at + 10_000] for at in range(0, len(data), 10_000)]
    before = time.process_time()
    quoting = Quoting("x", COMMA, limit=300_000)
    for block in blocks:
        for _ in quoting.feed(block):
            pass
    for _ in quoting.end():
        pass
    assert time.process_time() - before < 15
