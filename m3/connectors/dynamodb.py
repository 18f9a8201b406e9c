"""
``dynamodb``: items to a table of Amazon DynamoDB.

It needs the extra ``aws``.  The clients are those of the resource ``dynamodb``, a
:class:`~m3.aws.services.DynamoDBPool`; all stages that use it share them, and are
throttled together.

The backend puts up to 25 mappings in a call; each replaces what the table has
under the same key.  Of several with one key that it is given together, only the
last is sent.  A float is the decimal number that Python writes for it, dates and
UUIDs are text.  What DynamoDB does not process for now is sent again after a
pause, what it refuses for good is an error of its item.

Delivery: an item that comes again replaces itself, so with state effectively once.
Several workers may put two items of one key in another order.
"""

from collections.abc import Sequence
from typing import Any

from m3.aws.services import DynamoDBPool
from m3.connectors._aws.attributes import attributes_of, key_of, size_of
from m3.connectors._aws.batches import UNPROCESSED, BatchedBackend, Entry, Refusal
from m3.connectors._aws.client import need_boto3

__all__ = ("DynamodbBackend",)

MOST = 25
"""Items of a call (API reference, BatchWriteItem)."""

CALL_LIMIT = 16 * 1024 * 1024

ITEM_LIMIT = 400 * 1024
"""Bytes of an item in the table."""


class DynamodbBackend(BatchedBackend):
    """
    Put mappings into a table.

    Args:
        table: its name, or its ARN.
        key: the attributes of its primary key; the table is asked by default.
        region: where the table is; the default of the pool otherwise.
    """

    dynamodb: DynamoDBPool

    is_idempotent = True
    most_entries = MOST
    most_bytes = CALL_LIMIT
    largest = ITEM_LIMIT
    item_codes = frozenset({"ValidationException"})

    def __init__(
        self, *, table: str, key: str | Sequence[str] | None = None, region: str | None = None
    ) -> None:
        need_boto3("dynamodb")
        self._table = table
        self._key = (key,) if isinstance(key, str) else tuple(key or ())
        self._region = region

    def setup(self) -> None:
        """Take a client, and ask for the key of the table unless it was given."""
        self.connect(self.dynamodb, self._region)
        if not self._key:
            table = self._client.describe_table(TableName=self._table)["Table"]
            self._key = tuple(each["AttributeName"] for each in table["KeySchema"])

    def entry(self, item: Any) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], int]:
        """Return the key and the attributes of *item*."""
        attributes = attributes_of(item)
        return (key_of(attributes, self._key), attributes), size_of(attributes)

    def merged(self, entries: list[Entry]) -> tuple[list[Entry], dict[int, int]]:
        """Leave out what is replaced: no call may have a key twice, and the last counts."""
        last = {entry.content[0]: entry for entry in entries}
        replaced = {
            entry.place: last[entry.content[0]].place
            for entry in entries
            if last[entry.content[0]] is not entry
        }
        return [entry for entry in entries if entry.place not in replaced], replaced

    def send(self, contents: list[Any]) -> dict[int, Refusal]:
        """Put items."""
        requests = [{"PutRequest": {"Item": attributes}} for _, attributes in contents]
        response = self._client.batch_write_item(RequestItems={self._table: requests})
        unprocessed = response.get("UnprocessedItems") or {}
        left = {
            key_of(each["PutRequest"]["Item"], self._key)
            for requests in unprocessed.values()
            for each in requests
        }
        refusal = Refusal(UNPROCESSED, "DynamoDB has not processed the item", is_passing=True)
        return {index: refusal for index, (key, _) in enumerate(contents) if key in left}
