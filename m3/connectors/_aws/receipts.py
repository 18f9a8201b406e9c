"""
Messages of a queue that are being worked on: kept from others until they are done.

SQS shows a message to nobody else for its visibility timeout.  A thread of its own
renews that after a third of the time, for all messages that are held, so that there
is time for another attempt.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from m3.connectors._aws.batches import Entry, Refusal, calls_of, refusals, send_all
from m3.errors import describe

__all__ = ("LONGEST", "MOST", "Queue", "Receipt", "Receipts")

MOST = 10
"""How many messages a call may be about (SQS developer guide, Message quotas)."""

LONGEST = 43_200
"""Seconds after its receipt until which a message can be held (the same): 12 hours."""

GONE = ("ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight")
"""Codes that say that a message is held no more."""

log = logging.getLogger("m3.connectors.sqs")


class Receipt(NamedTuple):
    """Where a message came from, and by what it is deleted."""

    message: str
    """Its id."""
    number: int
    """How often it was received."""
    handle: str
    """By this receipt it is known to the queue."""


class Held(NamedTuple):
    """A message that is held."""

    receipt: Receipt
    due: float
    """When to renew that, on the monotonic clock."""
    until: float
    """When to renew it no more."""


class Queue:
    """
    The calls about receipts of a queue.

    Args:
        client: of SQS.
        url: of the queue.
    """

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.url = url

    def delete(self, receipts: Iterable[Receipt]) -> dict[int, Exception]:
        """Delete messages; return why one was not, by its index."""
        return self._each(self.client.delete_message_batch, receipts, {})

    def hold(self, receipts: Iterable[Receipt], seconds: int) -> dict[int, Exception]:
        """Hide messages for so many seconds from now; return why one was not, by its index."""
        extra = {"VisibilityTimeout": seconds}
        return self._each(self.client.change_message_visibility_batch, receipts, extra)

    def _each(
        self, call: Callable[..., Any], receipts: Iterable[Receipt], extra: Mapping[str, Any]
    ) -> dict[int, Exception]:
        def send(handles: list[str]) -> dict[int, Refusal]:
            entries = [
                {"Id": str(index), "ReceiptHandle": handle, **extra}
                for index, handle in enumerate(handles)
            ]
            return refusals(call(QueueUrl=self.url, Entries=entries))

        entries = [Entry(place, receipt.handle) for place, receipt in enumerate(receipts)]
        return send_all(send, calls_of(entries, MOST, 1))


class Receipts:
    """
    The messages that are held.

    Args:
        queue: where they come from.
        visibility: for how many seconds at a time they are held.
        longest: for how many seconds in all.
    """

    def __init__(self, queue: Queue, *, visibility: int, longest: float) -> None:
        self._queue = queue
        self._visibility = visibility
        self._longest = longest
        self._held: dict[str, Held] = {}
        self._renewing: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._live, name="m3-sqs-visibility", daemon=True)

    def open(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def add(self, receipts: Iterable[Receipt]) -> None:
        """Hold messages that were just received."""
        now = time.monotonic()
        with self._changed:
            for each in receipts:
                self._held[each.handle] = Held(each, self._next(now), now + self._longest)
            self._changed.notify_all()

    def forget(self, receipts: Iterable[Receipt]) -> None:
        """Hold messages no more; the visibility that they have ends when it does."""
        with self._changed:
            for each in receipts:
                self._held.pop(each.handle, None)

    def put_off(self, receipt: Receipt, seconds: int) -> None:
        """
        Hold a message no more, and have it come again after so many seconds.

        Blocks while it is being renewed, which would otherwise outlast that.
        """
        self.forget([receipt])
        with self._changed:
            self._changed.wait_for(lambda: receipt.handle not in self._renewing)
        self.note_lost([receipt], self._queue.hold([receipt], seconds))

    def note_lost(self, receipts: Sequence[Receipt], errors: Mapping[int, Exception]) -> None:
        """
        Take note of what a call could not do: of messages that come again, in the log.

        Raises:
            Exception: one of *errors* that is about anything else.
        """
        for place, error in errors.items():
            if getattr(error, "code", "") not in GONE:
                raise error
            log.warning(
                "message %s comes again, it was held no more when it was done: %s",
                receipts[place].message,
                describe(error),
            )

    def close(self) -> None:
        """End the thread, and let others have the messages that are still held."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join()
        left = [each.receipt for each in self._held.values()]
        self._held.clear()
        for error in set(map(describe, self._queue.hold(left, 0).values())):
            log.warning("messages were not given back, and come again later: %s", error)

    def _next(self, now: float) -> float:
        return now + self._visibility / 3

    def _live(self) -> None:
        while due := self._await_due():
            errors = self._renewed(due)
            for place, error in errors.items():
                self._note(due[place], error)

    def _await_due(self) -> list[Receipt]:
        """Block until messages are to be renewed, and return these; none at the end."""
        with self._changed:
            while not self._is_over:
                now = time.monotonic()
                due = self._postponed(now)
                if due:
                    self._renewing = frozenset(each.handle for each in due)
                    return due
                first = min((each.due for each in self._held.values()), default=None)
                self._changed.wait(None if first is None else first - now)
        return []

    def _postponed(self, now: float) -> list[Receipt]:
        """Return what is to be renewed now, and have it be due again later."""
        due = [each for each in self._held.values() if each.due <= now]
        for each in due:
            self._held[each.receipt.handle] = each._replace(due=self._next(now))
        for late in [each.receipt for each in due if each.until <= now]:
            del self._held[late.handle]
            log.warning(
                "message %s was worked on for %g s and is held no longer: it may come twice",
                late.message,
                self._longest,
            )
        return [each.receipt for each in due if each.until > now]

    def _renewed(self, receipts: list[Receipt]) -> dict[int, Exception]:
        try:
            return self._queue.hold(receipts, self._visibility)
        except Exception as error:  # whatever it is, the others are to be renewed in time
            return dict.fromkeys(range(len(receipts)), error)
        finally:
            with self._changed:
                self._renewing = frozenset()
                self._changed.notify_all()

    def _note(self, receipt: Receipt, error: Exception) -> None:
        """Say that a message may come twice, unless it is done meanwhile."""
        with self._changed:
            if receipt.handle not in self._held:
                return
            if getattr(error, "code", "") in GONE:
                del self._held[receipt.handle]
        log.warning(
            "message %s may come twice, it could not be held: %s", receipt.message, describe(error)
        )
