"""
Items to calls that take several at once, and may fail for some of them.

What a service refuses for now (it is throttled, or has failed inside) is sent
again after a pause; what it refuses for good is an error of its item.  Calls that
fail as a whole have been repeated by the client already.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from m3.aws.limiter import THROTTLED
from m3.aws.region import code_of
from m3.connectors._aws.client import client_of
from m3.errors import BatchError, RefusedError
from m3.policies import Backoff, Batch
from m3.stages import Backend

__all__ = (
    "ATTEMPTS",
    "PAUSES",
    "UNPROCESSED",
    "BatchedBackend",
    "Entry",
    "Refusal",
    "calls_of",
    "refusals",
    "send_all",
)

ATTEMPTS = 8
"""How often an entry is sent at most."""

PAUSES = Backoff(initial=0.1, maximum=5.0)
"""The pauses between them: exponential with full jitter, as AWS asks for; 13 s in the mean."""


UNPROCESSED = "Unprocessed"
"""The code of an entry of which a service says only that it has not got to it."""

SLOWED = THROTTLED | {UNPROCESSED}
"""Codes of what comes too fast, also for the attempts that the client itself makes."""


class Entry(NamedTuple):
    """A part of a call."""

    place: int
    """The index of its item in the batch."""
    content: Any
    """What the call takes."""
    size: int = 0
    """How many bytes of the call's limit it needs."""


class Refusal(NamedTuple):
    """Why a service has not taken an entry."""

    code: str
    message: str
    is_passing: bool
    """Whether another attempt may do."""

    def error(self) -> RefusedError:
        """Return it as the error of an item."""
        return RefusedError(self.code, self.message)


def refusals(response: Mapping[str, Any]) -> dict[int, Refusal]:
    """Return what a batch call of SQS or SNS has refused, by the index that is its entry's id."""
    return {
        int(each["Id"]): Refusal(
            each["Code"], each.get("Message", ""), is_passing=not each["SenderFault"]
        )
        for each in response.get("Failed", ())
    }


Send = Callable[[list[Any]], Mapping[int, Refusal]]
"""Makes one call of some contents; returns what was refused, by its index among them."""


class BatchedBackend(Backend[Any]):
    """What the backends have in common whose service takes several items in one call."""

    batch: ClassVar[Batch | None] = Batch(count=100)
    """What is waiting, without waiting for more."""

    most_entries: ClassVar[int]
    """How many entries a call may have."""

    most_bytes: ClassVar[int]
    """How many bytes a call may have."""

    largest: ClassVar[int]
    """How many bytes an entry may have."""

    item_codes: ClassVar[frozenset[str]] = frozenset()
    """Codes of errors by which a whole call fails because of one entry."""

    pauses: ClassVar[Backoff] = PAUSES
    """How long to wait before what was refused for now is sent again."""

    def connect(self, pool: Any, region: str | None) -> None:
        """Take the client of a region; None for the default of *pool*."""
        self._pool = pool
        self._client = client_of(pool, region)

    def entry(self, item: Any) -> tuple[Any, int]:
        """Return what is sent of *item*, and its size; raise if it cannot be sent."""
        raise NotImplementedError

    def send(self, contents: list[Any]) -> Mapping[int, Refusal]:
        """Make one call; see :data:`Send`."""
        raise NotImplementedError

    def merged(self, entries: list[Entry]) -> tuple[list[Entry], dict[int, int]]:
        """Return the entries to send, and for the place of each other one that of its successor."""
        return entries, {}

    def process_batch(self, items: list[Any]) -> None:
        """
        Send *items*; blocks until the service has taken them, or has refused them often enough.

        Raises:
            BatchError: some of them were not taken.
        """
        errors: dict[int, Exception] = {}
        entries, replaced = self.merged(list(self._entries(items, errors)))
        calls = calls_of(entries, self.most_entries, self.most_bytes)
        errors |= send_all(self._send, calls, self.pauses)
        for place, successor in replaced.items():
            if successor in errors:
                errors[place] = errors[successor]
        if errors:
            raise BatchError(dict(sorted(errors.items())))

    def _entries(self, items: list[Any], errors: dict[int, Exception]) -> Iterator[Entry]:
        for place, item in enumerate(items):
            try:
                content, size = self.entry(item)
                if size > self.largest:
                    raise ValueError(  # noqa: TRY301
                        f"the item has {size:,} bytes with its names, and the service takes "
                        f"{self.largest:,} at most"
                    )
            except Exception as error:
                errors[place] = error
            else:
                yield Entry(place, content, size)

    def _send(self, contents: list[Any]) -> Mapping[int, Refusal]:
        """Make one call, also where all of it fails because of one entry."""
        try:
            refused = self.send(contents)
        except Exception as error:
            return self._refused(contents, error)
        if any(each.code in SLOWED for each in refused.values()):
            self._pool.limiter(self._client.meta.region_name).slow_down()
        return refused

    def _refused(self, contents: list[Any], error: Exception) -> Mapping[int, Refusal]:
        """Return what of a call that failed is refused, halving it to find that; or raise."""
        code = code_of(error)
        if code in THROTTLED:
            refusal = Refusal(code, str(error), is_passing=True)
            return dict.fromkeys(range(len(contents)), refusal)
        if code not in self.item_codes:
            raise error
        if len(contents) == 1:
            return {0: Refusal(code, str(error), is_passing=False)}
        middle = len(contents) // 2
        before, behind = self._send(contents[:middle]), self._send(contents[middle:])
        return {**before} | {middle + index: refusal for index, refusal in behind.items()}


def calls_of(entries: Iterable[Entry], count: int, size: int) -> Iterator[list[Entry]]:
    """Yield *entries* in lists of at most so many, and so many bytes, in their order."""
    call: list[Entry] = []
    room = size
    for entry in entries:
        if call and (len(call) == count or entry.size > room):
            yield call
            call, room = [], size
        call.append(entry)
        room -= entry.size
    if call:
        yield call


def send_all(
    send: Send, calls: Iterable[Sequence[Entry]], pauses: Backoff = PAUSES
) -> dict[int, Exception]:
    """
    Make all *calls*, one after the other; return what could not be sent, by its place.

    When one call fails as a whole, no further one is made.
    """
    errors: dict[int, Exception] = {}
    failure: Exception | None = None
    for call in calls:
        if failure is None:
            refused, failure = _sent(send, call, pauses)
        else:
            refused = dict.fromkeys((entry.place for entry in call), failure)
        errors |= refused
    return errors


def _sent(
    send: Send, call: Sequence[Entry], pauses: Backoff
) -> tuple[dict[int, Exception], Exception | None]:
    """Make one call, and again with what is refused for now; return what was not taken."""
    errors: dict[int, Exception] = {}
    waiting = list(call)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            refused = send([entry.content for entry in waiting])
        except Exception as error:
            return errors | dict.fromkeys((entry.place for entry in waiting), error), error
        again = [waiting[index] for index in sorted(refused) if refused[index].is_passing]
        for index, refusal in refused.items():
            if attempt == ATTEMPTS or not refusal.is_passing:
                errors[waiting[index].place] = refusal.error()
        waiting = again
        if not waiting or attempt == ATTEMPTS:
            break
        time.sleep(pauses.delay_after(attempt))
    return errors, None
