"""Everything that counts the items of a run, in one place."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from m3._tokens import Tally

if TYPE_CHECKING:
    from m3.engine.workers import Worker

__all__ = ("OUTCOMES", "Books", "outcomes_of")

OUTCOMES = ("delivered", "dropped", "dead_lettered", "failed", "abandoned")


class Books:
    """
    The tallies of a run.

    Args:
        workers: those of the run; more may be added later.

    Attributes:
        leftovers: counts what no worker has taken when the run is over.
    """

    def __init__(self, workers: Sequence["Worker"]) -> None:
        self.leftovers = Tally()
        self._others = [self.leftovers]
        self._workers = workers

    def count_in(self, tally: Tally) -> None:
        """Add a tally that is kept outside of the workers."""
        self._others.append(tally)

    def counts(self) -> dict[str, int]:
        """Return how many items were produced, and what became of them so far."""
        every = list(self._tallies())
        # In this order, so that no item is seen at its end and not at its beginning.
        ended = outcomes_of(every)
        return {"produced": sum(tally.produced for tally in every), **ended}

    def ended(self) -> dict[str, int]:
        """Return what became of the items that have ended so far, without those under way."""
        return outcomes_of(list(self._tallies()))

    def in_flight(self) -> int:
        """Return how many items have neither ended nor are held; exact while the gate is closed."""
        return sum(tally.in_flight for tally in self._tallies())

    def _tallies(self) -> Iterable[Tally]:
        yield from self._others
        for worker in self._workers:
            yield from worker.work.tallies


def outcomes_of(tallies: Sequence[Tally]) -> dict[str, int]:
    """Return how many items ended in which way, by all of *tallies*."""
    return {name: sum(getattr(tally, name) for tally in tallies) for name in OUTCOMES}
