"""
An object, written piece by piece.

What is small is put at once, what is larger is a multipart upload, each part with
a CRC-32 that S3 checks.  Nobody sees any of it before it is finished.
"""

from typing import Any

__all__ = ("PIECE", "Upload")

PIECE = 8 * 1024 * 1024
"""Bytes of a part; all but the last have at least 5 MiB, and there are at most 10,000
(S3 user guide, multipart upload limits)."""

CHECKSUM = "CRC32"


class Upload:
    """
    One object.

    Args:
        client: of S3.
        bucket: where it is going to be.
        key: its name there.
        options: of the object, as ContentType.
    """

    def __init__(self, client: Any, bucket: str, key: str, options: dict[str, str]) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        self._options = {**options, "ChecksumAlgorithm": CHECKSUM}
        self._pending = bytearray()
        self._upload: dict[str, str] | None = None
        self._parts: list[dict[str, Any]] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add *data*; blocks while a part is sent."""
        self._pending += data
        self.size += len(data)
        while len(self._pending) >= PIECE:
            self._send(bytes(self._pending[:PIECE]))
            del self._pending[:PIECE]

    def finish(self) -> None:
        """Have the object appear; when this returns, S3 keeps it."""
        if self._upload is None:
            self._client.put_object(**self._target, **self._options, Body=bytes(self._pending))
            return
        if self._pending:
            self._send(bytes(self._pending))
        self._client.complete_multipart_upload(
            **self._upload, MultipartUpload={"Parts": self._parts}
        )
        self._upload = None

    def abort(self) -> None:
        """Throw away what was sent, so that nobody pays for it."""
        if self._upload is not None:
            self._client.abort_multipart_upload(**self._upload)
            self._upload = None

    def _send(self, body: bytes) -> None:
        if self._upload is None:
            made = self._client.create_multipart_upload(**self._target, **self._options)
            self._upload = {**self._target, "UploadId": made["UploadId"]}
        number = len(self._parts) + 1
        sent = self._client.upload_part(
            **self._upload, PartNumber=number, Body=body, ChecksumAlgorithm=CHECKSUM
        )
        part = {"PartNumber": number, "ETag": sent["ETag"]}
        if name := sent.get("ChecksumCRC32"):
            part["ChecksumCRC32"] = name
        self._parts.append(part)
