"""The pipelines that are killed, their input, and what has to be at their sinks."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import found
import issued


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    A pipeline under the oracle; it runs in a folder of its own.

    Attributes:
        name: of the scenario.
        options: of ``m3 run``, without those that all scenarios have.
        write: writes so many records of input into a folder.
        read: returns what is at the sink in a folder.
        answers: returns what has to be there for so many records.
        count: how many records there are in the long version.
        interval: seconds between two checkpoints.
        level: ``effectively once``, or ``at least once``.
        code: the exit code of a run that is left in peace.
    """

    name: str
    options: tuple[str, ...]
    write: Callable[[Path, int], Any]
    read: Callable[[Path], list[Hashable]]
    answers: Callable[[int], set[Any]] = issued.answers
    count: int = 6000
    interval: float = 0.01
    level: str = "effectively once"
    code: int = 0


def words(text: str) -> tuple[str, ...]:
    """Return options, written as in a shell; ``--transport``s are of this folder."""
    return tuple(text.split())


FILE_IN = "--frontend file --set frontend.path=in.txt "
FILE_OUT = "--backend file --set backend.path=out.txt "
EIGHT = "--workers 8 "

SCENARIOS = (
    Scenario(
        "file to file",
        words(FILE_IN + "--transport oracle_stages:Answer " + EIGHT + FILE_OUT),
        issued.write_lines,
        lambda folder: found.lines_of(folder / "out.txt"),
    ),
    Scenario(
        "file to sqlite",
        words(
            FILE_IN + "--transport oracle_stages:AnswerRow " + EIGHT
            + "--backend sqlite --set backend.path=out.db"
        ),
        issued.write_lines,
        lambda folder: found.rows_of(folder / "out.db"),
    ),
)
