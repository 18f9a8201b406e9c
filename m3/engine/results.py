"""The results of a pipeline without a backend, for its caller to iterate over."""

from typing import TYPE_CHECKING, Any, Self

from m3._loops import deliver, take
from m3._queue import BoundedQueue
from m3._tokens import SharedTally
from m3.errors import ShutDown

if TYPE_CHECKING:
    from m3.engine.engine import Engine

__all__ = ("Results",)


class Results:
    """
    An iterator over results, which are delivered when they are taken.

    Several threads may take them, each result once.

    Use it as a context manager: leaving the block early stops the pipeline,
    and what was not taken is abandoned.  At the end of the results, and of
    the block, a failure of the run is raised.  Without a block, the pipeline is
    abandoned when nobody refers to the results any more.
    """

    def __init__(self, engine: "Engine", queue: BoundedQueue[Any]) -> None:
        self.engine = engine
        self._queue = queue
        self._tally = SharedTally()
        engine.books.count_in(self._tally)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            item, token, _ = take(self._queue)
        except ShutDown:
            self.engine.all_taken()
            self.engine.wait()
            raise StopIteration from None
        deliver(token, self._tally)
        return item

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
