"""The oracle: issues records, kills the pipeline, and judges what is at the sink."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from found import Verdict
from killing import KINDS, Run, Usual, kill_at_random
from scenarios import Scenario


@dataclass(slots=True)
class Outcome:
    """
    What came of a scenario.

    Attributes:
        scenario: its name.
        level: what it promises.
        rounds: how often the input went through from its start to its end.
        runs: how many processes were started.
        kills: how many of them were killed, by the kind of moment.
        records: how many had to be at the sinks, of all rounds.
        missing, duplicates, foreign: see :class:`Verdict`.
        seconds: how long all took.
    """

    scenario: str
    level: str
    rounds: int = 0
    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    records: int = 0
    missing: int = 0
    duplicates: int = 0
    foreign: int = 0
    seconds: float = 0.0


class Oracle:
    """Kills the pipeline of one scenario so many times, with moments from a seed."""

    def __init__(self, scenario: Scenario, folder: Path, *, count: int, seed: int) -> None:
        self._scenario = scenario
        self._folder = folder
        self._count = count
        self._random = Random(f"{scenario.name} {seed}")
        self._options = (
            *scenario.options,
            *("--state", "state", "--set", f"checkpoint_interval={scenario.interval}"),
        )
        self.outcome = Outcome(scenario.name, scenario.level)

    def ask(self, kills: int) -> Outcome:
        """Run rounds until so many kills have landed; return what came of it."""
        began = time.monotonic()
        usual = self._undisturbed()
        while (left := kills - self.outcome.kills.total()) > 0:
            self._begin_round()
            self._kill(usual, left)
            self._judge()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _undisturbed(self) -> Usual:
        """Run once in peace, which has to work too; return how long that takes."""
        self._begin_round()
        run = self._start()
        run.await_write()
        start = run.seconds()
        run.join(self._scenario.code)
        usual = Usual(start, run.seconds())
        self._judge()
        return usual

    def _begin_round(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._scenario.write(self._folder, self._count)
        self.outcome.rounds += 1

    def _start(self) -> Run:
        self.outcome.runs += 1
        return Run(self._folder, self._options)

    def _kill(self, usual: Usual, most: int) -> None:
        """Kill runs until one ends by itself; leave it in peace after *most* kills."""
        for _ in range(most):
            run = self._start()
            kind = self._random.choice(KINDS)
            if kill_at_random(run, kind, usual, self._random):
                self.outcome.kills[kind] += 1
            elif run.join(self._scenario.code, -signal.SIGTERM) == self._scenario.code:
                return
        self._start().join(self._scenario.code)

    def _judge(self) -> None:
        verdict = Verdict.of(self._issued(), self._found())
        self.outcome.records += len(self._issued())
        self.outcome.missing += verdict.missing
        self.outcome.duplicates += verdict.duplicates
        self.outcome.foreign += verdict.foreign

    def _issued(self) -> set[Any]:
        return self._scenario.answers(self._count)

    def _found(self) -> list[Hashable]:
        return self._scenario.read(self._folder)
