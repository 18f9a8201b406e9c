"""How a frontend learns what became of its items."""

from collections.abc import Callable
from typing import Any

from m3._tokens import DELIVERED, DROPPED, Ledger
from m3.errors import AbandonedError, ShutDown

__all__ = ("MOST_UNANSWERED", "Answers")

MOST_UNANSWERED = 65_536
"""So many items of a frontend may be on their way or wait for its answer; then it waits, too."""

AT_ONCE = 256


class Answers:
    """
    Calls the ``ack`` and ``nack`` of one frontend, for each of its items once.

    Args:
        frontend: an instance that has one of the two.
        ledger: of its items.
        confirm: blocks until what was settled before is durable; returns why it is not.
        fail: called with what they raise; the further answers are given all the same.
    """

    def __init__(
        self,
        frontend: Any,
        ledger: Ledger,
        *,
        confirm: Callable[[], Exception | None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.ledger = ledger
        self._confirm = confirm
        self._ack: Callable[[Any], object] = getattr(frontend, "ack", _ignore)
        self._nack: Callable[[Any, BaseException], object] = getattr(frontend, "nack", _ignore)
        self._fail = fail

    def give(self) -> None:
        """Give answers until :meth:`close`; the body of a thread."""
        while True:
            try:
                answers = self.ledger.answers.get_many(AT_ONCE)
            except ShutDown:
                return
            problem = self._confirm()
            for position, outcome, error in answers:
                try:
                    if outcome == DELIVERED and problem is None:
                        self._ack(position)
                    else:
                        self._answer(position, outcome, error, problem)
                except BaseException as raised:
                    self._fail(raised)
            self.ledger.answered(len(answers))

    def close(self) -> None:
        """Wait until all answers were given, and let the thread end."""
        self.ledger.await_answers()
        self.ledger.answers.shutdown()

    def _answer(
        self,
        position: Any,
        outcome: int,
        error: BaseException | None,
        problem: Exception | None,
    ) -> None:
        if outcome == DROPPED:
            self._ack(position)
            return
        why = error or problem or AbandonedError("the run ended before it was delivered")
        self._nack(position, why)


def _ignore(*_: Any) -> None:
    """Take no note of an answer."""
