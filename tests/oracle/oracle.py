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

from m3.engine.answers import MOST_UNANSWERED

PACES = (0.2, 1, 5)
"""What the interval of a scenario's checkpoints is multiplied with, differently in each run."""


@dataclass(slots=True)
class Outcome:
    """
    What came of a scenario.

    Attributes:
        scenario: its name.
        level: what it promises.
        rounds: how often the input went through from its start to its end.
        kills: how many runs were killed, by the kind of moment.
        records: how many had to be at the sinks, of all rounds.
        missing, duplicates, foreign: see :class:`Verdict`.
        lost: records that a source took as done, and that were not at the sink
            when the run was killed.
        beyond: at each kill, how many were at the sink that the source did not
            take as done, and so may come twice.
        repeated: how many came twice in the run after each kill.
        unbidden: how many came again that the source took as done.
        seconds: how long all took.
        error: what a run has said that failed or hung, though nobody had killed it.
    """

    scenario: str
    level: str
    rounds: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    records: int = 0
    missing: int = 0
    duplicates: int = 0
    foreign: int = 0
    lost: int = 0
    unbidden: int = 0
    beyond: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    def keeps_promise(self) -> bool:
        """Tell whether everything was as the level of the scenario promises."""
        wrong = self.missing + self.foreign + self.lost + self.unbidden + bool(self.error)
        if self.level == "effectively once":
            return wrong + self.duplicates == 0
        within = (
            self.duplicates <= sum(self.beyond) and max(self.beyond, default=0) <= MOST_UNANSWERED
        )
        return wrong == 0 and within


class Oracle:
    """
    Kills the pipeline of one scenario at moments that follow from a seed.

    Args:
        scenario: the pipeline.
        folder: for its runs; it is removed before each round.
        count: how many records are issued.
        seed: of the moments.
    """

    def __init__(self, scenario: Scenario, folder: Path, *, count: int, seed: int) -> None:
        self._scenario = scenario
        self._folder = folder
        self._count = count
        self._random = Random(f"{scenario.name} {seed}")
        self._issued = scenario.answers(count)
        self._reach = 0.4
        self._done: set[Any] = set()
        self._length = 0
        self.outcome = Outcome(scenario.name, scenario.level)

    def ask(self, kills: int, usual: Usual | None = None) -> Outcome:
        """
        Run rounds until so many kills have landed; return what came of it.

        Args:
            kills: how many.
            usual: how long a run takes; without it, one in peace finds out.
        """
        began = time.monotonic()
        usual = usual or self._undisturbed()
        while (left := kills - sum(self.outcome.kills.values())) > 0:
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
        self._done, self._length = set(), 0
        self.outcome.rounds += 1

    def _start(self) -> Run:
        interval = self._scenario.interval * self._random.choice(PACES)
        scenario = self._scenario
        command = [*scenario.command, *scenario.options]
        command += ["--set", f"checkpoint_interval={interval}"]
        if scenario.keeps_state:
            command += ["--state", "state"]
        return Run(self._folder, command)

    def _kill(self, usual: Usual, most: int) -> None:
        """Kill runs until one ends by itself; leave it in peace after *most* kills."""
        for _ in range(most):
            run = self._start()
            kind = self._random.choice(KINDS)
            if kill_at_random(run, kind, usual, self._reach, self._random):
                self._reach = min(0.5, 1.1 * self._reach)
                self.outcome.kills[kind] = self.outcome.kills.get(kind, 0) + 1
                self._look_at_repetitions()
                continue
            self._reach /= 2  # most kills have to land, or the rounds never end
            if run.join(-signal.SIGTERM, *self._good_codes()) != -signal.SIGTERM:
                return
        self._start().join(*self._good_codes())

    def _good_codes(self) -> set[int]:
        """Return how a run may end; one that was left nothing to do has no dead letters."""
        return {0, self._scenario.code}

    def _judge(self) -> None:
        if self._scenario.done is not None:
            self._note_repeated(self._found())
        verdict = Verdict.of(self._issued, self._found())
        self.outcome.records += len(self._issued)
        self.outcome.missing += verdict.missing
        self.outcome.duplicates += verdict.duplicates
        self.outcome.foreign += verdict.foreign
        if self._scenario.clean is not None:
            self._scenario.clean(self._folder)

    def _look_at_repetitions(self) -> None:
        """After a kill: compare what the source takes as done with what is at the sink."""
        if self._scenario.done is None:
            return
        records = self._found()
        self._note_repeated(records)
        self._done = self._scenario.done(self._folder, self._count)
        self._length = len(records)
        self.outcome.lost += len(self._done.difference(records))
        self.outcome.beyond.append(len(set(records) - self._done))

    def _note_repeated(self, records: list[Hashable]) -> None:
        """Count what has come since the last kill, and had come before it."""
        before, since = set(records[: self._length]), Counter(records[self._length :])
        if before:
            self.outcome.repeated.append(len(before & since.keys()))
        self.outcome.unbidden += len(self._done & since.keys())
        self.outcome.unbidden += since.total() - len(since)  # twice in one run

    def _found(self) -> list[Hashable]:
        try:
            return self._scenario.read(self._folder)
        except FileNotFoundError:  # nothing was written yet
            return []
