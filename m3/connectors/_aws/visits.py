"""How far the objects of a bucket were read, one after the other."""

import threading
from typing import Any, NamedTuple

from m3.connectors._input.records import RecordPosition
from m3.connectors._marks import values_of

__all__ = ("Place", "Visits", "place_of")


class Place(NamedTuple):
    """Where to go on: behind a record of an object, and of the objects in the order of keys."""

    bucket: str
    key: str
    etag: str
    line: int
    """The number of that record, from 1."""
    offset: int
    """Where it begins, after decompression."""
    is_plain: bool
    """Whether the object is not compressed, so that this is a byte of it."""
    is_whole: bool
    """Whether the record was the last one."""


def place_of(checkpoint: Any) -> Place:
    """
    Return the place that a checkpoint says.

    Raises:
        StateError: it is none of this connector.
    """
    kinds = {"bucket": str, "key": str, "etag": str, "line": int, "offset": int}
    return Place(*values_of(checkpoint, **kinds, is_plain=bool, is_whole=bool))


class Visit(NamedTuple):
    """What is known of an object that is being read, or was."""

    etag: str
    is_plain: bool
    records: int | None = None
    """How many it had; None as long as that is not known."""


class Visits:
    """
    The objects that were read since the last checkpoint; threads may share it.

    Args:
        bucket: where they are.
        are_kept: whether checkpoints are going to be asked for.
    """

    def __init__(self, bucket: str, *, are_kept: bool) -> None:
        self._bucket = bucket
        self._are_kept = are_kept
        self._lock = threading.Lock()
        self._visits: dict[str, Visit] = {}

    def begin(self, key: str, etag: str, *, is_plain: bool) -> None:
        """Say that an object is read from now on."""
        with self._lock:
            self._visits[key] = Visit(etag, is_plain)

    def end(self, key: str, records: int) -> None:
        """Say that it was read to its end, and how many records it had."""
        with self._lock:
            if records and self._are_kept:
                self._visits[key] = self._visits[key]._replace(records=records)
            else:
                del self._visits[key]

    def behind(self, position: RecordPosition) -> dict[str, Any]:
        """Return the place behind a record; places before it are not asked for any more."""
        with self._lock:
            for key in list(self._visits):
                if key == position.source:
                    break
                del self._visits[key]
            etag, is_plain, records = self._visits[position.source]
        return Place(
            self._bucket,
            position.source,
            etag,
            position.line,
            position.offset,
            is_plain=is_plain,
            is_whole=records is not None and position.line >= records,
        )._asdict()
