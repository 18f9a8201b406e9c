"""The numbered records that the oracle issues, as input of every kind."""

import csv
import gzip
import hashlib
import json
import sqlite3
from pathlib import Path

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


def write_lines(folder: Path, count: int) -> None:
    """Write a file of lines."""
    lines = (f"{number} {text(number)}\n" for number in range(count))
    (folder / "in.txt").write_text("".join(lines))


def write_jsonl(folder: Path, count: int) -> None:
    """Write a file of JSON lines."""
    documents = ({"n": number, "text": text(number)} for number in range(count))
    (folder / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))


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
    with sqlite3.connect(folder / "in.db") as database:
        database.execute("create table numbers (n integer primary key, text text not null)")
        rows = ((number, text(number)) for number in range(count))
        database.executemany("insert into numbers values (?, ?)", rows)
    database.close()
