"""
Objects that are written one after the other, by one writer.

They are called by the prefix, the writer and their number: ``out/5f1c09e2-00000.jsonl``.
So no two writers meet, and a writer that comes again writes over what it had
written after its checkpoint, or removes it.
"""

import re
import secrets
import zlib
from contextlib import suppress
from typing import Any, Literal

from m3.connectors._aws.listing import find, listed
from m3.connectors._aws.uploads import Upload
from m3.errors import StateError

__all__ = ("Compression", "Parts")

Compression = Literal["none", "gzip"]


class Parts:
    """
    The objects of one writer.

    Args:
        client: of S3.
        bucket: where they are.
        prefix: what their keys begin with.
        suffix: what they end with.
        size: how many bytes one has, about.
        compression: of each.

    Attributes:
        writer: by this they are told from those of others.
        next: the number of the next one, and of the one that is being written.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        suffix: str,
        *,
        size: int,
        compression: Compression,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._suffix = suffix
        self._size = size
        self._compression = compression
        self._upload: Upload | None = None
        self.writer = secrets.token_hex(8)
        self.next = 0

    def write(self, data: bytes) -> None:
        """Add *data* to the object that is being written; blocks while parts of it are sent."""
        if self._upload is None:
            options = {"ContentEncoding": "gzip"} if self._compression == "gzip" else {}
            self._upload = Upload(self._client, self._bucket, self._key(self.next), options)
            self._gzip = zlib.compressobj(wbits=31) if options else None
        self._upload.write(self._gzip.compress(data) if self._gzip else data)
        if self._upload.size >= self._size:
            self.finish()

    def finish(self) -> None:
        """Have the object appear that is being written, if there is one."""
        if self._upload is None:
            return
        if self._gzip:
            self._upload.write(self._gzip.flush())
        self._upload.finish()
        self._upload = None
        self.next += 1

    def abort(self) -> None:
        """Throw away what was not finished."""
        if self._upload is not None:
            with suppress(
                Exception
            ):  # what is left is aborted by the next run, or a lifecycle rule
                self._upload.abort()
            self._upload = None

    def go_back(self, writer: str, number: int) -> None:
        """
        Become *writer* again, and remove its objects from *number* on, finished or not.

        Raises:
            StateError: the one before is not there.
        """
        self.writer, self.next = writer, number
        if number and find(self._client, self._bucket, self._key(number - 1)) is None:
            raise StateError(
                f"s3://{self._bucket}/{self._key(number - 1)} was written by an earlier run and is "
                "not there; put it back, or begin again without the kept state"
            )
        self._abort_uploads()
        for found in listed(self._client, self._bucket, self._beginning):
            if self._number(found.key) >= number:
                self._client.delete_object(Bucket=self._bucket, Key=found.key)

    @property
    def _beginning(self) -> str:
        return f"{self._prefix}{self.writer}-"

    def _key(self, number: int) -> str:
        return f"{self._beginning}{number:05}{self._suffix}"

    def _number(self, key: str) -> int:
        match = re.match(r"\d+", key.removeprefix(self._beginning))
        return int(match[0]) if match else -1

    def _abort_uploads(self) -> None:
        """Abort the uploads that a run has left which died."""
        pages = self._client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._beginning):
            for each in page.get("Uploads", ()):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"]
                )
