"""What the backends that write records have in common."""

import codecs
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from m3.connectors._sinks import Sink
from m3.errors import BatchError, ConfigError, abridged
from m3.policies import Batch
from m3.stages import Backend

__all__ = ("RecordBackend", "encoder")


def encoder(
    encoding: str, errors: str, *, other: Callable[[Any], str] | None = None
) -> Callable[[Any], bytes]:
    r"""
    Return what makes bytes of an item: bytes stay, text is encoded.

    Args:
        encoding: of text.
        errors: the error mode, as of :meth:`str.encode`.
        other: makes text of any other item; None refuses it.

    Raises:
        ConfigError: there is no such encoding or error mode, or the encoding
            does not write a line end as the byte ``\n``.
    """
    try:
        codecs.lookup_error(errors)
        fits = "\n".encode(encoding) == b"\n"
    except LookupError as error:
        raise ConfigError(f"encoding={encoding!r}, errors={errors!r}: {error}") from error
    if not fits:
        raise ConfigError(f"encoding={encoding!r}: it does not write a line end as the byte \\n")

    def encode(item: Any) -> bytes:
        if isinstance(item, str):
            return item.encode(encoding, errors)
        if isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        if other is None:
            raise TypeError(f"bytes or text can be written, not {abridged(item)}")
        return other(item).encode(encoding, errors)

    return encode


class RecordBackend(Backend[Any]):
    r"""
    What the backends that write records have in common.

    An item that cannot be made into bytes fails by itself; the rest of its
    batch is written.

    Args:
        encode: makes the bytes of an item, without the ``\n``.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would write into each other's records."""

    batch: ClassVar[Batch | None] = Batch(count=1024, bytes=1024 * 1024)
    """What is waiting, without waiting for more; at most about 1 MiB at once."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode

    def open(self) -> Sink:
        """Return what to write to."""
        raise NotImplementedError

    def setup(self) -> None:
        """Open the target."""
        self._sink = self.open()

    def process_batch(self, items: list[Any]) -> None:
        r"""Write *items*, each with a ``\n``."""
        errors: dict[int, Exception] = {}
        if set(map(type, items)) != {bytes}:
            items = list(self._encoded(items, errors))
        if items:
            self._sink.write(b"\n".join(items) + b"\n")
        if errors:
            raise BatchError(errors)

    def _encoded(self, items: list[Any], errors: dict[int, Exception]) -> Iterator[bytes]:
        """Yield the bytes of each item; into *errors* goes why there are none."""
        for index, item in enumerate(items):
            try:
                yield self._encode(item)
            except Exception as error:
                errors[index] = error

    def cleanup(self) -> None:
        """End the output, as far as the run came."""
        self._sink.close(keep=not self.failed)
