"""How a frontend learns what became of its items."""

from collections.abc import Callable
from typing import Any

from m3._tokens import DELIVERED, DROPPED, Ledger
from m3.errors import AbandonedError, ShutDown
from m3.stages import Frontend

__all__ = ("Answers", "wants_answers")

MOST_UNANSWERED = 65_536
"""So many items of a frontend may be on their way or wait for its answer; then it waits, too."""

AT_ONCE = 256


def wants_answers(frontend: Any) -> bool:
    """Return whether *frontend* has an ``ack`` or ``nack`` of its own."""
    if isinstance(frontend, Frontend):
        kind = type(frontend)
        return kind.ack is not Frontend.ack or kind.nack is not Frontend.nack
    return callable(getattr(frontend, "ack", None)) or callable(getattr(frontend, "nack", None))


class Answers:
    """
    Calls the ``ack`` and ``nack`` of one frontend, for each of its items once.

    Args:
        frontend: an instance that :func:`wants_answers`.
        fail: called with what they raise; the further answers are given all the same.
    """

    def __init__(self, frontend: Any, *, fail: Callable[[BaseException], None]) -> None:
        self.ledger = Ledger(MOST_UNANSWERED)
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
            for position, outcome, error in answers:
                try:
                    self._answer(position, outcome, error)
                except BaseException as raised:
                    self._fail(raised)
                finally:
                    self.ledger.answered()

    def close(self) -> None:
        """Wait until all answers were given, and let the thread end."""
        self.ledger.await_answers()
        self.ledger.answers.shutdown()

    def _answer(self, position: Any, outcome: int, error: BaseException | None) -> None:
        if outcome in (DELIVERED, DROPPED):
            self._ack(position)
        else:
            self._nack(position, error or AbandonedError("the run ended before it was delivered"))


def _ignore(*_: Any) -> None:
    """Take no note of an answer."""
