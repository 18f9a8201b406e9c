"""Progress of a run on stderr: a table where rich is installed, else a line."""

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from m3._shown import one_line
from m3.engine.report import Report
from m3.observe.rates import Rates, rates_between

__all__ = ("Painter", "PlainPainter", "Progress", "is_rich_installed", "painter_for_stderr")


class Painter(Protocol):
    """Shows speeds."""

    period: float
    """Seconds between two pictures."""

    def paint(self, rates: Rates) -> None:
        """Show *rates* in place of what was shown before."""

    def close(self) -> None:
        """Take away what is shown."""


class Progress:
    """
    Shows the progress of an engine for as long as the ``with`` block lasts.

    A thread of its own takes a snapshot every ``painter.period`` seconds.  What
    goes wrong in showing ends the showing, never the run.

    Args:
        snapshot: returns the report of the running engine.
        painter: shows it.
    """

    def __init__(self, snapshot: Callable[[], Report], painter: Painter) -> None:
        self._snapshot = snapshot
        self._painter = painter
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="m3-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        before: Report | None = None
        try:
            while not self._ended.wait(self._painter.period):
                report = self._snapshot()
                if before is None or report.wall > before.wall:
                    self._painter.paint(rates_between(before, report))
                    before = report
            self._painter.close()
        except OSError:  # nobody reads stderr any more
            return


class PlainPainter:
    """
    One line of text: rewritten in place on a terminal, repeated elsewhere.

    Args:
        in_place: whether stderr understands how to rewrite a line.
    """

    def __init__(self, *, in_place: bool) -> None:
        self.period = 0.25 if in_place else 2.0
        self._in_place = in_place
        self._is_shown = False

    def paint(self, rates: Rates) -> None:
        """Write the line."""
        start, end = ("\r\x1b[K", "") if self._in_place else ("", "\n")
        sys.stderr.write(f"{start}{one_line(line(rates))}{end}")
        sys.stderr.flush()
        self._is_shown = True

    def close(self) -> None:
        """Clear the line."""
        if self._in_place and self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def line(rates: Rates) -> str:
    """Return what there is to say, in one line."""
    report = rates.report
    queues = " ".join(f"{s.report.name} {s.fill:.0%}" for s in rates.stages if s.fill is not None)
    parts = [
        f"{report.name}: {report.produced:,} produced",
        f"{report.delivered:,} delivered",
        f"{rates.items:,.0f} items/s",
        f"queues: {queues}" if queues else "",
        f"slowest: {rates.slowest.report.name}" if rates.slowest else "",
    ]
    return ", ".join(part for part in parts if part)


def is_rich_installed() -> bool:
    """Tell whether the extra ``progress`` is there, without importing it."""
    from importlib.util import find_spec

    return find_spec("rich") is not None


def painter_for_stderr() -> Painter:
    """Return what suits stderr: a table, a line in place, or repeated lines."""
    on_terminal = os.isatty(2) and os.environ.get("TERM") != "dumb"
    if on_terminal and is_rich_installed():
        from m3.observe._table import TablePainter

        return TablePainter()
    return PlainPainter(in_place=on_terminal)
