"""A source that waits for its checkpoints, so that a run has some at known places."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from m3.engine.delivery import resumes
from m3.stages import Frontend
from m3.testing._around import nothing
from m3.testing._driving import produced

__all__ = ("Paced",)

GROUP = 2
"""So many items are on their way at most; behind them is a checkpoint."""


class Paced(Frontend[Any]):
    """
    Passes on what another frontend produces, a few items at a time.

    After every few items it waits until all of them were answered, which is after
    the checkpoint that has them was written.

    Args:
        source: the other frontend.
        before: called before each item.
        acked: called with the value of each item that is done.
    """

    max_workers: ClassVar[int | None] = 1

    def __init__(
        self,
        source: Frontend[Any],
        *,
        before: Callable[[], object] = nothing,
        acked: Callable[[Any], object] = nothing,
    ) -> None:
        self.source = source
        self.can_resume = resumes(source)
        self._before = before
        self._acked = acked
        self._turn = threading.Condition()
        self._open: list[tuple[Any, Any]] = []
        self._is_stopping = False

    def setup(self) -> None:
        """Set the other up."""
        self.source.wants_positions = True
        self.source.setup()

    def produce(self) -> Iterator[Any]:
        """Yield what the other produces."""
        for number, thing in enumerate(produced(self.source)):
            if number % GROUP == 0:
                self._await_answers()
            self._before()
            with self._turn:
                self._open.append((thing.position, thing.value))
            yield thing

    def stop(self) -> None:
        """Wait for no more answers, and stop the other."""
        with self._turn:
            self._is_stopping = True
            self._turn.notify_all()
        self.source.stop()

    def ack(self, position: Any) -> None:
        """Tell the other."""
        self.source.ack(position)
        self._answered(position, self._acked)

    def nack(self, position: Any, error: Exception) -> None:
        """Tell the other."""
        self.source.nack(position, error)
        self._answered(position, nothing)

    def checkpoint(self, position: Any) -> Any:
        """Return that of the other."""
        return self.source.checkpoint(position)

    def resume(self, checkpoint: Any) -> None:
        """Have the other go on."""
        self.source.resume(checkpoint)

    def cleanup(self) -> None:
        """Clean the other up."""
        self.source.failed = self.failed
        self.source.cleanup()

    def _await_answers(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: not self._open or self._is_stopping)

    def _answered(self, position: Any, tell: Callable[[Any], object]) -> None:
        with self._turn:
            index = [each for each, _ in self._open].index(position)
            _, value = self._open.pop(index)
            tell(value)
            self._turn.notify_all()
