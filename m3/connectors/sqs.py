"""
``sqs``: messages of Amazon SQS, in and out.

It needs the extra ``aws``.  The clients are those of the resource ``sqs``, an
:class:`~m3.aws.services.SqsPool`; all stages that use it share them, and are
throttled together.

The frontend takes up to 10 messages at a time, waiting for them (long polls), and
deletes each when everything made from it is delivered, or kept as a dead letter.
Until then it is held: its visibility timeout is renewed by a thread of its own,
however long the work takes.  A message that failed becomes visible again when its
timeout ends, or after ``retry_after`` seconds; what a stop leaves undone, at once.
One that was received more often than ``max_receives`` is not worked on: it is a
dead letter where the run keeps those, and is skipped elsewhere.  Several workers
need the class; an instance that is given has one.

The backend sends up to 10 messages in a call: text and bytes as they are, anything
else as JSON.  What SQS refuses for now is sent again, what it refuses for good is
an error of its item.  For a FIFO queue (``.fifo``) a message has a group, in which
the order is kept, and a deduplication id.

Delivery: both at least once.  SQS may deliver a message of a standard queue twice
even if all goes well.  In a FIFO queue, what is sent again within 5 minutes under
the same deduplication id is there once.
"""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from m3.aws.services import SqsPool
from m3.connectors._aws.batches import BatchedBackend, Refusal, refusals
from m3.connectors._aws.client import client_of, need_boto3
from m3.connectors._aws.fifo import Fifo
from m3.connectors._aws.payloads import text
from m3.connectors._aws.receipts import LONGEST, MOST, Queue, Receipt, Receipts
from m3.connectors._json import loads
from m3.connectors._naming import Name
from m3.connectors._options import check_choice
from m3.errors import AbandonedError, ConfigError, Reject
from m3.stages import Failure, Frontend, Item

__all__ = ("SqsBackend", "SqsFrontend")

MESSAGE_LIMIT = 1_048_576
"""Bytes of a message, and of all of a call (API reference of SQS, SendMessageBatch; since 2025)."""

LONGEST_POLL = 20
"""Seconds (ReceiveMessage)."""

Form = Literal["text", "json", "message"]


class SqsFrontend(Frontend[Any]):
    """
    Take messages from a queue, and delete those that are done.

    Args:
        queue: its URL, or its name.
        form: what an item is: the text, what it says in JSON, or all of the
            message: a mapping with body, id, attributes, group and receives.
        wait_time: how many seconds a call waits for messages, 0 to 20. A stop
            waits for the call; a long one costs less while the queue is empty.
        visibility: for how many seconds at a time messages are hidden from
            others; renewed until they are done. That of the queue by default.
        max_processing: for how many seconds in all, at most 12 hours.
        retry_after: after how many seconds a message that failed is visible
            again; when its visibility ends by default.
        max_receives: how often a message is received at most.
        idle_timeout: end when no message came for so many seconds; by default
            the frontend waits for more until it is stopped.
        region: where the queue is; the default of the pool otherwise.
    """

    sqs: SqsPool

    def __init__(
        self,
        *,
        queue: str,
        form: Form = "text",
        wait_time: int = 1,
        visibility: int | None = None,
        max_processing: float = LONGEST,
        retry_after: int | None = None,
        max_receives: int | None = None,
        idle_timeout: float | None = None,
        region: str | None = None,
    ) -> None:
        need_boto3("sqs")
        check_choice("form", form, Form)
        check_range("wait_time", wait_time, 0, LONGEST_POLL)
        check_range("visibility", visibility, 1, LONGEST)
        check_range("max_processing", max_processing, 0, LONGEST)
        check_range("retry_after", retry_after, 0, LONGEST)
        check_range("max_receives", max_receives, 1, math.inf)
        self._name = queue
        self._form = form
        self._wait_time = wait_time
        self._visibility = visibility
        self._max_processing = max_processing
        self._retry_after = retry_after
        self._max_receives = max_receives
        self._idle_timeout = idle_timeout
        self._region = region
        self._over = threading.Event()
        self.max_workers = 1  # type: ignore[misc]  # of this instance: it holds one's messages

    def setup(self) -> None:
        """Look for the queue, and begin to hold what comes from it."""
        self._over.clear()
        client = client_of(self.sqs, self._region)
        self._queue = Queue(client, url_of(client, self._name))
        visibility = self._visibility or default_visibility(self._queue)
        self._receipts = Receipts(self._queue, visibility=visibility, longest=self._max_processing)
        self._receipts.open()

    def produce(self) -> Iterator[Any]:
        """Yield the messages; blocks while there are none."""
        last = time.monotonic()
        while not self._over.is_set():
            messages = self._receive()
            receipts = [receipt_of(each) for each in messages]
            self._receipts.add(receipts)
            if self._over.is_set():
                return  # they are given back with all others that are held
            for message, receipt in zip(messages, receipts, strict=True):
                yield self._item(message, receipt)
            if messages:
                last = time.monotonic()
            elif self._idle_timeout is not None and time.monotonic() - last >= self._idle_timeout:
                return

    def stop(self) -> None:
        """Ask for no more messages; a call that waits ends after *wait_time* at the latest."""
        self._over.set()

    def ack(self, position: Receipt) -> None:
        """Delete the message."""
        self.ack_batch([position])

    def ack_batch(self, positions: list[Receipt]) -> None:
        """
        Delete messages; one that cannot be deleted because it is held no more comes again.

        Raises:
            RefusedError: SQS does not do it, however often it is asked.
        """
        errors = self._queue.delete(positions)
        self._receipts.forget(positions)
        self._receipts.note_lost(positions, errors)

    def nack(self, position: Receipt, error: Exception) -> None:
        """Have the message come again: after *retry_after*, or at once when the run ends early."""
        if isinstance(error, AbandonedError):
            return  # it is given back with all others that are still held
        if self._retry_after is None or isinstance(error, Reject):
            self._receipts.forget([position])
        else:
            self._receipts.put_off(position, self._retry_after)

    def dead_lettered(self, position: Receipt, _error: Exception) -> None:
        """Delete the message, which is kept elsewhere."""
        self.ack_batch([position])

    def cleanup(self) -> None:
        """Give back what was not answered, for others to work on."""
        self._receipts.close()

    def _receive(self) -> list[Mapping[str, Any]]:
        options = {} if self._visibility is None else {"VisibilityTimeout": self._visibility}
        response = self._queue.client.receive_message(
            QueueUrl=self._queue.url,
            MaxNumberOfMessages=MOST,
            WaitTimeSeconds=self._wait_time,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            **options,
        )
        messages: list[Mapping[str, Any]] = response.get("Messages", [])
        return messages

    def _item(self, message: Mapping[str, Any], receipt: Receipt) -> Item | Failure:
        if self._max_receives is not None and receipt.number > self._max_receives:
            error: Exception = Reject(
                f"message {receipt.message} was received {receipt.number} times, more than "
                f"max_receives={self._max_receives}"
            )
            return Failure(error, message["Body"], receipt)
        try:
            return Item(value_of(message, self._form), receipt)
        except Exception as raised:
            return Failure(raised, message["Body"], receipt)


class SqsBackend(BatchedBackend):
    """
    Send items to a queue.

    Args:
        queue: its URL, or its name.
        group_id: of a FIFO queue, which must have one, and of a fair queue: a
            text with fields of the item in braces, as customer-{customer}, or a
            function of the item.
        deduplication_id: of a FIFO queue, likewise; by default a hash of the
            message.
        region: where the queue is; the default of the pool otherwise.
    """

    sqs: SqsPool

    most_entries = MOST
    most_bytes = MESSAGE_LIMIT
    largest = MESSAGE_LIMIT
    item_codes = frozenset({"InvalidMessageContents", "InvalidParameterValue"})

    def __init__(
        self,
        *,
        queue: str,
        group_id: Name | None = None,
        deduplication_id: Name | None = None,
        region: str | None = None,
    ) -> None:
        need_boto3("sqs")
        self._name = queue
        self._fifo = Fifo(queue, group_id, deduplication_id)
        self._region = region

    def setup(self) -> None:
        """Look for the queue."""
        self.connect(self.sqs, self._region)
        self._url = url_of(self._client, self._name)

    def entry(self, item: Any) -> tuple[dict[str, str], int]:
        """Return the message of *item*."""
        body = text(item)
        return {"MessageBody": body, **self._fifo.fields(item, body)}, len(body.encode())

    def send(self, contents: list[Any]) -> dict[int, Refusal]:
        """Send messages."""
        entries = [{"Id": str(index), **message} for index, message in enumerate(contents)]
        return refusals(self._client.send_message_batch(QueueUrl=self._url, Entries=entries))


def check_range(option: str, value: float | None, least: float, most: float) -> None:
    """Raise :exc:`~m3.errors.ConfigError` unless *value* is in its range, or None."""
    if value is not None and not least <= value <= most:
        raise ConfigError(f"{option}={value}: it is from {least} to {most}")


def url_of(client: Any, queue: str) -> str:
    """Return the URL of *queue*, which is that or a name."""
    if "://" in queue:
        return queue
    return str(client.get_queue_url(QueueName=queue)["QueueUrl"])


def default_visibility(queue: Queue) -> int:
    """Return the visibility timeout that the queue itself has."""
    attributes = queue.client.get_queue_attributes(
        QueueUrl=queue.url, AttributeNames=["VisibilityTimeout"]
    )["Attributes"]
    return max(1, int(attributes["VisibilityTimeout"]))


def receipt_of(message: Mapping[str, Any]) -> Receipt:
    """Return by what *message* is known."""
    number = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    return Receipt(message["MessageId"], number, message["ReceiptHandle"])


def value_of(message: Mapping[str, Any], form: Form) -> Any:
    """Return the item that *message* makes; raise if it is not what it should be."""
    if form == "text":
        return message["Body"]
    if form == "json":
        return loads(message["Body"].encode())
    system = message.get("Attributes", {})
    given = message.get("MessageAttributes", {})
    return {
        "body": message["Body"],
        "id": message["MessageId"],
        "attributes": {name: attribute_of(each) for name, each in given.items()},
        "group": system.get("MessageGroupId"),
        "receives": int(system.get("ApproximateReceiveCount", 1)),
    }


def attribute_of(attribute: Mapping[str, Any]) -> str | bytes:
    """Return the value of an attribute."""
    found: str | bytes = attribute.get("StringValue", attribute.get("BinaryValue", ""))
    return found
