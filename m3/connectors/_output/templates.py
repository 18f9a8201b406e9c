"""
Paths with fields, as ``out/{country}/{day}.jsonl``, filled in from items.

Whatever the fields of an item say, each becomes a part of one name: what could
lead elsewhere, or is no good in a name, is written ``%XX``.  Different values
make different names.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from m3.connectors._naming import PLAIN, Field, pieces_of
from m3.errors import ConfigError, abridged

__all__ = ("Template", "parse_path")

LONGEST_NAME = 255
"""Bytes that a name may have on nearly all file systems."""

SHORTEST_FIELD = 32
"""With less room than that for a field, a template is refused."""

# Separators, control characters, what turns or breaks lines, halves of pairs,
# and the sign that we write ourselves.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f/\\%\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CUT_ESCAPE = re.compile(r"%[0-9A-F]?$")


Segment = tuple[str | Field, ...]
"""One name of a path, in pieces."""


class Template:
    """
    A path with fields.

    Attributes:
        text: as it was written.
        root: the directory that no item leads out of: what is before the first field.
        depth: how many names there are behind that.
    """

    def __init__(self, text: str, pieces: list[str | Field]) -> None:
        before = pieces[0] if isinstance(pieces[0], str) else ""
        folder, slash, rest = before.rpartition("/")
        self.text = text
        self.root = folder or slash or "."
        self._segments = [
            (segment, room_for_fields(text, segment))
            for segment in segments_of([rest, *pieces[1 if before else 0 :]])
        ]
        self.depth = len(self._segments)
        for segment, _ in self._segments:
            if segment in ((), (".",), ("..",)):
                raise ConfigError(
                    f"path={text!r}: behind the first field there can be no empty name, . or .."
                )

    def names(self, item: Any) -> tuple[str, ...]:
        """
        Return the names of the directories below the root, and of the file, for *item*.

        Raises:
            TypeError: it is no mapping, or a field is no text, number or date.
            ValueError: it has not all fields.
        """
        if not isinstance(item, Mapping):
            raise TypeError(f"a path with fields needs items with fields, not {abridged(item)}")
        return tuple(
            "".join(
                piece if isinstance(piece, str) else escaped(field_of(item, piece.name), room)
                for piece in segment
            )
            for segment, room in self._segments
        )


def parse_path(path: str) -> str | Template:
    """
    Return *path* as a template, or as it is meant if it has no fields.

    A brace of a name is written ``{{`` or ``}}``.

    Raises:
        ConfigError: it is no template that can be filled in.
    """
    pieces = pieces_of("path", path)
    if any(isinstance(piece, Field) for piece in pieces):
        return Template(path, joined(pieces))
    return "".join(map(str, pieces))


def joined(pieces: list[str | Field]) -> list[str | Field]:
    """Return *pieces* with neighbouring texts, as an escaped brace leaves them, put together."""
    result: list[str | Field] = []
    for piece in pieces:
        if isinstance(piece, str) and result and isinstance(result[-1], str):
            result[-1] += piece
        else:
            result.append(piece)
    return result


def segments_of(pieces: list[str | Field]) -> Iterator[Segment]:
    """Split *pieces* at the slashes in their texts."""
    segment: list[str | Field] = []
    for piece in pieces:
        if isinstance(piece, Field):
            segment.append(piece)
            continue
        first, *others = piece.split("/")
        segment += [first] if first else []
        for other in others:
            yield tuple(segment)
            segment = [other] if other else []
    yield tuple(segment)


def room_for_fields(text: str, segment: Segment) -> int:
    """Return how many bytes each field of a name may have."""
    literal = sum(len(piece.encode()) for piece in segment if isinstance(piece, str))
    fields = sum(isinstance(piece, Field) for piece in segment)
    room = (LONGEST_NAME - literal) // max(fields, 1)
    if (room < SHORTEST_FIELD and fields) or literal > LONGEST_NAME:
        raise ConfigError(f"path={text!r}: one of its names would be too long")
    return room


def field_of(item: Mapping[str, Any], name: str) -> str:
    """Return a field of *item* as text."""
    try:
        value = item[name]
    except KeyError:
        raise ValueError(f"the item has no {name!r}, which its path needs") from None
    if not isinstance(value, PLAIN):
        raise TypeError(f"{name!r} is part of the path and cannot be {abridged(value)}")
    return str(value)


@lru_cache(4096)
def escaped(text: str, room: int) -> str:
    """Return *text* as a part of a name, of at most *room* bytes, different for each text."""
    name = _UNSAFE.sub(percent, text)
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name.encode()) <= room:
        return name or "%"
    mark = "%~" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    head = name.encode()[: room - len(mark)].decode("utf-8", "ignore")
    return _CUT_ESCAPE.sub("", head) + mark


def percent(match: re.Match[str]) -> str:
    """Return a character as the ``%XX`` of its bytes."""
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
