"""What is written to RabbitMQ, and read: the same as py-amqp writes and reads."""

import itertools
import struct
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("kombu")

from amqp import Message, spec
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from m3._wire import Confirmed, Frames, acknowledgement, publication
from m3.messaging._amqp.contents import Content
from m3.messaging._amqp.publishing import UNWRITABLE

LONGEST = 4096

NAMES = st.text(max_size=40)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.integers(1, 7 * 10**9).map(lambda at: datetime.fromtimestamp(at, UTC))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=20) | MOMENTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": NAMES,
        "content_encoding": NAMES,
        "application_headers": st.dictionaries(NAMES, VALUES, max_size=4),
        "delivery_mode": st.integers(1, 2),
        "priority": st.integers(0, 255),
        "correlation_id": NAMES,
        "reply_to": NAMES,
        "expiration": st.integers(0, 10**9).map(str),
        "message_id": NAMES,
        "timestamp": st.integers(0, 2**63 - 1),
    },
)


def written_by_amqp(channel, method, arguments, content=None):
    """Return what py-amqp writes."""
    written = bytearray()
    connection = SimpleNamespace(frame_max=LONGEST, bytes_sent=0)
    frame_writer(connection, SimpleNamespace(write=written.extend))(
        1, channel, method, arguments, content
    )
    return bytes(written)


@given(st.integers(1, 2047), NAMES, NAMES, st.booleans(), PROPERTIES, st.binary(max_size=LONGEST))
def test_publications(channel, exchange, routing_key, is_mandatory, properties, body):
    """It is written as py-amqp does, but for what needs more frames, or has something unusual."""
    route = exchange, routing_key, is_mandatory
    piece = publication(channel, route, properties, body, LONGEST)
    arguments = dumps("Bssbb", (0, *route, False))
    expected = written_by_amqp(channel, spec.Basic.Publish, arguments, Message(body, **properties))
    if piece is None:
        is_unusual = holds(properties.get("application_headers"), datetime)
        assert is_unusual or len(expected) > LONGEST - 8
    else:
        assert piece == expected


@given(st.integers(1, 2047), st.integers(0, 2**64 - 1), st.booleans())
def test_acknowledgements(channel, number, with_earlier):
    """An acknowledgement is written as py-amqp does."""
    piece = acknowledgement(channel, number, with_earlier)
    arguments = dumps("Lb", (number, with_earlier))
    assert piece == written_by_amqp(channel, spec.Basic.Ack, arguments)


@pytest.mark.parametrize(
    ("route", "properties"),
    [
        (("e" * 256, "", False), {}),
        (("", "k" * 256, False), {}),
        (("", "", False), {"correlation_id": 1}),
        (("", "", False), {"priority": 256}),
        (("", "", False), {"timestamp": -1}),
        (("", "", False), {"application_headers": {"h" * 256: 1}}),
    ],
)
def test_what_cannot_be_written(route, properties):
    """It raises what a publisher takes for an error of the message alone."""
    with pytest.raises(UNWRITABLE):
        publication(1, route, properties, b"", LONGEST)


def nested(kind, depth):
    value = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"inner": value}
    return value


@pytest.mark.parametrize("header", [object(), 2**63, -(2**63) - 1, (1,), {1: 1}, b"bytes"])
def test_what_is_left_to_py_amqp(header):
    """A header that is unusual, or too deep for a stack, is written by py-amqp, or not at all."""
    assert (
        publication(1, ("", "", False), {"application_headers": {"h": header}}, b"", 4096) is None
    )
    for deep in (nested(list, 100_000), nested(dict, 100_000)):
        headers = {"application_headers": {"h": deep}}
        assert publication(1, ("", "", False), headers, b"", 4096) is None


# -- reading


def holds(value, kind):
    """Return whether there is something of that kind in a value."""
    if isinstance(value, dict):
        return any(holds(each, kind) for each in value.values())
    if isinstance(value, list):
        return any(holds(each, kind) for each in value)
    return isinstance(value, kind)


def delivered(channel, tag, number, redelivered, properties, body):
    """Return the bytes of a delivery, as a broker would write them."""
    arguments = dumps("sLbss", (tag, number, redelivered, "exchange", "key"))
    return written_by_amqp(channel, spec.Basic.Deliver, arguments, Message(body, **properties))


def received(data, longest_body=LONGEST):
    """Return what is received as a whole, and the bytes that are left."""
    frames = Frames(UnexpectedFrame)
    frames.add(data)
    whole = frames.take_whole(LONGEST, longest_body)
    rest = []
    while (frame := frames.take(LONGEST)) is not None:
        rest.append(frame)
    return whole, rest


def frames_of(data):
    frames = Frames(UnexpectedFrame)
    frames.add(data)
    return list(iter(lambda: frames.take(LONGEST), None))


def same(one, other):
    """Return whether two values are equal; each NaN is like the other."""
    return repr(one) == repr(other)


def read_by_amqp(header):
    """Return the properties that py-amqp reads, or None if it cannot."""
    content = Content(spec.Basic.Deliver, b"", LONGEST)
    content.inbound_header(header)
    return content.properties if content.fault is None else None


DELIVERIES = st.tuples(
    st.integers(1, 2047),
    NAMES,
    st.integers(1, 2**64 - 1),
    st.booleans(),
    PROPERTIES,
    st.binary(max_size=1000),
)


@given(DELIVERIES)
def test_deliveries(delivery):
    """A message that has nothing unusual is read as a whole, as py-amqp reads it."""
    channel, tag, number, redelivered, properties, body = delivery
    data = delivered(*delivery)
    whole, rest = received(data + acknowledgement(channel, 1, False))
    if whole is None:
        assert holds(properties.get("application_headers"), datetime)
        assert len(rest) == (4 if body else 3)
        return
    assert (whole.channel, whole.consumer_tag, whole.delivery_tag) == (channel, tag, number)
    assert (whole.redelivered, whole.body, whole.fault) == (redelivered, body, None)
    assert len(rest) == 1
    header = frames_of(data)[1][2]
    assert same(whole.properties, read_by_amqp(header))


@given(DELIVERIES, st.data())
def test_damaged_deliveries(delivery, data):
    """Whatever bytes come, what is read is what py-amqp reads; nothing else is touched."""
    whole = bytearray(delivered(*delivery))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    frames = Frames(UnexpectedFrame)
    frames.add(bytes(whole))
    try:
        taken = frames.take_whole(LONGEST, LONGEST)
    except UnexpectedFrame:
        return
    if taken is None or isinstance(taken, Confirmed):
        return
    assert same(taken.properties, read_by_amqp(frames_of(bytes(whole))[1][2]))


@pytest.mark.parametrize(
    "delivery",
    [
        (1, "tag", 7, True, {"application_headers": {"é": [1, True, None, 2.5, {"x": "y"}]}}, b"1"),
        (2, "tag", 2**40, False, {"content_type": "a/b", "delivery_mode": 2, "timestamp": 5}, b""),
        (3, "tag", 1, False, {"expiration": "10", "priority": 3, "reply_to": "r"}, b"body"),
    ],
    ids=["headers", "no body", "properties"],
)
def test_every_damage_of_a_byte(delivery):
    """Each byte in turn is each other byte; what is read is what py-amqp reads."""
    data = delivered(*delivery)
    for at, value in itertools.product(range(len(data)), range(256)):
        damaged = data[:at] + bytes((value,)) + data[at + 1 :]
        frames = Frames(UnexpectedFrame)
        frames.add(damaged)
        with suppress(UnexpectedFrame):
            taken = frames.take_whole(LONGEST, LONGEST)
            if taken is not None and not isinstance(taken, Confirmed):
                header = frames_of(damaged)[1][2]
                assert same(taken.properties, read_by_amqp(header)), (at, value)


def test_a_header_of_something_else():
    """What is no content of a message is left to py-amqp, which refuses it."""
    data = bytearray(delivered(1, "tag", 1, False, {}, b""))
    at = data.index(struct.pack(">HHQ", 60, 0, 0))
    data[at + 1] = 0
    whole, rest = received(bytes(data))
    assert whole is None
    assert [kind for kind, _, _ in rest] == [1, 2]


@given(DELIVERIES, st.integers(0, 3000))
def test_parts_of_deliveries(delivery, at):
    """A message is read when its last byte is there, and not before."""
    data = delivered(*delivery)
    frames = Frames(UnexpectedFrame)
    frames.add(data[: min(at, len(data) - 1)])
    assert frames.take_whole(LONGEST, LONGEST) is None
    frames.add(data[min(at, len(data) - 1) :])
    alone = Frames(UnexpectedFrame)
    alone.add(data)
    one, other = (each.take_whole(LONGEST, LONGEST) for each in (frames, alone))
    assert (one is None) == (other is None)
    assert one is None or (one.body, one.delivery_tag) == (other.body, other.delivery_tag)


def test_long_messages_are_not_read_as_a_whole():
    """What is longer than a message may be, or in several frames, is put together by parts."""
    data = delivered(1, "tag", 1, False, {}, b"12345")
    assert received(data, longest_body=4)[0] is None
    assert received(data, longest_body=5)[0].body == b"12345"
    frames = received(delivered(1, "tag", 1, False, {}, bytes(LONGEST)))[1]
    assert [kind for kind, _, _ in frames] == [1, 2, 3, 3]


@given(st.integers(1, 2047), st.integers(0, 2**64 - 1), st.booleans())
def test_confirms(channel, number, is_multiple):
    """A confirm is read as py-amqp reads it."""
    data = written_by_amqp(channel, spec.Basic.Ack, dumps("Lb", (number, is_multiple)))
    confirmed, rest = received(data)
    assert (confirmed.channel, confirmed.number) == (channel, number)
    assert (confirmed.is_multiple, rest) == (is_multiple, [])


def test_tables_that_are_too_deep():
    """Tables in tables do not end the process, whoever has written them."""
    item = b"V"
    for _ in range(300):
        item = b"F" + struct.pack(">I", len(item) + 1) + b"\0" + item
    table = struct.pack(">I", len(item) + 1) + b"\0" + item
    header = struct.pack(">HHQH", 60, 0, 0, 1 << 13) + table
    method = struct.pack(">HH", *spec.Basic.Deliver) + dumps("sLbss", ("tag", 1, False, "", ""))
    data = b"".join(
        struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"
        for kind, payload in ((1, method), (2, header))
    )
    whole, rest = received(data)
    assert whole is None
    assert len(rest) == 2
