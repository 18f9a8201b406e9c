"""
Values as the bodies of messages, and back: JSON, unless somebody says otherwise.

What a message says of itself never decides what is done with it: only formats
that were named are read, bodies have a limit, and so has what a compressed body
becomes.  No format that comes with m3 runs code when it is read.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from m3.errors import BodyError, abridged, describe
from m3.messaging.entities import Message

__all__ = ("BYTES", "JSON", "LIMIT", "TEXT", "Bodies", "Format")

LIMIT = 64 * 2**20
"""The default for how many bytes a body has at most, before and after it is decompressed."""

COMPRESSION = "compression"
"""The header that says how a body is compressed; kombu's, and so is the value of gzip."""

GZIP = "application/x-gzip"
ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Format:
    """
    A way to write values as bytes.

    Attributes:
        content_type: what messages call it.
        dumps: returns a value as bytes; raises anything if it cannot be.
        loads: returns the value of bytes, which may come from anybody; raises anything
            if they have none.
    """

    content_type: str
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_refuse).decode


def _dump_bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{type(value).__qualname__} is not bytes")
    return bytes(value)


JSON = Format(
    "application/json", lambda value: _encode(value).encode(), lambda body: _decode(body.decode())
)
"""JSON in UTF-8, without ``NaN`` and ``Infinity``."""

TEXT = Format("text/plain", str.encode, bytes.decode)
"""Text in UTF-8."""

BYTES = Format("application/octet-stream", _dump_bytes, bytes)
"""Bytes as they are."""


class Bodies:
    """
    Makes messages of values, and values of messages.

    Args:
        formats: those that may be read; the first one is written.
        compress_from: bodies of so many bytes or more are compressed; None for none.
        limit: how many bytes a body has at most, before and after it is decompressed.
    """

    def __init__(
        self, *formats: Format, compress_from: int | None = None, limit: int = LIMIT
    ) -> None:
        self._formats = {one.content_type: one for one in formats or (JSON,)}
        self._written = (formats or (JSON,))[0]
        self._compress_from = compress_from
        self._limit = limit

    def dumps(self, value: Any, **properties: Any) -> Message:
        """
        Return a message that has *value* as its body.

        Args:
            value: what the format can write.
            properties: further attributes of the message.

        Raises:
            BodyError: the value cannot be written, or is over the limit.
        """
        try:
            body = self._written.dumps(value)
        except Exception as error:
            kind = self._written.content_type
            raise BodyError(
                f"{abridged(value)} cannot be written as {kind}: {describe(error)}"
            ) from error
        self._check(len(body))
        if self._compress_from is not None and len(body) >= self._compress_from:
            body = zlib.compress(body)
            properties["headers"] = {**properties.get("headers", {}), COMPRESSION: GZIP}
        return Message(body=body, content_type=self._written.content_type, **properties)

    def loads(self, message: Message) -> Any:
        """
        Return the value of a message.

        Raises:
            BodyError: it is of another format, over the limit, or damaged.
        """
        kind = message.content_type.partition(";")[0].strip().lower()
        if kind not in self._formats:
            accepted = ", ".join(self._formats)
            raise BodyError(
                f"a body of type {abridged(message.content_type)} is not read here; "
                f"accepted: {accepted}"
            )
        self._check(len(message.body))
        try:
            return self._formats[kind].loads(self._decompressed(message))
        except BodyError:
            raise
        except Exception as error:
            raise BodyError(f"a body is no {kind}: {describe(error)}") from error

    def _decompressed(self, message: Message) -> bytes:
        # Without the GIL, get() on a dict that another thread has made takes CPython 3.13 20 µs.
        if COMPRESSION not in message.headers:
            return message.body
        compression = message.headers[COMPRESSION]
        if compression not in (GZIP, "gzip", "zlib"):
            raise BodyError(f"a body compressed as {abridged(compression)} is not read; gzip is")
        stream = zlib.decompressobj(ZLIB_OR_GZIP)
        body = stream.decompress(message.body, self._limit + 1)
        self._check(len(body))
        if not stream.eof:
            raise BodyError("a compressed body ends too early")
        return body

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise BodyError(
                f"a body has more than the {self._limit:,} bytes that are allowed; "
                "keep large things elsewhere, and send where they are"
            )
