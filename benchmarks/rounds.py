"""Measure a row: every contender in a process of its own, in turn, round after round."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures
from benchmarks.results import Result
from benchmarks.rows import Contender, Row

__all__ = ("Laboratory", "MeasurementError")

ROOT = Path(__file__).parent.parent
LONGEST = 120.0


class MeasurementError(Exception):
    """A contender could not be measured; the text is the last line that it wrote."""


@dataclass(slots=True)
class Laboratory:
    """
    Where the measurements are made.

    Attributes:
        rounds: how often each contender is measured.
        seconds: how long a run should be.
        freethreaded: the interpreter without the GIL, if there is one.
        others: interpreters for rivals that cannot be installed for this one.
    """

    rounds: int
    seconds: float
    freethreaded: str | None = None
    others: tuple[str, ...] = ()
    spins: dict[str, int] = field(default_factory=dict)

    def run(self, row: Row) -> Result:
        """Measure all contenders of *row*."""
        result = Result(ideal=row.ideal)
        trials = [Trial(self, row, contender) for contender in row.contenders]
        for _ in range(self.rounds):
            for trial in trials:
                trial.measure(result)
        return result

    def interpreters(self, row: Row) -> tuple[str, ...]:
        """Return the interpreters that may run *row*, the best first."""
        if not row.freethreaded:
            return (sys.executable, *self.others)
        return (self.freethreaded,) if self.freethreaded else ()

    def ask(self, python: str, module: str, keywords: dict[str, Any]) -> Figures:
        """Return what *module* measures in a new process of *python*."""
        request = json.dumps({"module": module, "keywords": keywords})
        command = [python, "-m", "benchmarks.measure", request]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"not done after {LONGEST:.0f} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise MeasurementError(lines[-1] if lines else f"status {done.returncode}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def spins_of(self, python: str) -> int:
        """Return how many turns of the spinning loop take 5 µs there; measured once."""
        if python not in self.spins:
            self.spins[python] = self.ask(python, "spins", {})["spins"]
        return self.spins[python]


def environment() -> dict[str, str]:
    """Return the environment without settings of Python that users do not have.

    Unbuffered output, or no compiled modules on disk, would be measured otherwise.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name == "PYTHONPATH" or not name.startswith("PYTHON")
    }


class Trial:
    """One contender of a row, from round to round."""

    def __init__(self, laboratory: Laboratory, row: Row, contender: Contender) -> None:
        self.laboratory = laboratory
        self.row = row
        self.contender = contender
        self.interpreters = laboratory.interpreters(row)
        self.counts: dict[tuple[str, str], int] = {}
        self.reason = ""

    def measure(self, result: Result) -> None:
        """Add one round to *result*, or the reason why there is none."""
        name = self.contender.name
        if name in result.failures:
            return
        if not self.interpreters:
            result.failures[name] = "no free-threaded interpreter was given"
            return
        try:
            figures = self.figures_of(self.contender)
        except MeasurementError as error:
            self.give_up(result, str(error))
            return
        result.rounds.setdefault(name, []).append(figures)
        result.pythons[name] = figures["python"]
        if self.interpreters[0] != self.laboratory.interpreters(self.row)[0]:
            self.measure_baseline(result)

    def give_up(self, result: Result, reason: str) -> None:
        """Go on with the next interpreter if this one lacks the system, or note *reason*."""
        is_missing = reason.startswith(("ModuleNotFoundError", "ImportError"))
        self.reason = self.reason or reason
        if is_missing and len(self.interpreters) > 1 and self.contender.name not in result.rounds:
            self.interpreters = self.interpreters[1:]
            self.measure(result)
            return
        result.rounds.pop(self.contender.name, None)
        result.failures[self.contender.name] = self.reason

    def measure_baseline(self, result: Result) -> None:
        """Measure the row's baseline on the contender's own interpreter too."""
        for baseline in self.row.contenders:
            if baseline.name == self.row.baseline:
                figures = self.figures_of(baseline)
                result.baselines.setdefault(self.contender.name, []).append(figures)

    def figures_of(self, contender: Contender) -> Figures:
        """Measure *contender*, with as many items as the first time."""
        python = self.interpreters[0]
        keywords = {
            **contender.keywords,
            "seconds": self.laboratory.seconds * self.row.effort,
            "count": self.counts.get((python, contender.name)),
        }
        if keywords.get("workload") == "spin":
            keywords["spins"] = self.laboratory.spins_of(python)
        figures = self.laboratory.ask(python, self.row.module, keywords)
        self.counts[python, contender.name] = figures["count"]
        return figures
