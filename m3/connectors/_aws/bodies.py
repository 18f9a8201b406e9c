"""
The bytes of an object, also if the connection breaks while they are read.

What is missing is asked for again by its range, on the condition that the object
still has the same ETag: what comes is of one version, or an error.
"""

import time
from contextlib import closing, suppress
from typing import Any, Self

from m3.aws.region import code_of
from m3.errors import InputChangedError
from m3.policies import Backoff

__all__ = ("Body",)

ATTEMPTS = 5
"""How often to go on at the same byte."""

PIECE = 64 * 1024
"""Bytes asked of the connection at once: what a break may lose of what had come already."""

PAUSES = Backoff(initial=0.1, maximum=5.0)

REPLACED = ("PreconditionFailed", "412")
GONE = ("NoSuchKey", "404")


class Body:
    """
    What an object holds, from a byte on.

    Args:
        client: of S3.
        bucket: where it is.
        key: of the object.
        etag: what it must have; None for any.
        offset: where to begin.

    Raises:
        InputChangedError: it has another ETag, or is gone and should have one.
        FileNotFoundError: it is gone.

    Attributes:
        etag: what it has.
    """

    def __init__(
        self, client: Any, bucket: str, key: str, *, etag: str | None = None, offset: int = 0
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._offset = offset
        self.etag = etag
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Return at most *size* bytes, and none at the end; blocks until they are here."""
        broken: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                self._go_on(PAUSES.delay_after(attempt))
            try:
                block: bytes = self._stream.read(min(size, PIECE))
            except Exception as error:
                if self._offset >= self._end:  # not the connection, but the checksum is wrong
                    raise
                broken = error
                continue
            self._offset += len(block)
            if block or self._offset >= self._end:
                return block
        raise ConnectionError(
            f"{self._name}: the connection broke {self._end - self._offset:,} bytes before the "
            f"end, {ATTEMPTS} times at byte {self._offset:,}"
        ) from broken

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(Exception), closing(self._stream):
            pass

    @property
    def _name(self) -> str:
        return f"s3://{self._bucket}/{self._key}"

    def _go_on(self, pause: float) -> None:
        self.close()
        time.sleep(pause)
        self._open()

    def _open(self) -> None:
        options: dict[str, Any] = {}
        if self._offset:
            options["Range"] = f"bytes={self._offset}-"
        if self.etag is not None:
            options["IfMatch"] = self.etag
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=self._key, **options)
        except Exception as error:
            self._explain(error)
            raise
        self._stream = response["Body"]
        self._end = self._offset + response["ContentLength"]
        self.etag = response["ETag"]

    def _explain(self, error: Exception) -> None:
        """Raise an error that says that the object was replaced or is gone, if it was."""
        code = code_of(error)
        if self.etag is not None and code in (*REPLACED, *GONE):
            what = "is gone" if code in GONE else "was replaced"
            raise InputChangedError(
                f"{self._name} {what} while it was read: at byte {self._offset:,} it has no longer "
                f"the ETag {self.etag}; put back that version, or begin anew"
            ) from error
        if code in GONE:
            raise FileNotFoundError(f"{self._name} is gone") from error
