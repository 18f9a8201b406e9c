"""What the batteries for frontends and backends have in common."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from m3.engine.report import Report
from m3.testing._around import nothing
from m3.testing._checks import differ
from m3.testing._killing import Point, Points, Tell, run_in_child
from m3.testing._scenarios import run_to

__all__ = ("Battery",)

INTERVAL = 0.001
"""Seconds between two checkpoints."""

KILLS = 2
"""At so many calls of each method, spread over a run, a test kills it."""


class Battery:
    """
    The root of the batteries.

    Attributes:
        folder: an empty one, for the input or the output; another one for each
            scenario of a test.
        exit_stack: closed after each scenario.
    """

    outlives_the_process = True
    """Whether the input or the sink is still there when the process was killed."""

    patience = 20.0
    """Seconds after which a run that should have ended is said to hang."""

    folder: Path
    exit_stack: ExitStack

    def setup_method(self) -> None:
        """Begin a test; called by pytest."""
        self._place = tempfile.TemporaryDirectory()
        self._scenarios = 0
        self.exit_stack = ExitStack()
        self.start_over()

    def teardown_method(self) -> None:
        """End a test; called by pytest."""
        self.exit_stack.close()
        self._place.cleanup()

    def prepare(self) -> None:
        """Make the input ready, or an empty sink, in ``folder`` or elsewhere."""

    def start_over(self) -> None:
        """Begin another scenario: with an empty folder, and no state."""
        self.exit_stack.close()
        self._scenarios += 1
        self._settled: dict[str, int] = {}
        self.folder = Path(self._place.name, str(self._scenarios))
        self.folder.mkdir()
        self.prepare()

    @property
    def state(self) -> Path:
        """The folder for the state of the scenario's runs."""
        return self.folder.with_suffix(".state")

    def _with_state(self) -> dict[str, Any]:
        """Return the options of a pipeline that keeps it, with many checkpoints."""
        return {"state": self.state, "checkpoint_interval": INTERVAL}

    def _run_to(self, ending: str, source: Any, sink: Any, **options: Any) -> Report:
        """Run a pipeline to one of the endings there are; see :func:`run_to`."""
        return run_to(ending, source, sink, patience=self.patience, **options)

    # -- runs that are killed, and gone on with

    def _live(self, point: Callable[[str], object], tell: Tell) -> None:
        """Run the pipeline to its end; tell *point* what happens, and what is acknowledged."""
        raise NotImplementedError

    def _delivered(self) -> list[str]:
        """Return a text for each item that was delivered so far."""
        raise NotImplementedError

    def _kill_everywhere(self, wanted: list[str], *, exactly: bool) -> None:
        """Kill a run, at one point after the other, go on, and check what was delivered."""
        for point in self._points(KILLS):
            self.start_over()
            self._kill(point)
            self._live(nothing, nothing)
            self._check_delivered(wanted, f"killed {point}", exactly=exactly)

    def _kill_twice(self, wanted: list[str], *, exactly: bool) -> None:
        """Do the same in runs that go on after they were killed once."""
        points = self._points(KILLS)
        first = max(points, key=lambda point: point.number)
        for point in self._points(1):
            self.start_over()
            self._kill(first)
            self._kill(point)
            self._live(nothing, nothing)
            self._check_delivered(wanted, f"killed {first}, then {point}", exactly=exactly)

    def _points(self, most: int) -> list[Point]:
        """Return the points of a run that is not killed, *most* of each kind."""
        points = Points()
        self._live(points, nothing)
        return points.some(most)

    def _kill(self, point: Point) -> None:
        live = partial(self._live, Points(point))
        self._note(run_in_child(live, patience=self.patience))

    def _note(self, acknowledged: list[str]) -> None:
        """Take note of items that must not be delivered again from now on."""
        if acknowledged:
            delivered = self._delivered()
            self._settled |= {item: delivered.count(item) for item in acknowledged}

    def _check_delivered(self, wanted: list[str], what: str, *, exactly: bool) -> None:
        """Check that everything was delivered: *exactly*, or at least once."""
        found = self._delivered()
        if exactly:
            differ(found, wanted, what, show=str)
            return
        differ(sorted(set(found)), sorted(wanted), what, show=str)
        again = [item for item, times in self._settled.items() if found.count(item) > times]
        differ(again, [], f"{what}: acknowledged items that were delivered again", show=str)
