"""The results of a pipeline without a backend, for its caller to iterate over."""

from typing import TYPE_CHECKING, Any, Self

from m3._loops import Taker
from m3._queue import BoundedQueue
from m3._tokens import SharedTally

if TYPE_CHECKING:
    from m3.engine.engine import Engine

__all__ = ("Results",)


class Results(Taker):
    """
    An iterator over results, which are delivered when they are taken.

    Several threads may take them, each result once.

    Use it as a context manager: leaving the block early stops the pipeline,
    and what was not taken is abandoned.  At the end of the results, and of
    the block, a failure of the run is raised.  Without a block, the pipeline is
    abandoned when nobody refers to the results any more.
    """

    def __init__(self, engine: "Engine", queue: BoundedQueue[Any]) -> None:
        tally = SharedTally()
        super().__init__(queue, tally)
        self.engine = engine
        engine.books.count_in(tally)

    def end(self) -> None:
        """Wait for the end of the run, and raise what it has failed with."""
        self.engine.all_taken()
        self.engine.wait()

    def close(self) -> None:
        """Stop the pipeline; results that were not taken are abandoned."""
        if not self.engine.stopped():
            self.engine.give_back()
            self.engine.stop()

    def __del__(self) -> None:
        if not self.engine.stopped():
            self.engine.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        was_running = not self.engine.stopped()
        self.close()
        if kind is None and was_running:
            self.engine.raise_failures()
