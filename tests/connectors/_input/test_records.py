"""Records: split on the line feed alone, bounded, converted; nothing lost, nothing joined."""

import codecs
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3.connectors._input.records import (
    HEAD,
    Decoder,
    RecordPosition,
    Splitter,
    converter,
)
from m3.errors import ConfigError, RecordTooLongError
from m3.stages import Failure

# Bytes that look like line ends to somebody, and such that make bad UTF-8.
TRICKY = [b"\n", b"\r", b"\r\n", b"\0", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xc2\x85"]
TRICKY += [b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xef\xbb\xbf", b"\xff", b"\xe2", b"a", "ü".encode()]
pieces_strategy = st.just(b"\n") | st.sampled_from(TRICKY) | st.binary(max_size=6)
data_strategy = st.lists(pieces_strategy, max_size=40).map(b"".join)
sizes_strategy = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def blocks_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut *data* into blocks of *sizes*, over and over."""
    stream = io.BytesIO(data)
    blocks = []
    while block := stream.read(sizes[len(blocks) % len(sizes)]):
        blocks.append(block)
    return blocks


def split(blocks: list[bytes], **options: object) -> list:
    """Return what a splitter makes of *blocks*."""
    splitter = Splitter("data", **options)
    found = [item for block in blocks for item in splitter.feed(block)]
    return [*found, *splitter.end()]


def records_of(data: bytes) -> list[bytes]:
    """Return the records of *data*, by the definition."""
    records = data.split(b"\n")
    return records if records[-1] else records[:-1]


def expected_items(data: bytes, limit: int, encoding: str | None, errors: str) -> list:
    """Return items, and for failures the type of the error, the value and the position."""
    items, offset = [], 0
    for line, record in enumerate(records_of(data), 1):
        position = RecordPosition("data", line, offset)
        if len(record) > limit:
            items.append((RecordTooLongError, None, position))
        else:
            try:
                items.append(record if encoding is None else record.decode(encoding, errors))
            except UnicodeDecodeError:
                items.append((UnicodeDecodeError, record, position))
        offset += len(record) + 1
    return items


def simplified(item: object) -> object:
    """Return *item*, or what :func:`expected_items` has for a failure."""
    if not isinstance(item, Failure):
        return item
    kind = type(item.error)
    return kind, None if kind is RecordTooLongError else item.value, item.position


@given(data=data_strategy, sizes=sizes_strategy)
def test_any_blocks_of_any_bytes_give_the_records_between_line_feeds(data, sizes):
    """However the input arrives, the records are those of splitting all of it at once."""
    assert split(blocks_of(data, sizes)) == records_of(data)


@given(
    data=data_strategy,
    sizes=sizes_strategy,
    limit=st.integers(1, 12),
    mode=st.sampled_from(
        [
            (None, "strict"),
            ("utf-8", "strict"),
            ("utf-8", "replace"),
            ("utf-8", "surrogateescape"),
            ("ascii", "strict"),
            ("latin-1", "strict"),
            ("cp1252", "strict"),
            ("shift_jis", "strict"),
            ("shift_jis", "replace"),
            ("gb18030", "ignore"),
        ]
    ),
)
def test_limit_and_encoding_fail_single_records(data, sizes, limit, mode):
    """Each record over the limit or not in the encoding fails alone, at its own position."""
    encoding, errors = mode
    items = split(blocks_of(data, sizes), limit=limit, converter=converter(encoding, errors))
    assert list(map(simplified, items)) == expected_items(data, limit, encoding, errors)


@given(data=data_strategy, sizes=sizes_strategy, limit=st.integers(1, 12))
def test_a_record_too_long_is_known_by_its_beginning(data, sizes, limit):
    """The value of the failure is how the record begins, more than the limit of it."""
    records = records_of(data)
    for item in split(blocks_of(data, sizes), limit=limit):
        if isinstance(item, Failure):
            record = records[item.position.line - 1]
            assert record.startswith(item.value)
            assert len(item.value) > limit


@given(data=data_strategy, sizes=sizes_strategy)
def test_surrogateescape_round_trips(data, sizes):
    """Text with escaped bytes encodes to the bytes that came."""
    items = split(blocks_of(data, sizes), converter=converter("utf-8", "surrogateescape"))
    back = [text.encode("utf-8", "surrogateescape") for text in items]
    assert back == records_of(data)


def test_a_complete_record_is_not_held_back():
    """A record is given as soon as its line feed is there, whatever follows it."""
    splitter = Splitter("data")
    assert splitter.feed(b"one\ntwo\nthr") == [b"one", b"two"]
    assert splitter.feed(b"ee\n") == [b"three"]


def test_a_record_too_long_is_known_before_it_ends():
    """The failure comes when the limit is passed, not when the record ends, and comes once."""
    splitter = Splitter("data", limit=4)
    assert splitter.feed(b"12") == []
    (failure,) = splitter.feed(b"345")
    assert isinstance(failure.error, RecordTooLongError)
    assert splitter.feed(b"67") == []
    assert splitter.feed(b"8\nnext\n") == [b"next"]
    assert splitter.end() == []


def test_positions_go_on_after_a_record_too_long():
    """What was skipped counts in the line and the offset of what follows."""
    blocks = [b"ok\n12345", b"6789", b"0\n\xff\nok\n123456\n"]
    items = split(blocks, limit=4, converter=converter("utf-8", "strict"))
    failures = [item.position for item in items if isinstance(item, Failure)]
    assert [(each.line, each.offset) for each in failures] == [(2, 3), (3, 14), (5, 19)]


@pytest.mark.parametrize("blocks", [[b"1234\n12345\n"], [b"12", b"34\n123", b"45\n"]])
def test_the_limit_itself_is_allowed(blocks):
    """A record of exactly the limit is an item, one byte more is a failure."""
    whole, failure = split(blocks, limit=4)
    assert whole == b"1234"
    assert failure.position == RecordPosition("data", 2, 5)
    assert "record 2 of data, at byte 5, is longer than 4 bytes" in str(failure.error)


def test_what_is_kept_of_a_record_too_long_is_little():
    """A failure holds the first bytes of the record, not megabytes of it."""
    (failure,) = split([b"x" * 100_000] * 20, limit=1_000_000)
    assert failure.value == b"x" * HEAD


def test_a_splitter_skips_in_constant_memory():
    """Of the rest of a record that is too long nothing is kept."""
    splitter = Splitter("data", limit=10)
    for _ in range(1000):
        splitter.feed(b"x" * 1000)
    assert splitter._parts == []


def test_every_pair_of_bytes_decodes_as_python_decodes_it():
    """All pairs of bytes in a record give the text or the failure of ``bytes.decode``."""
    others = [value for value in range(256) if value != ord("\n")]
    records = [bytes((first, second)) for first in others for second in others]
    data = b"".join(record + b"\n" for record in records)
    items = split([data], converter=Decoder("utf-8", "strict"))
    assert list(map(simplified, items)) == expected_items(data, 100, "utf-8", "strict")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp037"])
def test_encodings_whose_lines_do_not_end_with_that_byte_are_refused(encoding):
    """Records cannot be split on a byte that is half of a character: said at once."""
    with pytest.raises(ConfigError, match="does not end lines with the byte"):
        Decoder(encoding, "strict")


@pytest.mark.parametrize(
    ("encoding", "errors"), [("utf-9", "strict"), ("utf-8", "strikt"), ("rot13", "strict")]
)
def test_an_unknown_encoding_or_error_mode_is_refused(encoding, errors):
    """A typing error in an option is an error of the configuration."""
    with pytest.raises(ConfigError, match=encoding):
        Decoder(encoding, errors)


def test_a_byte_order_mark_is_kept_unless_the_encoding_takes_it():
    """UTF-8 with a mark keeps it as bytes and as text; utf-8-sig takes it away."""
    data = [codecs.BOM_UTF8 + b"a\nb\n"]
    assert split(data) == [codecs.BOM_UTF8 + b"a", b"b"]
    assert split(data, converter=Decoder("utf-8", "strict")) == ["\ufeffa", "b"]
    assert split(data, converter=Decoder("utf-8-sig", "strict")) == ["a", "b"]


def test_a_failed_conversion_has_only_its_own_error():
    """The error of a record carries no other error along, and so no other records."""
    (_, failure) = split([b"a\n\xff\n"], converter=Decoder("utf-8", "strict"))
    assert failure.error.__context__ is None
    assert failure.error.object == b"\xff"
