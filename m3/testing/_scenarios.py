"""The ways in which a run can end, all of which a stage has to survive."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from m3.engine.report import Report
from m3.errors import PipelineError, StageError
from m3.pipeline import Pipeline
from m3.stages import Backend, Transport
from m3.testing._checks import what_is_open

__all__ = ("ENDINGS", "Broken", "Interruption", "check_nothing_is_left", "run_to")

ENDINGS = ("end", "stop", "abandon", "fail", "setup")
"""The end of the input, a stop, the queues given up, a failed stage, a setup that raises."""


class Interruption(Exception):
    """Raised by the batteries, as a stage that fails."""


class Broken(Backend[Any]):
    """Cannot be set up."""

    def setup(self) -> None:
        """Raise."""
        raise Interruption("this backend cannot be set up")

    def process(self, data: Any) -> None:
        """Do nothing."""


class Interrupter(Transport[Any, Any]):
    """Passes items on; ends the run, in the way that it is told to, at the item number *at*."""

    def __init__(self, ending: str, at: int) -> None:
        self._ending = ending
        self._at = at
        self._number = count()
        self.end: dict[str, Callable[[], object]] = {"fail": self._fail}

    def transport(self, data: Any) -> Any:
        """Return *data*."""
        if next(self._number) == self._at and self._ending in self.end:
            self.end[self._ending]()
        return data

    def _fail(self) -> None:
        raise Interruption(f"item number {self._at}, on purpose")


def run_to(
    ending: str, source: Any, sink: Any, *, at: int, patience: float, **options: Any
) -> Report:
    """
    Run a pipeline that ends in one of the :data:`ENDINGS`; return its report.

    Args:
        ending: which one.
        source: the frontend.
        sink: the backend.
        at: at the item with this number, from 0.
        patience: seconds that it may take.
        options: of the pipeline.
    """
    interrupter = Interrupter(ending, at)
    pipeline = Pipeline(source, **options)
    pipeline.transport(interrupter, queue_size=1).backend(sink, name="sink", queue_size=1)
    if ending == "setup":
        pipeline.backend(Broken)
    engine = pipeline.engine()
    interrupter.end |= {"stop": engine.request_stop, "abandon": engine.abandon}
    expected = (StageError, PipelineError) if ending in ("fail", "setup") else ()
    with suppress(*expected):
        engine.start(block=False)
        engine.wait(patience)
    others = [each for each in engine.report().errors if not is_on_purpose(each)]
    if others:
        raise others[0]
    return engine.report()


def is_on_purpose(error: BaseException) -> bool:
    """Return whether *error* is the one that ended the run, and not a failure to end well."""
    return isinstance(error.__cause__, Interruption)


def check_nothing_is_left(scenario: Callable[[str], object]) -> None:
    """Raise :exc:`AssertionError` if runs leave more threads or descriptors the second time."""
    for ending in ENDINGS:
        scenario(ending)
    for ending in ENDINGS:
        before = what_is_open()
        scenario(ending)
        after = what_is_open()
        if after != before:
            raise AssertionError(
                f"a run that ended by {ending!r} has left threads or descriptors:\n"
                f"  before: {before}\n  after:  {after}"
            )
