"""
``kinesis``: records to a stream of Amazon Kinesis.

It needs the extra ``aws``.  The clients are those of the resource ``kinesis``, a
:class:`~m3.aws.services.KinesisPool`; all stages that use it share them, and are
throttled together.

The backend puts up to 500 items in a call: text and bytes as they are, anything
else as JSON.  Records that a shard refuses, because it gets more than it may, are
sent again after a pause; what is refused for good is an error of its item.

Delivery: at least once.  Records of one partition key are in one shard, but those
that are sent again stand behind others.
"""

from hashlib import sha256
from typing import Any

from m3.aws.services import KinesisPool
from m3.connectors._aws.batches import BatchedBackend, Refusal
from m3.connectors._aws.client import need_boto3
from m3.connectors._aws.payloads import payload
from m3.connectors._naming import Name, naming
from m3.policies import Batch

__all__ = ("KinesisBackend",)

MOST = 500
"""Records of a call (API reference, PutRecords)."""

CALL_LIMIT = 10 * 1024 * 1024
"""Bytes of a call with the partition keys, and of a record where the stream allows it."""

LONGEST_KEY = 256
"""Characters of a partition key, and here bytes (the same)."""


class KinesisBackend(BatchedBackend):
    """
    Put items into a stream.

    Args:
        stream: its name, or its ARN.
        partition_key: of a record: a text with fields of the item in braces, as
            {customer}, or a function of the item; by default a hash of the
            record, which spreads them over all shards.
        region: where the stream is; the default of the pool otherwise.
    """

    kinesis: KinesisPool

    batch = Batch(count=MOST)
    most_entries = MOST
    most_bytes = CALL_LIMIT
    largest = CALL_LIMIT
    item_codes = frozenset({"ValidationException", "InvalidArgumentException"})

    def __init__(
        self, *, stream: str, partition_key: Name | None = None, region: str | None = None
    ) -> None:
        need_boto3("kinesis")
        self._stream = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        self._key = (
            None
            if partition_key is None
            else naming("partition_key", partition_key, longest=LONGEST_KEY)
        )
        self._region = region

    def setup(self) -> None:
        """Take a client."""
        self.connect(self.kinesis, self._region)

    def entry(self, item: Any) -> tuple[dict[str, Any], int]:
        """Return the record of *item*."""
        data = payload(item)
        key = self._key(item) if self._key is not None else sha256(data).hexdigest()
        return {"Data": data, "PartitionKey": key}, len(data) + len(key.encode())

    def send(self, contents: list[Any]) -> dict[int, Refusal]:
        """Put records."""
        response = self._client.put_records(**self._stream, Records=contents)
        return {
            index: Refusal(each["ErrorCode"], each.get("ErrorMessage", ""), is_passing=True)
            for index, each in enumerate(response["Records"])
            if each.get("ErrorCode")
        }
