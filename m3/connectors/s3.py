r"""
``s3``: objects of Amazon S3, in and out.

It needs the extra ``aws``.  The clients are those of the resource ``s3``, an
:class:`~m3.aws.services.S3Pool`; all stages that use it share them, and are
throttled together.

The frontend reads the objects below a prefix in the order of their keys: their
lines as the frontend ``file`` does, compressed ones too; each as a whole; or only
what the list says of them.  Where a connection breaks, it asks for the rest; an
object that is replaced while it is read ends the run.

The backend writes an object per item, whose key is made of the item; or lines,
gathered into objects with keys of their own.  Text and bytes are written as they
are, anything else as JSON.  An object appears as a whole or not at all.

Delivery: in a run with state, the frontend goes on behind a record of an object,
and refuses one that has changed.  Both ways of writing deliver effectively once
then: an item that comes again replaces its object, and objects of lines that came
after the last checkpoint are removed.  Each checkpoint ends an object of lines, so
a short ``checkpoint_interval`` makes small ones.  Without state, a line counts as
delivered when it is in the object that is being written; if S3 does not take that at
the end, the run fails, and what was in it is missing, unless it was to be acknowledged.
Several workers that write lines need the class; an instance that is given has one.
"""

import gzip
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Literal, get_args

from m3.aws.services import S3Pool
from m3.connectors._aws.bodies import Body
from m3.connectors._aws.client import client_of, need_boto3
from m3.connectors._aws.listing import Found, find, listed
from m3.connectors._aws.parts import Compression as Written
from m3.connectors._aws.parts import Parts
from m3.connectors._aws.payloads import payload
from m3.connectors._aws.visits import Place, Visits, place_of
from m3.connectors._input.compression import (
    MAX_OUTPUT,
    MAX_RATIO,
    Compression,
    Decompression,
)
from m3.connectors._input.reading import RecordFrontend, Source
from m3.connectors._input.records import RECORD_LIMIT, RecordPosition, converter, splitting
from m3.connectors._marks import values_of
from m3.connectors._naming import Name, has_fields, naming
from m3.connectors._options import check_choice
from m3.errors import (
    BatchError,
    ConfigError,
    RecordTooLongError,
    StateError,
    abridged,
)
from m3.policies import Batch
from m3.stages import Backend, Failure, Item

__all__ = ("S3Backend", "S3Frontend")

LONGEST_KEY = 1024
"""Bytes (S3 user guide, object keys)."""

OBJECT_SIZE = 64 * 1024 * 1024

Reading = Literal["lines", "object", "key"]

log = logging.getLogger("m3.connectors.s3")


class S3Frontend(RecordFrontend):
    """
    Read the objects of a bucket.

    Args:
        bucket: where they are.
        prefix: what their keys begin with.
        read: lines; or object, for items that are mappings of bucket, key,
            etag, size, modified and body; or key, for these without the body.
        start_after: begin behind this key.
        encoding: decode the lines to text; without it they are bytes.
        errors: what to do about bytes that are not in the encoding: strict
            makes the line a failure, replace and the like keep it.
        limit: the most bytes of a line, or of an object that is read as a
            whole; what is longer is a failure.
        compression: of the objects, gzip, bz2, xz, zstd or none; auto knows it
            by the first bytes.
        max_ratio: end the run if compressed input becomes so many times as
            long, and more than 1 MiB.
        max_output: end the run if one compressed object holds more bytes.
        region: where the bucket is; the default of the pool otherwise.
    """

    s3: S3Pool

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        read: Reading = "lines",
        start_after: str = "",
        encoding: str | None = None,
        errors: str = "strict",
        limit: int = RECORD_LIMIT,
        compression: Compression = "auto",
        max_ratio: float = MAX_RATIO,
        max_output: int = MAX_OUTPUT,
        region: str | None = None,
    ) -> None:
        need_boto3("s3")
        super().__init__(splitting(limit, converter(encoding, errors)))
        check_choice("read", read, Reading)
        self._decompression = Decompression(compression, max_ratio, max_output)
        self._decompression.check()
        self._bucket = bucket
        self._prefix = prefix
        self._read = read
        self._behind = start_after
        self._limit = limit
        self._region = region

    def setup(self) -> None:
        """Take a client, and look whether there is the bucket."""
        self._client = client_of(self.s3, self._region)
        self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        self._visits = Visits(self._bucket, are_kept=self.wants_positions)
        self._start: Place | None = None
        super().setup()

    def checkpoint(self, position: RecordPosition) -> dict[str, Any]:
        """Return how far was read, if all up to *position* is done."""
        return self._visits.behind(position)

    def resume(self, checkpoint: Any) -> None:
        """
        Begin behind what was read.

        Raises:
            StateError: the last object was replaced, or is gone and not all of it
                was read; or it is none of those that are to be read.
        """
        if checkpoint is None:
            return
        place = place_of(checkpoint)
        if place.bucket != self._bucket or not place.key.startswith(self._prefix):
            raise StateError(
                f"an earlier run has come to s3://{place.bucket}/{place.key}, and this one is to "
                f"read s3://{self._bucket}/{self._prefix}; use another folder for its state, or "
                "begin anew with --from-start"
            )
        found = find(self._client, self._bucket, place.key)
        if found is None and not place.is_whole:
            raise StateError(f"{self._problem(place)} is gone; put it back, or begin anew")
        if found is not None and found.etag != place.etag:
            raise StateError(
                f"{self._problem(place)} was replaced; put back the one with the ETag "
                f"{place.etag}, or begin anew with --from-start"
            )
        self._start = place

    def _problem(self, place: Place) -> str:
        return f"s3://{self._bucket}/{place.key}, of which line {place.line} was the last that was"

    def _lists(self) -> Iterator[Iterable[Any]]:
        behind = self._behind
        if self._start is not None:
            behind = self._start.key
            if not self._start.is_whole:
                yield from self._rest(self._start)
        read = {"lines": self._lines, "object": self._whole, "key": self._entry}[self._read]
        for found in listed(self._client, self._bucket, self._prefix, behind=behind):
            if self._wakeup.is_set():
                return
            try:
                yield from read(found)
            except FileNotFoundError as error:
                log.warning("%s since it was listed, and is left out", error)

    def _lines(self, found: Found) -> Iterator[Iterable[Any]]:
        """Yield the lines of an object, in lists."""
        with Body(self._client, self._bucket, found.key) as body:
            blocks = self._raw(found.key, body)
            first = next(blocks, b"")
            is_plain = self._decompression.kind_of(first) == "none"
            self._visits.begin(found.key, body.etag or "", is_plain=is_plain)
            yield from self._split(found.key, self._plain(found.key, chain((first,), blocks)))

    def _rest(self, place: Place) -> Iterator[Iterable[Any]]:
        """Yield the lines behind *place*, of the same object."""
        offset = place.offset if place.is_plain else 0
        with Body(self._client, self._bucket, place.key, etag=place.etag, offset=offset) as body:
            self._visits.begin(place.key, place.etag, is_plain=place.is_plain)
            blocks = self._raw(place.key, body)
            if not place.is_plain:
                blocks = behind(self._plain(place.key, blocks), place.offset)
            yield from self._split(place.key, blocks, place)

    def _split(
        self, key: str, blocks: Iterable[bytes], place: Place | None = None
    ) -> Iterator[Iterable[Any]]:
        splitter = self._splitter(
            key,
            positions=self.wants_positions,
            line=1 if place is None else place.line,
            offset=0 if place is None else place.offset,
        )
        is_done = place is not None  # the first record, until it has come again
        for block in blocks:
            found = splitter.feed(block)
            if is_done:
                found = iter(found)
                is_done = next(found, None) is None
            yield found
        if not self._wakeup.is_set():
            last = splitter.end()
            self._visits.end(key, splitter.line - 1)
            yield islice(last, 1, None) if is_done else last

    def _whole(self, found: Found) -> Iterator[list[Any]]:
        """Yield an object as one item, or why it cannot be one."""
        content = bytearray()
        with Body(self._client, self._bucket, found.key) as body:
            etag = body.etag or ""
            for block in self._plain(found.key, self._raw(found.key, body)):
                content += block
                if len(content) > self._limit:
                    break
        if self._wakeup.is_set():
            return
        value = self._described(found._replace(etag=etag))
        if len(content) > self._limit:
            error = RecordTooLongError(
                f"s3://{self._bucket}/{found.key} is longer than {self._limit} bytes; the option "
                "limit says how long an object may be that is read as a whole"
            )
            yield [Failure(error, value, self._passed(found.key, etag))]
            return
        yield [self._item({**value, "body": bytes(content)}, found.key, etag)]

    def _entry(self, found: Found) -> Iterator[list[Any]]:
        """Yield what the list says of an object."""
        yield [self._item(self._described(found), found.key, found.etag)]

    def _described(self, found: Found) -> dict[str, Any]:
        return {"bucket": self._bucket, **found._asdict()}

    def _item(self, value: Any, key: str, etag: str) -> Any:
        position = self._passed(key, etag)
        return Item(value, position) if self.wants_positions else value

    def _passed(self, key: str, etag: str) -> RecordPosition:
        """Take note that an object is one item, and return its position."""
        self._visits.begin(key, etag, is_plain=True)
        self._visits.end(key, 1)
        return RecordPosition(key, 1, 0)

    def _raw(self, key: str, body: Body) -> Iterator[bytes]:
        return Source(key, body.read, None).blocks(self._wakeup)

    def _plain(self, key: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
        return self._decompression.applied(key, blocks, self._wakeup.is_set)


class S3Backend(Backend[Any]):
    """
    Write items to objects of a bucket.

    Args:
        bucket: where they are.
        key: for an object per item; a text with fields of the item in braces,
            as orders/{country}/{id}.json, or a function of the item.
        body: the field of the item that the object holds; all of it by default.
        prefix: for objects of many lines; what their keys begin with.
        suffix: what these end with, as .jsonl.
        object_size: how many bytes one of these has, about.
        compression: none or gzip.
        region: where the bucket is; the default of the pool otherwise.
    """

    s3: S3Pool

    def __init__(
        self,
        *,
        bucket: str,
        key: Name | None = None,
        body: str | None = None,
        prefix: str | None = None,
        suffix: str = "",
        object_size: int = OBJECT_SIZE,
        compression: Written = "none",
        region: str | None = None,
    ) -> None:
        need_boto3("s3")
        if (key is None) == (prefix is None):
            raise ConfigError("give key, for an object per item, or prefix, for objects of lines")
        if key is not None and not has_fields("key", key):
            raise ConfigError(f"key={key!r}: it has no field, so all items were one object")
        if compression not in get_args(Written):
            raise ConfigError(f"compression={compression!r}: it can be none or gzip")
        if object_size < 1:
            raise ConfigError(f"object_size={object_size}: an object has 1 byte at least")
        self._bucket = bucket
        self._key = None if key is None else naming("key", key, longest=LONGEST_KEY)
        self._body = body
        self._prefix, self._suffix = prefix, suffix
        self._object_size = object_size
        self._compression: Written = compression
        self._region = region
        self.can_resume = prefix is not None
        self.is_idempotent = key is not None
        if key is not None:
            self.batch = Batch(count=1)  # type: ignore[misc]  # so that all workers have some
        else:
            self.max_workers = 1  # type: ignore[misc]  # of this instance: it writes one object

    def setup(self) -> None:
        """Take a client, and look whether there is the bucket."""
        self._client = client_of(self.s3, self._region)
        self._client.head_bucket(Bucket=self._bucket)
        self._keeps_state = False
        self._broken: Exception | None = None
        self._parts = Parts(
            self._client,
            self._bucket,
            self._prefix or "",
            self._suffix,
            size=self._object_size,
            compression=self._compression,
        )

    def process_batch(self, items: list[Any]) -> None:
        """Write *items*; blocks while they are sent."""
        errors: dict[int, Exception] = {}
        if self._key is not None:
            for place, item in enumerate(items):
                try:
                    self._put(item, self._key)
                except Exception as error:
                    errors[place] = error
        elif lines := list(self._encoded(items, errors)):
            self._unless_broken(self._parts.write, b"\n".join(lines) + b"\n")
        if errors:
            raise BatchError(errors)

    def commit(self) -> dict[str, Any] | None:
        """Finish the object of lines; in a run with state, return which there are."""
        self._unless_broken(self._parts.finish)
        if not self._keeps_state:
            return None
        return {"writer": self._parts.writer, "next": self._parts.next}

    def resume(self, mark: Any) -> None:
        """
        Remove the objects of lines that came after *mark*, and uploads that were left.

        Raises:
            StateError: the last one that came before is missing.
        """
        self._keeps_state = True
        if mark is not None:
            self._parts.go_back(*values_of(mark, writer=str, next=int))

    def cleanup(self) -> None:
        """
        Finish the last object, unless its lines come again or some are missing in it.

        Raises:
            Exception: it cannot be finished, or what came before it could not, so that lines
                are missing which count as delivered.
        """
        try:
            if not (self.failed and (self._broken or self._keeps_state)):
                self._unless_broken(self._parts.finish)
        finally:
            self._parts.abort()

    def _put(self, item: Any, name: Callable[[Any], str]) -> None:
        content = payload(item if self._body is None else field_of(item, self._body))
        options = {}
        if self._compression == "gzip":
            content = gzip.compress(content, mtime=0)
            options["ContentEncoding"] = "gzip"
        self._client.put_object(
            Bucket=self._bucket,
            Key=name(item),
            Body=content,
            ChecksumAlgorithm="CRC32",
            **options,
        )

    def _encoded(self, items: list[Any], errors: dict[int, Exception]) -> Iterator[bytes]:
        """Yield the line of each item; into *errors* goes why there is none."""
        for place, item in enumerate(items):
            try:
                yield payload(item if self._body is None else field_of(item, self._body))
            except Exception as error:
                errors[place] = error

    def _unless_broken(self, method: Callable[..., object], *args: Any) -> None:
        """Call *method*; once it has failed, an object may lack lines, and is never finished."""
        if self._broken:
            raise self._broken
        try:
            method(*args)
        except Exception as error:
            self._broken = error
            raise


def field_of(item: Any, name: str) -> Any:
    """Return a field of *item*."""
    if not isinstance(item, Mapping) or name not in item:
        raise ValueError(f"the item has no {name!r}, which is to be the body: {abridged(item)}")
    return item[name]


def behind(blocks: Iterable[bytes], skip: int) -> Iterator[bytes]:
    """Yield what follows the first *skip* bytes."""
    for block in blocks:
        if skip < len(block):
            yield block[skip:] if skip else block
        skip = max(0, skip - len(block))
