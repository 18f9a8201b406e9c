"""
From compressed blocks to plain ones, in little memory, whatever they claim to hold.

The format is known by the first bytes, not by a name.  Several streams one
after the other (``cat a.gz b.gz``) are read as one.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

from m3.connectors._options import check_choice
from m3.errors import CompressedInputError, ConfigError, MissingExtraError, describe

__all__ = ("MAX_OUTPUT", "MAX_RATIO", "Compression", "Decompression", "recognise")

Compression = Literal["auto", "none", "gzip", "bz2", "xz", "zstd"]

MAX_RATIO = 200.0
"""The default for how many times as long as its input the output may be."""

MAX_OUTPUT = 2**40
"""The default for the most bytes that one file may hold."""

FREE = 1024 * 1024
"""Of so little output nobody asks what it was made of."""

BLOCK = 256 * 1024
"""The most bytes given out at once."""

PIECE = 16 * 1024
"""The most bytes of input decompressed at once, so that the ratio is that of now."""

XZ_MEMORY = 256 * 1024 * 1024
"""Four times what ``xz -9`` needs."""

_BZ2 = (b"1AY&SY", b"\x17rE8P\x90")  # a block begins, or the end of an empty stream

MAGIC: dict[str, tuple[bytes, ...]] = {
    "gzip": (b"\x1f\x8b\x08",),
    "bz2": tuple(b"BZh%d" % level + block for level in range(1, 10) for block in _BZ2),
    "xz": (b"\xfd7zXZ\x00",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
}

LONGEST_MAGIC = max(len(magic) for magics in MAGIC.values() for magic in magics)


class Decompressor(Protocol):
    """What the standard library has for bz2, and here for all: one stream."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether there is no more output without more input."""

    @property
    def unused_data(self) -> bytes:
        """What came behind the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return about *max_length* bytes, of *data* and what was kept of earlier input."""


class Gunzip:
    """One member of a gzip file."""

    def __init__(self) -> None:
        self._member = import_module("zlib").decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return bool(self._member.eof)

    @property
    def unused_data(self) -> bytes:
        """What came behind it."""
        return bytes(self._member.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most *max_length* bytes."""
        member = self._member
        output: bytes = member.decompress(member.unconsumed_tail + data, max_length)
        self.needs_input = not member.unconsumed_tail and len(output) < max_length
        return output


class Zstandard:
    """
    One frame, by the package of that name, which cannot bound its output.

    1 KiB of input makes 32 MiB at most.
    """

    STEP = 1024

    def __init__(self, package: Any) -> None:
        self._frame = package.ZstdDecompressor(max_window_size=2**27).decompressobj()
        self._kept = b""

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        return bool(self._frame.eof)

    @property
    def needs_input(self) -> bool:
        """Whether all input was used."""
        return not self._kept

    @property
    def unused_data(self) -> bytes:
        """What came behind the frame."""
        return bytes(self._frame.unused_data) + self._kept

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return *max_length* bytes, or some more."""
        kept, found, size, used = self._kept + data, [], 0, 0
        while used < len(kept) and size < max_length and not self._frame.eof:
            found.append(self._frame.decompress(kept[used : used + self.STEP]))
            size += len(found[-1])
            used += self.STEP
        self._kept = kept[used:]
        return b"".join(found)


def unzstd() -> Decompressor:
    """Return what reads one zstd frame, with what there is for it."""
    for name in ("compression.zstd", "backports.zstd", "zstandard", "pyzstd"):
        try:
            package: Any = import_module(name)
        except ImportError:
            continue
        if name == "zstandard":
            return Zstandard(package)
        decompressor: Decompressor = package.ZstdDecompressor()
        return decompressor
    raise MissingExtraError("zstd needs Python 3.14 or the package backports.zstd", extra="zstd")


DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "gzip": Gunzip,
    "bz2": lambda: import_module("bz2").BZ2Decompressor(),
    "xz": lambda: import_module("lzma").LZMADecompressor(memlimit=XZ_MEMORY),
    "zstd": unzstd,
}


def recognise(head: bytes) -> str | None:
    """Return the format of what begins with *head*, ``"none"`` too; None if that is too little."""
    for name, magics in MAGIC.items():
        if head.startswith(magics):
            return name
    unsure = any(magic.startswith(head) for magics in MAGIC.values() for magic in magics)
    return None if unsure else "none"


class Decompression(NamedTuple):
    """How the input is compressed, and how much may become of it."""

    compression: Compression = "auto"
    max_ratio: float = MAX_RATIO
    max_output: int = MAX_OUTPUT

    def check(self) -> None:
        """Raise :exc:`~m3.errors.ConfigError` if these options cannot be."""
        check_choice("compression", self.compression, Compression)
        if not self.max_ratio > 0 or self.max_output < 1:
            raise ConfigError(
                f"max_ratio={self.max_ratio}, max_output={self.max_output}: both must be positive"
            )

    def of(self, descriptor: int) -> str:
        """Return the format of an open file, ``"none"`` too."""
        return self.kind_of(os.pread(descriptor, LONGEST_MAGIC, 0))

    def kind_of(self, head: bytes) -> str:
        """Return the format of what begins with *head*, and holds no more if that is short."""
        return self.compression if self.compression != "auto" else recognise(head) or "none"

    def applied(
        self, name: str, blocks: Iterable[bytes], stopped: Callable[[], bool]
    ) -> Iterator[bytes]:
        """
        Return an iterator of what *blocks* hold, which waits for the first of them.

        Args:
            name: of the input, for errors.
            blocks: the input.
            stopped: says whether *blocks* have ended because of a stop.

        Raises:
            CompressedInputError: also from the iterator: the input is damaged,
                ends too early or holds too much.
        """
        blocks = iter(blocks)
        kind: str | None = self.compression
        if self.compression == "auto":
            head = b""
            for block in blocks:
                head += block
                kind = recognise(head)
                if kind is not None:
                    break
            blocks = chain((head,), blocks) if head else blocks
        if kind not in DECOMPRESSORS:
            return blocks
        return _Streams(name, kind, self).blocks(blocks, stopped)


class _Streams:
    """The streams of one input, one after the other."""

    def __init__(self, name: str, kind: str, options: Decompression) -> None:
        self._name = name
        self._kind = kind
        self._options = options
        self._make = DECOMPRESSORS[kind]
        self._stream = self._make()
        self._began = True
        self._consumed = 0
        self._produced = 0

    def blocks(self, blocks: Iterator[bytes], stopped: Callable[[], bool]) -> Iterator[bytes]:
        for block in blocks:
            for start in range(0, len(block), PIECE):
                piece = block[start : start + PIECE]
                self._consumed += len(piece)
                yield from self._outputs(piece)
        if self._began and not stopped():
            raise self._error("ends too early, it was cut off or is still being written")

    def _outputs(self, piece: bytes) -> Iterator[bytes]:
        while piece := self._at_a_beginning(piece):
            while not self._stream.eof:
                output = self._decompress(piece)
                piece = b""
                if output:
                    yield output
                elif self._stream.needs_input and not self._stream.eof:
                    return
            piece = self._stream.unused_data
            self._began = False

    def _at_a_beginning(self, piece: bytes) -> bytes:
        """Return *piece* for the stream that there is, or begins with it, behind padding."""
        if not self._began:
            if self._kind in ("gzip", "xz"):
                piece = piece.lstrip(b"\0")
            if piece:
                self._stream = self._make()
                self._began = True
        return piece

    def _decompress(self, piece: bytes) -> bytes:
        try:
            output = self._stream.decompress(piece, BLOCK)
        except Exception as error:
            raise self._error(f"is damaged ({describe(error)})") from error
        self._produced += len(output)
        if self._produced > self._options.max_output:
            raise self._error(f"holds more than max_output={self._options.max_output} bytes")
        if self._produced > max(FREE, self._options.max_ratio * self._consumed):
            raise self._error(
                f"becomes more than max_ratio={self._options.max_ratio:g} times as long, "
                "as made to fill memory or disk; if it is right, allow more"
            )
        return output

    def _error(self, problem: str) -> CompressedInputError:
        return CompressedInputError(
            f"{self._name}: the {self._kind} data {problem}; this was seen at byte "
            f"{self._consumed} of the file or up to {PIECE} before it, "
            f"after {self._produced} bytes of output"
        )
