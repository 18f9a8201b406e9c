"""What a CSV file lacks at its end, where a write may have been torn within quotes."""

import os
import re
from collections.abc import Iterable, Iterator

from m3.connectors._csv.dialect import Dialect
from m3.connectors._csv.rows import LINE_ENDS
from m3.connectors._output.torn import last_byte

__all__ = ("record_end",)

BLOCK = 1024 * 1024


def record_end(descriptor: int, dialect: Dialect) -> bytes:
    r"""
    Return what ends the last record of the file: a ``\n``, and before it a quote that is missing.

    A quote that is open would make one field of all that comes behind it.  The
    file is read once for that, and once more if its quotes are odd in number.
    """
    quotes = sum(block.count(dialect.quote) for block in blocks_of(descriptor))
    if quotes % 2 and is_within_quotes(blocks_of(descriptor), dialect):
        return dialect.quote + b"\n"
    return b"\n" if last_byte(descriptor) not in (b"", *LINE_ENDS) else b""


def is_within_quotes(blocks: Iterable[bytes], dialect: Dialect) -> bool:
    """
    Say whether a file ends within quotes, as a reader sees it that passes over mistakes.

    Only at the beginning of a field a quote opens it.
    """
    quote = dialect.quote
    closing = re.compile(re.escape(quote))
    opening = re.compile(b"(?<=[\r\n" + re.escape(dialect.separator) + b"])" + closing.pattern)
    is_open = has_closed = False
    before, bom = b"\n", dialect.bom
    for block in blocks:
        here, at = before + block.removeprefix(bom), len(before)
        while at < len(here):
            # A quote behind one that closes is the other half of a doubled one.
            is_half = has_closed and here.startswith(quote, at)
            match = (closing if is_open or is_half else opening).search(here, at)
            is_open, has_closed = is_open ^ bool(match), is_open and bool(match)
            at = match.end() if match else len(here)
        before, bom = here[-1:], b""
    return is_open


def blocks_of(descriptor: int) -> Iterator[bytes]:
    """Yield what a file holds, from its beginning on."""
    offset = 0
    while block := os.pread(descriptor, BLOCK, offset):
        yield block
        offset += len(block)
