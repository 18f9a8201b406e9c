"""
The oracle on rivals: what they lose and repeat, and how they end, beside m3.

    python tests/oracle/rivals.py --pypeln PYTHON --os-m3-engine PYTHON

Each PYTHON is an interpreter that has that rival; without it the rival is left
out.  The programs are in ``rivals/``; all do the same work.
"""

import argparse
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import found
import issued
from found import Verdict

PROGRAMS = Path(__file__).with_name("rivals")
COUNT = 5000
PATIENCE = 20.0
"""Seconds after which a run counts as one that hangs; in peace it takes two or three."""

CASES = ("poison", "setup", "full")


@dataclass(frozen=True, slots=True)
class Rival:
    """A program, and the interpreter that runs it."""

    name: str
    program: str
    python: str | None


@dataclass(slots=True)
class End:
    """
    How a rival has taken a fault, and what there was after a second run without it.

    Attributes:
        code: the exit code of the first run; None if it hung.
        delivered: how many lines it had delivered.
        missing, duplicates: after the second run.
    """

    code: int | None
    delivered: int
    missing: int
    duplicates: int

    def __str__(self) -> str:
        ending = "hangs" if self.code is None else f"exit {self.code}"
        return f"{ending}, {self.delivered}; {self.missing} / {self.duplicates}"


@dataclass(slots=True)
class Outcome:
    """What came of a rival: for each kill what was missing and there twice, and each fault."""

    rival: str
    missing: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    faults: dict[str, End] = field(default_factory=dict)


class Trial:
    """One input and one output of a rival."""

    def __init__(self, rival: Rival, folder: Path) -> None:
        self._rival = rival
        self._output = folder / "out.txt"
        self._log = folder / "log.txt"
        issued.write_lines(folder, COUNT)
        self._input = folder / "in.txt"

    def start(self, case: str) -> subprocess.Popen[bytes]:
        """Start the program."""
        assert self._rival.python is not None
        program = PROGRAMS / self._rival.program
        command = [self._rival.python, program, case, self._input, self._output]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run(self, case: str, patience: float = PATIENCE) -> int | None:
        """Return the exit code; None, after it was killed, if it has not ended in time."""
        with self.start(case) as process:
            try:
                return process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                return None

    def await_output(self) -> None:
        """Block until the first line is there."""
        while not (self._output.exists() and self._output.stat().st_size):
            time.sleep(0.001)

    def judge(self) -> Verdict:
        """Compare the output with the input."""
        records = found.lines_of(self._output) if self._output.exists() else []
        return Verdict.of(issued.answers(COUNT), records)


def seconds_of_work(rival: Rival) -> float:
    """Return how long the program takes from its first line to its end; it has to be right."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(rival, Path(folder))
        with trial.start("plain") as process:
            trial.await_output()
            began = time.monotonic()
            process.wait()
        assert trial.judge() == Verdict(0, 0, 0), (rival.name, trial.judge())
        return time.monotonic() - began


def kill_and_run_again(rival: Rival, seconds: float) -> Verdict:
    """Kill the program after so many seconds of work, run it to its end; return what is there."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(rival, Path(folder))
        with trial.start("plain") as process:
            trial.await_output()
            time.sleep(seconds)
            process.kill()
        code = trial.run("plain")
        assert code == 0, (rival.name, code)
        return trial.judge()


def meet(rival: Rival, case: str) -> End:
    """Return how the program takes a fault, and what there is after a run without it."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(rival, Path(folder))
        code = trial.run(case)
        delivered = COUNT - trial.judge().missing
        trial.run("plain")
        after = trial.judge()
        return End(code, delivered, after.missing, after.duplicates)


def examine(rival: Rival, kills: int, seed: int) -> Outcome:
    """Return what came of a rival."""
    outcome = Outcome(rival.name)
    chance = random.Random(seed)
    whole = seconds_of_work(rival)
    for _ in range(kills):
        verdict = kill_and_run_again(rival, chance.uniform(0, 0.8 * whole))
        outcome.missing.append(verdict.missing)
        outcome.duplicates.append(verdict.duplicates)
    for case in CASES:
        outcome.faults[case] = meet(rival, case)
    return outcome


def row(outcome: Outcome) -> str:
    """Return a row of the table."""
    numbers = (outcome.missing, outcome.duplicates)
    kills = (f"{median(each):.0f} / {max(each)}" for each in numbers)
    faults = (str(outcome.faults[case]) for case in CASES)
    return f"| {' | '.join([outcome.rival, *kills, *faults])} |"


def main() -> None:
    """Examine all rivals that there are, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each rival")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pypeln", help="a Python that has pypeln")
    parser.add_argument("--os-m3-engine", help="a Python that has os-m3-engine")
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args()
    rivals = [
        Rival("m3, sink `file`", "m3_file_sink.py", sys.executable),
        Rival("m3, a sink that appends", "m3_own_sink.py", sys.executable),
        Rival("by hand", "by_hand.py", sys.executable),
        Rival("by hand, with an offset", "by_hand_with_offset.py", sys.executable),
        Rival("pypeln", "pypeln_threads.py", options.pypeln),
        Rival("os-m3-engine", "os_m3_engine_stages.py", options.os_m3_engine),
    ]
    print(f"| {COUNT} lines | missing, p50 / most | twice, p50 / most | {' | '.join(CASES)} |")
    print("|---|---|---|---|---|---|", flush=True)
    outcomes = []
    for rival in rivals:
        if rival.python is not None:
            outcomes.append(examine(rival, options.kills, options.seed))
            print(row(outcomes[-1]), flush=True)
    if options.json:
        results = [dataclasses.asdict(each) for each in outcomes]
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
