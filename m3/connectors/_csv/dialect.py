r"""
How a CSV file is written: its delimiter, its quotes, its encoding.

What the patterns take for a record is what RFC 4180 says, with three kinds of
line end: fields between delimiters, each either quoted as a whole, with its
quotes doubled, or without any quote.  Records are told apart in the bytes, so
that offsets are exact; the fields of one are taken apart by :mod:`csv`.
"""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator

from m3.errors import ConfigError

__all__ = ("BLANK", "LINE_END", "Dialect", "line_ends")

LINE_END = re.compile(rb"\r\n|\n|\r")
BLANK = (b"\n", b"\r\n", b"\r")


class Dialect:
    """
    The delimiter, the quotes and the encoding of a CSV file.

    Args:
        delimiter: one character.
        quotechar: one character, or None if nothing is quoted.
        encoding: of the text; ASCII is the same in it.

    Raises:
        ConfigError: one of them cannot be, or not together with the others.

    Attributes:
        encoding: as given, but UTF-8 without a byte order mark for one with.
        bom: what may stand before the first record.
        quote: the quote in bytes; empty if there is none.
        separator: the delimiter in bytes.
        record: matches a record together with its line end.
        records: matches as many as there are in a row, one behind the other.
        more: matches further fields, each with the delimiter before it, that have come as a whole.
        inside: matches what may follow within quotes.
        plain: matches what may follow outside of quotes in the same field.
    """

    def __init__(self, *, delimiter: str, quotechar: str | None, encoding: str) -> None:
        self.encoding = checked_encoding(encoding)
        self.bom = codecs.BOM_UTF8 if self.encoding == "utf-8" else b""
        self.separator = self._byte("delimiter", delimiter)
        self.quote = b"" if quotechar is None else self._byte("quotechar", quotechar)
        if self.separator == self.quote:
            raise ConfigError(f"delimiter and quotechar are both {delimiter!r}")
        self._delimiter, self._quotechar = delimiter, quotechar
        self._compile()

    def _byte(self, option: str, character: str) -> bytes:
        """Return the byte that *character* is, if it is one and nothing else can be the same."""
        if len(character) != 1 or character in "\r\n\0\ufeff":
            raise ConfigError(f"{option}={character!r}: it is one character, and no line end")
        try:
            byte = character.encode(self.encoding)
        except UnicodeError:
            byte = b""
        if len(byte) != 1 or (byte >= b"0" and not stands_alone(self.encoding)):
            raise ConfigError(
                f"{option}={character!r}: it must be a byte that means nothing else "
                f"in {self.encoding}"
            )
        return byte

    def _compile(self) -> None:
        d, q = re.escape(self.separator), re.escape(self.quote)
        self.plain = re.compile(rb"[^%b%b\r\n]*+" % (d, q))
        self.inside = re.compile(rb"[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q) if q else rb"(?!)")
        field = self.plain.pattern
        if q:
            field = rb"(?:%b%b%b|%b)" % (q, self.inside.pattern, q, field)
        self.more = re.compile(rb"(?:%b%b(?=[%b\r\n]))*+" % (d, field, d))
        record = rb"%b(?:%b%b)*+(?:\r\n|\n|\r(?=[^\n]))" % (field, d, field)
        self.record = re.compile(record)
        self.records = re.compile(rb"(?:%b)*+" % record)

    def rows(self, records: Iterable[str]) -> Iterator[list[str]]:
        """
        Yield the fields of each of *records*, which are in order; none for an empty line.

        Raises:
            csv.Error: a field is longer than :func:`csv.field_size_limit`, which
                belongs to the whole process and is left as it is.
        """
        return csv.reader(
            records,
            delimiter=self._delimiter,
            quotechar=self._quotechar,
            quoting=csv.QUOTE_MINIMAL if self._quotechar else csv.QUOTE_NONE,
            strict=True,
        )

    def fields(self, record: str) -> list[str]:
        """Return the fields of *record*, which is in order, however long they are."""
        try:
            return next(self.rows([record]), [])
        except csv.Error:
            return list(self._long_fields(record.rstrip("\r\n")))

    def _long_fields(self, record: str) -> Iterator[str]:
        d, q = re.escape(self._delimiter), re.escape(self._quotechar or "")
        plain = f"([^{d}]*+)"
        field = f"(?:{q}([^{q}]*+(?:{q}{q}[^{q}]*+)*+){q}|{plain})" if q else f"(?:(?!)()|{plain})"
        for match in re.finditer(f"(?:^|{d}){field}", record):
            quoted, unquoted = match.groups()
            yield unquoted if quoted is None else quoted.replace(2 * q[-1], q[-1])


def checked_encoding(encoding: str) -> str:
    """Return the name of *encoding*, or raise if line ends cannot be found in its bytes."""
    ascii_bytes = bytes(range(128))
    try:
        name = codecs.lookup(encoding).name
        fits = str(ascii_bytes, encoding) == str(ascii_bytes, "ascii")
        # In some, bytes of ASCII stand for other characters behind an escape.
        fits = fits and min("あ中가".encode(encoding, "ignore"), default=255) >= ord("0")
    except LookupError as error:
        raise ConfigError(f"encoding={encoding!r}: {error}") from error
    except UnicodeError:
        fits = False
    if not fits:
        raise ConfigError(
            f"encoding={encoding!r}: its line ends, commas and quotes are not those of ASCII, "
            "so its records cannot be told apart; convert the file to UTF-8"
        )
    return name.removesuffix("-sig")


def stands_alone(encoding: str) -> bool:
    """Say whether no byte of ASCII can be part of another character in *encoding*."""
    if encoding == "utf-8":
        return True
    upper = bytes(range(128, 256))
    return len(str(upper, encoding, "replace")) == len(upper)


def line_ends(data: bytes) -> int:
    r"""Return how many lines end in *data*: at ``\n``, ``\r\n`` and ``\r``."""
    count = data.count(b"\n")
    if b"\r" in data:
        count += data.count(b"\r") - data.count(b"\r\n")
    return count
