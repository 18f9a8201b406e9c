"""
One queue of the bus in memory; its broker's lock is held in all of this.

A signal's handler may raise when a function begins, and when a compiled one has returned.
So a message that moves is in its new place before the call that takes it from the old one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from time import monotonic
from typing import Protocol

from m3._parking import Bell
from m3.messaging.entities import Message, Queue

__all__ = ("Entry", "Shelf", "Waiter")


class Waiter(Protocol):
    """A consumer that waits for messages."""

    def called(self) -> Bell:
        """Leave all queues in which it is waiting; return what wakes it."""

    def served(self) -> Callable[[], object]:
        """Take a message, or be called; return what is to be done without the broker's lock."""

    def look_again(self) -> None:
        """Give back what it has taken and nobody was given, and be woken."""


@dataclass(slots=True, eq=False)
class Entry:
    """
    A message in a queue, or delivered from it and not settled.

    Attributes:
        number: the place in its queue: those that were published later have larger ones.
        message: what was published.
        shelf: the queue.
        expires: when it is of no use any more, by the monotonic clock; None for never.
        attempts: how often it was delivered.
        is_out: whether somebody was given it.
        is_put_off: whether it comes back to the queue later.
    """

    number: int
    message: Message
    shelf: "Shelf"
    expires: float | None
    attempts: int = 0
    is_out: bool = False
    is_put_off: bool = False


class Shelf:
    """
    The messages of one queue, in order.

    What comes back is before everything that was never delivered, in its own
    order: so there are two parts, and neither is ever sorted.

    Attributes:
        spec: how the queue was declared.
        waiters: the consumers that wait for its messages, longest first.
        consumers: those that it has.
        hear: takes each message at once, if there is a listener.
        most: how many messages may wait in it; None for any number.
        alarm: when its broker looks for expired messages next; None if it does not.
    """

    def __init__(self, spec: Queue) -> None:
        self.spec = spec
        self.waiters: dict[Waiter, None] = {}
        self.consumers: set[object] = set()
        self.hear: Callable[[Message], object] | None = None
        self.most = spec.max_length
        self.is_deleted = False
        self.alarm: float | None = None
        self._returned: list[tuple[int, Entry]] = []
        self._fresh: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._returned) + len(self._fresh)

    @property
    def is_full(self) -> bool:
        """Whether publishers have to wait."""
        return self.most is not None and len(self) >= self.most

    def head(self) -> Entry | None:
        """Return what is first, and leave it there."""
        if self._returned:
            return self._returned[0][1]
        return self._fresh[0] if self._fresh else None

    def move_first(self, to: dict[object, Entry], tag: object) -> Entry:
        """Take what is first, to deliver it, and have it in *to*."""
        entry = to[tag] = self._returned[0][1] if self._returned else self._fresh[0]
        entry.attempts += 1
        if self._returned:
            heappop(self._returned)
        else:
            self._fresh.popleft()
        return entry

    def move_back(self, unsettled: dict[object, Entry], tag: object) -> None:
        """Put a message of *unsettled* where it was, unless it comes back by itself."""
        entry = unsettled[tag]
        entry.is_out = False
        del unsettled[tag]
        if not (entry.is_put_off or self.is_deleted):
            heappush(self._returned, (entry.number, entry))

    def append(self, entry: Entry) -> None:
        """Put a new message behind all others."""
        self._fresh.append(entry)

    def serve_one(self) -> Callable[[], object]:
        """Return what the consumer that has waited longest gets a message by, without the lock."""
        return next(iter(self.waiters)).served()

    def put_back(self, entry: Entry) -> None:
        """Put a message where it was that was put off."""
        if entry.is_put_off:
            entry.is_put_off = False
            if not self.is_deleted:
                heappush(self._returned, (entry.number, entry))

    def wake_one(self) -> None:
        """Wake the consumer that has waited longest, if there is a message."""
        if self.waiters and (self._fresh or self._returned):
            next(iter(self.waiters)).called().ring()

    def clear(self) -> None:
        """Discard all messages."""
        self._returned.clear()
        self._fresh.clear()

    def expired(self) -> Entry | None:
        """Return what is first if it has expired; what stands behind a longer life waits for it."""
        head = self.head()
        is_over = head is not None and head.expires is not None and head.expires <= monotonic()
        return head if is_over else None
