"""A client of RabbitMQ that writes the bytes of messages by hand, as no library would."""

import struct
from urllib.parse import urlsplit

import amqp
from amqp import spec

CONTENT_TYPE, HEADERS, CORRELATION_ID, REPLY_TO = 0x8000, 0x2000, 0x0400, 0x0200
TIMESTAMP = 0x0040


def short(text):
    """Return a short string: up to 255 bytes, of any kind."""
    return bytes([len(text)]) + text


def table(*fields):
    """Return a table of names and values, each value with the letter of its type."""
    written = b"".join(short(name) + value for name, value in fields)
    return struct.pack(">I", len(written)) + written


def nested(depth):
    """Return a table in a table in a table."""
    made = table()
    for _ in range(depth):
        made = table((b"", b"F" + made))
    return made


def properties(flags, *values):
    return struct.pack(">H", flags) + b"".join(values)


HOSTILE = {
    "a correlation id that is no text": properties(CORRELATION_ID, short(b"\xff\xfe")),
    "a reply address that is no text": properties(REPLY_TO, short(b"\xc0\xaf")),
    "a content type that is no text": properties(CONTENT_TYPE, short(b"\xff")),
    "the name of a header that is no text": properties(
        HEADERS, table((b"\xff", b"S" + struct.pack(">I", 1) + b"x"))
    ),
    "a date beyond all calendars": properties(
        HEADERS, table((b"when", b"T" + struct.pack(">Q", 2**63)))
    ),
    "tables within tables": properties(HEADERS, nested(5000)),
    "attempts that are no number": properties(
        HEADERS, table((b"x-m3-attempts", b"S" + struct.pack(">I", 4) + b"many"))
    ),
    "fewer attempts than none": properties(
        HEADERS, table((b"x-m3-attempts", b"l" + struct.pack(">q", -(2**62))))
    ),
    "a count that is a table": properties(HEADERS, table((b"x-delivery-count", b"F" + table()))),
    "a queue of death that is a number": properties(
        HEADERS,
        table((b"x-m3-attempts", b"I" + struct.pack(">i", 1)), (b"x-first-death-queue", b"V")),
    ),
    "a huge time": properties(TIMESTAMP, struct.pack(">Q", 2**64 - 1)),
    "a header that is no text": properties(
        HEADERS, table((b"m3.user_id", b"S" + struct.pack(">I", 2) + b"\xff\xfe"))
    ),
    "a small fraction": properties(HEADERS, table((b"n", b"D" + struct.pack(">Bi", 255, -1)))),
}
"""Properties that RabbitMQ passes on as they are."""


class Publisher:
    """Publishes bytes, and waits until RabbitMQ has confirmed them."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._connection = amqp.Connection(
            f"{parts.hostname}:{parts.port or 5672}", parts.username, parts.password
        )

    def __enter__(self):
        self._connection.connect()
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        return self

    def __exit__(self, *_):
        self._connection.close()

    def publish(self, body, properties=b"\0\0", *, exchange=b"", routing_key=b""):
        method = struct.pack(">HHH", *spec.Basic.Publish, 0)
        method += short(exchange) + short(routing_key) + b"\0"
        header = struct.pack(">HHQ", spec.Basic.CLASS_ID, 0, len(body)) + properties
        self._write(1, method)
        self._write(2, header)
        if body:
            self._write(3, body)
        self._channel.wait(spec.Basic.Ack, timeout=30)

    def count(self, queue):
        """Return how many messages wait in a queue."""
        return self._channel.queue_declare(queue, passive=True).message_count

    def _write(self, kind, payload):
        frame = struct.pack(">BHI", kind, self._channel.channel_id, len(payload)) + payload
        self._connection.transport.write(frame + b"\xce")
