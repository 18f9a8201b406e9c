"""How a frontend learns what became of its items."""

from collections.abc import Callable
from typing import Any

from m3._tokens import Ledger

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
        confirm: blocks until what was settled before is durable; returns why it is not;
            None if nothing has to be.
        fail: called with what they raise; the further answers are given all the same.
    """

    def __init__(
        self,
        frontend: Any,
        ledger: Ledger,
        *,
        confirm: Callable[[], Exception | None] | None,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.ledger = ledger
        self._confirm = confirm or (lambda: None)
        self._ack: Callable[[Any], object] = getattr(frontend, "ack", _ignore)
        self._nack: Callable[[Any, BaseException], object] = getattr(frontend, "nack", _ignore)
        self._ack_batch: Callable[[list[Any]], object] | None = getattr(frontend, "ack_batch", None)
        self._keep: Callable[[Any, BaseException], object] | None
        self._keep = getattr(frontend, "dead_lettered", None)
        self._fail = fail
        if confirm is None and getattr(frontend, "acks_anywhere", False):
            ledger.acknowledge_at_once(self._ack, fail)

    def give(self) -> None:
        """Give answers until :meth:`close`; the body of a thread."""
        while self.ledger.take_answers(AT_ONCE):
            self.ledger.give_answers(
                self._ack,
                self._nack,
                self._fail,
                self._confirm(),
                ack_batch=self._ack_batch,
                keep=self._keep,
            )

    def give_rest(self, error: BaseException | None) -> None:
        """Give the answers that are left; the last act of that thread."""
        if error is not None:
            self._fail(error)
        self.give()

    def close(self) -> None:
        """Wait until all answers were given, and let the thread end."""
        self.ledger.await_answers()
        self.ledger.answers.shutdown()


def _ignore(*_: Any) -> None:
    """Take no note of an answer."""
