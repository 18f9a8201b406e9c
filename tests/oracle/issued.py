"""The numbered records that the oracle issues, as input of every kind."""

import csv
import gzip
import hashlib
import json
import sqlite3
from collections.abc import Hashable, Iterable
from contextlib import closing
from pathlib import Path

from oracle_stages import DEAD, FAN, STUCK_ONE_IN

Record = tuple[int, str]
"""What is known of a record at the sink: its number, and a text that follows from it."""

PER_FILE = 500


def text(number: int) -> str:
    """Return the text of a record, between 1 and 64 characters, different for each number."""
    return hashlib.sha256(b"%d" % number).hexdigest()[: 1 + number % 64]


def answer(number: int) -> Record:
    """Return the record as it has to be at the sink: the text has gone through a transport."""
    return number, text(number).upper()


def answers(count: int) -> set[Record]:
    """Return all records as they have to be at the sink."""
    return {answer(number) for number in range(count)}


def write_lines(folder: Path, count: int, step: int = 1) -> None:
    """Write a file of lines, of every *step*-th record."""
    lines = (f"{number} {text(number)}\n" for number in range(0, count, step))
    (folder / "in.txt").write_text("".join(lines))


def write_lines_and_table(folder: Path, count: int) -> None:
    """Write a file of lines, and an empty table that refuses one in ten."""
    write_lines(folder, count)
    with closing(sqlite3.connect(folder / "out.db")) as database:
        database.execute(f"create table items (n integer check (n % 10 <> {DEAD}), text text)")


def write_jsonl(folder: Path, count: int, first: int = 0, step: int = 1) -> None:
    """Write a file of JSON lines, of every *step*-th record from *first* on."""
    numbers = range(first, count, step)
    documents = ({"n": number, "text": text(number)} for number in numbers)
    (folder / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))


def write_both(folder: Path, count: int) -> None:
    """Write every second record as a line, and the others as JSON lines."""
    write_lines(folder, count, step=2)
    write_jsonl(folder, count, first=1, step=2)


def write_csv(folder: Path, count: int) -> None:
    """Write a CSV file, in which some records have several lines."""
    with (folder / "in.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(("n", "text", "note"))
        writer.writerows((n, text(n), 'a "note",\nof two lines' * (n % 3)) for n in range(count))


def write_directory(folder: Path, count: int) -> None:
    """Write a directory of JSON lines, each file compressed."""
    (folder / "in").mkdir()
    for first in range(0, count, PER_FILE):
        numbers = range(first, min(first + PER_FILE, count))
        lines = (json.dumps({"n": n, "text": text(n)}) + "\n" for n in numbers)
        with gzip.open(folder / "in" / f"{first:08}.jsonl.gz", "wt") as file:
            file.writelines(lines)


def write_database(folder: Path, count: int) -> None:
    """Write a table of SQLite."""
    with closing(sqlite3.connect(folder / "in.db")) as database, database:
        database.execute("create table numbers (n integer primary key, text text not null)")
        rows = ((number, text(number)) for number in range(count))
        database.executemany("insert into numbers values (?, ?)", rows)


def write_spool(folder: Path, count: int) -> None:
    """Write a directory with a file for each record."""
    (folder / "in").mkdir()
    for number in range(count):
        (folder / "in" / f"{number:08}").write_text(f"{number} {text(number)}\n")


def parts(count: int) -> set[Record]:
    """Return what is to come of all records where several are made of each."""
    return {
        (number * FAN + part, text(number).upper())
        for number in range(count)
        for part in range(number % FAN)
    }


def answers_but_dead(count: int) -> set[Record]:
    """Return all records but one in ten."""
    return {answer(number) for number in range(count) if number % 10 != DEAD}


def letters(numbers: Iterable[int]) -> set[Hashable]:
    """Return the dead letters of some records."""
    return {("dead letter", number, text(number)) for number in numbers}


def answers_with_letters(count: int) -> set[Hashable]:
    """Return all records, one in ten as a dead letter."""
    return answers_but_dead(count) | letters(range(DEAD, count, 10))


def answers_or_stuck(count: int) -> set[Hashable]:
    """Return all records, those as dead letters that are never done with."""
    stuck = range(0, count, STUCK_ONE_IN)
    return answers(count) - {answer(number) for number in stuck} | letters(stuck)
