"""What a clerk is asked to do with the database."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from m3.messaging._sqlite.database import Database
from m3.messaging._sqlite.messages import FullError

__all__ = ("Job",)


@dataclass(slots=True, eq=False)
class Job:
    """
    One thing to do, in a transaction with others.

    Attributes:
        function: does it; of what it raises, it must have written nothing before.
        is_durable: whether it has to outlive a loss of power when it is told to be done.
        is_lasting: whether it is tried again until it succeeds, whoever waits for that or not.
        committed: called with the result when that is committed, before anybody is told.
        future: told the result when it is committed.
        is_taken: whether it is being done at the moment.
        is_cancelled: whether nobody wants it any more.
        hindrance: the queue that has no room for its message, if that is why it waits.
    """

    function: Callable[[Database], Any]
    is_durable: bool = False
    is_lasting: bool = False
    committed: Callable[[Any], object] | None = None
    future: "Future[Any]" = field(default_factory=Future)
    is_taken: bool = False
    is_cancelled: bool = False
    hindrance: str | None = None
    _result: Any = None
    _error: Exception | None = None

    def attempt(self, database: Database) -> None:
        """Do it, within a transaction that may fail yet."""
        self._error = self.hindrance = None
        try:
            self._result = self.function(database)
        except FullError as full:
            (self.hindrance,) = full.args
        except sqlite3.Error:
            raise
        except Exception as error:
            self._error = error

    def tell(self) -> None:
        """Tell who waits for it, when the transaction was committed."""
        if self._error is not None:
            self.future.set_exception(self._error)
            return
        if self.committed is not None:
            self.committed(self._result)
        self.future.set_result(self._result)

    def fail(self, error: Exception) -> None:
        """Tell who waits for it that it was not done, unless it was."""
        if not self.future.done():
            self.future.set_exception(error)
