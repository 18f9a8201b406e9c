"""A source and a sink in memory, which remember what they were asked and told."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from m3.errors import StateError, abridged
from m3.stages import Backend, Frontend, Item

__all__ = ("MemorySink", "MemorySource")


class MemorySource(Frontend[Any]):
    """
    Gives the items of a list; the position of each is its index.

    Give an instance to the pipeline.  It serves any number of runs, one after
    the other: one with state goes on behind the checkpoint, one without begins
    at the start.

    Args:
        items: the items.

    Attributes:
        items: those that it gives; more can be appended between two runs.
        resumed: what ``resume`` was called with, call by call.
        acked: the positions of the items that are done, in the order of the answers.
        nacked: the positions of the others, each with its error, likewise.
    """

    max_workers: ClassVar[int | None] = 1

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)
        self.resumed: list[int | None] = []
        self.acked: list[int] = []
        self.nacked: list[tuple[int, Exception]] = []
        self._first = 0

    def setup(self) -> None:
        """Begin at the start."""
        self._first = 0

    def resume(self, checkpoint: Any) -> None:
        """
        Begin behind the item at the index *checkpoint*.

        Raises:
            StateError: there is no such item.
        """
        self.resumed.append(checkpoint)
        if checkpoint is not None and checkpoint not in range(len(self.items)):
            raise StateError(
                f"there is no item at {abridged(checkpoint)}; the source has {len(self.items)}"
            )
        self._first = 0 if checkpoint is None else checkpoint + 1

    def produce(self) -> Iterator[Item]:
        """Yield the items."""
        for position in range(self._first, len(self.items)):
            yield Item(self.items[position], position)

    def ack(self, position: Any) -> None:
        """Remember that the item is done."""
        self.acked.append(position)

    def nack(self, position: Any, error: Exception) -> None:
        """Remember that the item was not delivered."""
        self.nacked.append((position, error))


class MemorySink(Backend[Any]):
    """
    Collects the items in a list, and goes back.

    Give an instance to the pipeline.  What it has collected outlives the runs,
    as a file would: a later run with state undoes what came after the checkpoint.
    With :func:`faulty` it fails on chosen items.

    Attributes:
        items: what was delivered.
        commits: how many items there were at each ``commit``.
        resumed: what ``resume`` was called with, call by call.
    """

    max_workers: ClassVar[int | None] = 1

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.commits: list[int] = []
        self.resumed: list[int | None] = []

    def process(self, data: Any) -> None:
        """Collect *data*."""
        self.items.append(data)

    def commit(self) -> int:
        """Return how many items there are."""
        self.commits.append(len(self.items))
        return len(self.items)

    def resume(self, mark: Any) -> None:
        """
        Forget all items but the first *mark*.

        Raises:
            StateError: there are fewer.
        """
        self.resumed.append(mark)
        if mark is not None and mark > len(self.items):
            raise StateError(f"{mark} items were committed, and the sink has {len(self.items)}")
        del self.items[mark or 0 :]
