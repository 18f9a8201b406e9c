"""The pipelines that are killed, their input, and what has to be at their sinks."""

import shlex
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import found
import issued
import postgresql
from killing import Run


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    A pipeline under the oracle; it runs in a folder of its own.

    Attributes:
        name: of the scenario.
        options: of the command, without those that all scenarios have.
        write: writes so many records of input into a folder.
        read: returns what is at the sink in a folder, in its order.
        answers: returns what has to be there for so many records.
        count: how many records there are in the long version.
        interval: seconds between two checkpoints.
        keeps_state: whether it runs with ``--state``.
        done: of a scenario that delivers at least once: returns what its source
            takes as done, for so many records.  The others deliver effectively once.
        code: the exit code of a run that is left in peace.
        command: of m3.
        needs: a module that it needs.
        clean: removes what a round has left outside of its folder.
    """

    name: str
    options: tuple[str, ...]
    write: Callable[[Path, int], Any]
    read: Callable[[Path], list[Hashable]]
    answers: Callable[[int], set[Any]] = issued.answers
    count: int = 5000
    interval: float = 0.01
    keeps_state: bool = True
    done: Callable[[Path, int], set[Any]] | None = None
    code: int = 0
    command: tuple[str, ...] = ("run",)
    needs: str | None = None
    clean: Callable[[Path], Any] | None = None

    @property
    def level(self) -> str:
        """The level that it promises."""
        return "effectively once" if self.done is None else "at least once"


def options(*parts: str) -> tuple[str, ...]:
    """Return options, written as in a shell; a stage with ``@`` is one of the oracle's."""
    return tuple(shlex.split(" ".join(parts).replace("@", "oracle_stages:")))


def lines(folder: Path) -> list[Hashable]:
    """Return the records in the file of lines."""
    return found.lines_of(folder / "out.txt")


def rows(folder: Path) -> list[Hashable]:
    """Return the records in the table of SQLite."""
    return found.rows_of(folder / "out.db")


def with_letters(read: Callable[[Path], list[Hashable]]) -> Callable[[Path], list[Hashable]]:
    """Return what reads the dead letters, too."""
    return lambda folder: [*read(folder), *found.letters_of(folder / "state" / "dead-letters.db")]


def in_order(folder: Path) -> list[Hashable]:
    """Return the records in the file of lines, and those that are not behind the one before."""
    records = lines(folder)
    late = (after for before, after in pairwise(records) if not before < after)
    return [*records, *(("not in order", record) for record in late)]


def in_both(folder: Path) -> list[Hashable]:
    """Return the records of two sinks."""
    in_rows = found.values_of(folder / "out.db")
    return [*(("lines", each) for each in lines(folder)), *(("rows", each) for each in in_rows)]


def for_both(count: int) -> set[Any]:
    """Return what has to be in two sinks."""
    return {(sink, each) for sink in ("lines", "rows") for each in issued.answers(count)}


FILE_IN = "--frontend file --set frontend.path=in.txt"
JSONL_IN = "--frontend jsonl --set frontend.path=in.jsonl"
FILE_OUT = "--backend file --set backend.path=out.txt"
SQLITE_OUT = "--backend sqlite --set backend.path=out.db"
ANSWER = "--transport @Answer --workers 8"
ANSWER_ROW = "--transport @answer_row --workers 8"
DEAD_LETTER = "--set transport.on_error=dead_letter"
RETRY = "--set transport.on_error={attempts=100,backoff={initial=0.002,maximum=0.01}}"
APPENDING = "--backend @Appending --set backend.path=out.txt"

NAMED = "--set transport.name=answer"


def write_letters(folder: Path, count: int) -> None:
    """Write a file of lines, and run them through a transport that fails for one in ten."""
    issued.write_lines(folder, count)
    dying = options(FILE_IN, "--transport @OneInTenDies", NAMED, DEAD_LETTER, SQLITE_OUT)
    Run(folder, ["run", *dying, "--dead-letters", "letters.db"]).join(3)


SCENARIOS = (
    Scenario("file to file", options(FILE_IN, ANSWER, FILE_OUT), issued.write_lines, lines),
    Scenario("file to sqlite", options(FILE_IN, ANSWER_ROW, SQLITE_OUT), issued.write_lines, rows),
    Scenario(
        "jsonl to parquet",
        options(JSONL_IN, ANSWER, "--backend parquet --set backend.path=out"),
        issued.write_jsonl,
        lambda folder: found.parts_of(folder / "out"),
        needs="pyarrow",
    ),
    Scenario(
        "sql to sql, SQLite",
        options(
            "--frontend sql --set frontend.url=sqlite:///in.db --set frontend.table=numbers",
            ANSWER,
            "--backend sql --set backend.url=sqlite:///out.db --set backend.table=items",
            "--set backend.create=true",
        ),
        issued.write_database,
        rows,
        needs="sqlalchemy",
    ),
    Scenario(
        "sql to sql, PostgreSQL",
        ("pipeline.toml", *options(ANSWER)),
        postgresql.write,
        postgresql.read,
        needs="pg8000",
        clean=postgresql.drop,
    ),
    Scenario(
        "sqlite to csv",
        options(
            "--frontend sqlite --set frontend.path=in.db --set frontend.table=numbers",
            ANSWER,
            "--backend csv --set backend.path=out.csv",
        ),
        issued.write_database,
        lambda folder: found.csv_of(folder / "out.csv"),
    ),
    Scenario(
        "csv to jsonl",
        options(
            "--frontend csv --set frontend.path=in.csv",
            ANSWER,
            "--backend jsonl --set backend.path=out.jsonl",
        ),
        issued.write_csv,
        lambda folder: found.documents_of(folder / "out.jsonl"),
    ),
    Scenario(
        "gzip directory to 100 files of jsonl",
        options(
            "--frontend jsonl --set frontend.path=in --transport @Sharded --workers 8",
            "--backend jsonl --set backend.path=out/{shard}/all.jsonl",
        ),
        issued.write_directory,
        lambda folder: found.documents_below(folder / "out"),
    ),
    Scenario(
        "several or none of each (generator)",
        options(FILE_IN, "--transport @FanOut --workers 8", FILE_OUT),
        issued.write_lines,
        lines,
        issued.parts,
    ),
    Scenario(
        "dropped on purpose",
        options(FILE_IN, "--transport @OneInTenDropped --workers 8", FILE_OUT),
        issued.write_lines,
        lines,
        issued.answers_but_dead,
    ),
    Scenario(
        "batches",
        options(
            JSONL_IN,
            "--transport @AnswerBatch --workers 8",
            "--set transport.batch={count=50,period=0.02}",
            SQLITE_OUT,
            "--set backend.batch={count=100,period=0.05}",
        ),
        issued.write_jsonl,
        rows,
    ),
    Scenario(
        "retries of a flaky transport",
        options(FILE_IN, "--transport @Flaky --workers 8", RETRY, FILE_OUT),
        issued.write_lines,
        lines,
    ),
    Scenario(
        "one in ten a dead letter",
        options(FILE_IN, "--transport @OneInTenDies --workers 8", DEAD_LETTER, FILE_OUT),
        issued.write_lines,
        with_letters(lines),
        issued.answers_with_letters,
        code=3,
    ),
    Scenario(
        "one in ten refused by the database",
        options(
            FILE_IN,
            ANSWER_ROW,
            SQLITE_OUT,
            "--set backend.on_error=dead_letter",
        ),
        issued.write_lines_and_table,
        with_letters(rows),
        issued.answers_with_letters,
        code=3,
    ),
    Scenario(
        "calls that time out",
        options(
            FILE_IN,
            "--transport @SomeStick --workers 8 --set transport.timeout=0.2",
            DEAD_LETTER,
            FILE_OUT,
        ),
        issued.write_lines,
        with_letters(lines),
        issued.answers_or_stuck,
        count=3000,
        code=3,
    ),
    Scenario(
        "8 workers in the order of the input",
        options(FILE_IN, ANSWER, "--set transport.ordering=input", FILE_OUT),
        issued.write_lines,
        in_order,
    ),
    Scenario(
        "in the frontend's thread (workers=0)",
        options(FILE_IN, "--transport @Answer --workers 0", FILE_OUT),
        issued.write_lines,
        in_order,
        count=2000,
    ),
    Scenario(
        "async transport",
        options(FILE_IN, "--transport @AnswerAsync --set transport.concurrency=64", FILE_OUT),
        issued.write_lines,
        lines,
    ),
    Scenario(
        "retries of a flaky backend",
        options(
            FILE_IN,
            ANSWER,
            "--backend @FlakyFile --set backend.path=out.txt",
            RETRY.replace("transport", "backend"),
        ),
        issued.write_lines,
        lines,
    ),
    Scenario(
        "two frontends",
        options(
            "--frontend file --set frontend.1.path=in.txt",
            "--frontend jsonl --set frontend.2.path=in.jsonl",
            ANSWER_ROW,
            SQLITE_OUT,
        ),
        issued.write_both,
        rows,
    ),
    Scenario(
        "two backends",
        options(
            FILE_IN,
            ANSWER,
            "--backend file --set backend.1.path=out.txt",
            "--backend sqlite --set backend.2.path=out.db",
        ),
        issued.write_lines,
        in_both,
        for_both,
    ),
    Scenario(
        "appending sink",
        options(FILE_IN, ANSWER, APPENDING),
        issued.write_lines,
        lines,
        done=found.below_the_mark,
    ),
    Scenario(
        "appending sink, as much under way as can be",
        options(FILE_IN, "--transport @fast_answer --workers 2", APPENDING),
        issued.write_lines,
        lines,
        count=300_000,
        interval=1,
        done=found.below_the_mark,
    ),
    Scenario(
        "source that is told (no state)",
        options("--frontend @Spool --set frontend.path=in", ANSWER_ROW, SQLITE_OUT),
        issued.write_spool,
        rows,
        count=2000,
        keeps_state=False,
        done=found.gone_from_the_spool,
    ),
    Scenario(
        "dead letters redriven",
        options("--transport @Answer", NAMED, SQLITE_OUT),
        write_letters,
        lambda folder: found.values_of(folder / "out.db"),
        keeps_state=False,
        done=found.gone_from_the_letters,
        command=("dlq", "redrive", "letters.db"),
    ),
)
