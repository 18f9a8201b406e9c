"""An engine run under signals."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from m3._queue import BoundedQueue
from m3.cli.console import Console
from m3.errors import EngineStateError

__all__ = ("Outcome", "Supervisor")


LAST = 2
"""After so many signals, one more ends the process at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a run ended.

    Attributes:
        error: what :meth:`~m3.engine.Engine.start` raised.
        signal: the signal that asked for the end.
    """

    error: BaseException | None
    signal: int | None


class Standing(Protocol):
    """How a run stands."""

    @property
    def in_flight(self) -> int:
        """How many items are under way."""


class Running(Protocol):
    """What a supervisor runs: an engine, or services."""

    def start(self) -> object:
        """Run; block until the end."""

    def request_stop(self) -> object:
        """Begin to stop, and return at once."""

    def abandon(self) -> object:
        """Give up what is queued, and return at once."""

    def report(self) -> Standing:
        """Return how it stands."""


class Supervisor:
    """
    Runs an engine in a thread of its own; the main thread answers signals.

    SIGINT or SIGTERM stops the engine, which then finishes what it has.  SIGINT
    after that abandons the queues, and one more ends the process at once.
    SIGTERM after the first signal changes nothing.

    The handlers only count and put the signal's number into a queue, whose
    ``put`` may interrupt anything.  They are installed even if the signals were
    ignored when the process began, as shells make it for jobs in the
    background: a signal that is sent to such a job is meant.

    Args:
        engine: what to run.
        console: where to say what happens.
        stop_timeout: seconds that a stop takes at most.
    """

    def __init__(self, engine: Running, console: Console, *, stop_timeout: float) -> None:
        self._engine = engine
        self._stop_timeout = stop_timeout
        self._console = console
        self._events: BoundedQueue[int | None] = BoundedQueue()
        self._noted: list[int] = []
        self._is_stopping = False
        self._error: BaseException | None = None

    def run(self) -> Outcome:
        """
        Run the engine; block until it has ended or a deadline has passed.

        Must be called in the main thread.
        """
        with self._handlers():
            threading.Thread(target=self._run_engine, name="m3-run", daemon=True).start()
            while (number := self._events.get()) is not None:
                self._answer(number)
        return Outcome(self._error, self._noted[0] if self._noted else None)

    def _run_engine(self) -> None:
        try:
            self._engine.start()
        except BaseException as error:
            self._error = error
        finally:
            self._events.put(None)

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM and self._noted:
            return
        if len(self._noted) == LAST:
            os._exit(128 + number)
        self._noted.append(number)
        self._events.put(number)

    def _answer(self, number: int) -> None:
        is_first = not self._is_stopping
        self._is_stopping = True
        try:
            if is_first:
                self._engine.request_stop()
            else:
                self._engine.abandon()
        except EngineStateError:  # it is about to be started
            self._events.put(None)
        self._tell(signal.Signals(number).name, is_first=is_first)

    def _tell(self, name: str, *, is_first: bool) -> None:
        count = self._engine.report().in_flight
        if is_first:
            text = (
                f"stopping; {count} items in flight will be finished, within "
                f"{self._stop_timeout:g} s; Ctrl-C again to abandon the queues"
            )
        else:
            text = f"abandoning the queues, {count} items in flight; Ctrl-C again to end at once"
        self._console.say(f"{name}: {text}", in_flight=count)
