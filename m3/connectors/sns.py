"""
``sns``: messages to a topic of Amazon SNS.

It needs the extra ``aws``.  The clients are those of the resource ``sns``, a
:class:`~m3.aws.services.SimpleNotificationPool`; all stages that use it share
them, and are throttled together.

The backend publishes up to 10 items in a call: text and bytes as they are,
anything else as JSON.  What SNS refuses for now is sent again, what it refuses for
good is an error of its item.  For a FIFO topic (``.fifo``) a message has a group, in
which the order is kept, and a deduplication id.

Delivery: at least once.  In a FIFO topic, what is sent again within 5 minutes under
the same deduplication id is there once.
"""

from typing import Any

from m3.aws.services import SimpleNotificationPool
from m3.connectors._aws.batches import BatchedBackend, Refusal, refusals
from m3.connectors._aws.client import need_boto3
from m3.connectors._aws.fifo import Fifo
from m3.connectors._aws.payloads import text
from m3.connectors._naming import Name

__all__ = ("SnsBackend",)

MESSAGE_LIMIT = 262_144
"""Bytes of all messages of a call, unless the topic's MaximumMessageSize says more
(API reference, PublishBatch)."""


class SnsBackend(BatchedBackend):
    """
    Publish items to a topic.

    Args:
        topic: its ARN.
        group_id: of a FIFO topic, which must have one: a text with fields of the
            item in braces, as customer-{customer}, or a function of the item.
        deduplication_id: of a FIFO topic, likewise; by default a hash of the
            message.
        region: where the topic is; the default of the pool otherwise.
    """

    sns: SimpleNotificationPool

    most_entries = 10
    most_bytes = MESSAGE_LIMIT
    largest = MESSAGE_LIMIT
    item_codes = frozenset({"InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid"})

    def __init__(
        self,
        *,
        topic: str,
        group_id: Name | None = None,
        deduplication_id: Name | None = None,
        region: str | None = None,
    ) -> None:
        need_boto3("sns")
        self._topic = topic
        self._fifo = Fifo(topic, group_id, deduplication_id)
        self._region = region

    def setup(self) -> None:
        """Take a client."""
        self.connect(self.sns, self._region)

    def entry(self, item: Any) -> tuple[dict[str, str], int]:
        """Return the message of *item*."""
        message = text(item)
        return {"Message": message, **self._fifo.fields(item, message)}, len(message.encode())

    def send(self, contents: list[Any]) -> dict[int, Refusal]:
        """Publish messages."""
        entries = [{"Id": str(index), **message} for index, message in enumerate(contents)]
        response = self._client.publish_batch(
            TopicArn=self._topic, PublishBatchRequestEntries=entries
        )
        return refusals(response)
