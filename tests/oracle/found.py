"""What is at the sink, read back, and what is wrong with it."""

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Hashable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from issued import Record, answer
from oracle_stages import number_of

from m3.engine.dead_letter import DeadLetter
from m3.engine.letters import read_dead_letters
from m3.engine.state import look_at
from m3.errors import StateError


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What a sink has, compared with what was issued.

    Attributes:
        missing: records that were issued and are not there.
        duplicates: how many are there beyond the first of each.
        foreign: what is there and was not issued, or is damaged.
    """

    missing: int
    duplicates: int
    foreign: int

    @classmethod
    def of(cls, issued: set[Any], found: Iterable[Hashable]) -> "Verdict":
        """Compare what was *found* with what was *issued*."""
        counts = Counter(found)
        return cls(
            missing=len(issued - counts.keys()),
            duplicates=sum(counts.values()) - len(counts),
            foreign=len(counts.keys() - issued),
        )


def record_of(line: bytes) -> Hashable:
    """Return the record of a line; of a damaged one the line itself."""
    number, _, text = line.decode("utf-8", "replace").partition(" ")
    return (int(number), text) if number.isdigit() else line


def lines_of(path: Path) -> list[Hashable]:
    """Return the records of a file of lines."""
    *whole, rest = path.read_bytes().split(b"\n")
    return [*map(record_of, whole), *([b"no line end: " + rest] if rest else [])]


def documents_of(path: Path) -> list[Hashable]:
    """Return the records of a file of JSON lines."""
    return [_record_of_json(line) for line in path.read_bytes().splitlines(keepends=True)]


def _record_of_json(line: bytes) -> Hashable:
    try:
        document = json.loads(line)
        return (document["n"], document["text"]) if line.endswith(b"\n") else line
    except (ValueError, KeyError, TypeError):
        return line


def documents_below(folder: Path) -> list[Hashable]:
    """Return the records of all files of JSON lines below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [record for path in files for record in documents_of(path)]


def rows_of(path: Path, table: str = "items") -> list[Hashable]:
    """Return the records of a table of SQLite, if there is one yet."""
    with closing(sqlite3.connect(path)) as database:
        if not database.execute("select 1 from sqlite_master where name = ?", (table,)).fetchall():
            return []
        return database.execute(f"select n, text from {table} order by rowid").fetchall()


def values_of(path: Path) -> list[Hashable]:
    """Return the records of a table of lines."""
    with closing(sqlite3.connect(path)) as database:
        return [record_of(line) for (line,) in database.execute("select value from items")]


def rows_at(url: str, table: str = "items") -> list[Hashable]:
    """Return the records of a table of any database."""
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return [
                tuple(row) for row in connection.execute(sa.text(f"select n, text from {table}"))
            ]
    finally:
        engine.dispose()


def parts_of(folder: Path) -> list[Hashable]:
    """Return the records of all parts in a directory of Parquet files."""
    import pyarrow.parquet as pq

    rows = [
        row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()
    ]
    return [(row["n"], row["text"]) for row in rows]


def csv_of(path: Path) -> list[Hashable]:
    """Return the records of a CSV file with the right header."""
    with path.open(newline="") as file:
        header, *records = csv.reader(file, strict=True)
    wrong = [] if header == ["n", "text"] else [tuple(header)]
    return [*wrong, *((int(number), text) for number, text in records)]


def letters_of(path: Path) -> list[tuple[str, int, str]]:
    """Return the records that have become dead letters."""
    with closing(read_dead_letters(path)) as letters:
        return [_record_of_letter(letter) for letter in letters.select()]


def _record_of_letter(letter: DeadLetter) -> tuple[str, int, str]:
    item = letter.item
    text = item.split()[1].decode() if isinstance(item, bytes) else item["text"].lower()
    return "dead letter", number_of(item), text


def below_the_mark(folder: Path, _: int) -> set[Record]:
    """Return the records that the next run will not read again, as the state has it."""
    try:
        places = look_at(folder / "state").checkpoint.sources
    except StateError:  # there is none yet
        return set()
    place = next(iter(places.values()), None)
    if place is None:  # it is as it was made, or of a run that had only begun
        return set()
    line, _, flags, *_ = place["files"][0].split(" ", 5)
    return {answer(number) for number in range(int(line) - ("behind" not in flags))}


def gone_from_the_spool(folder: Path, count: int) -> set[Record]:
    """Return the records whose files were removed, because their source was told."""
    left = {int(path.name) for path in (folder / "in").iterdir()}
    return {answer(number) for number in range(count) if number not in left}


def gone_from_the_letters(folder: Path, count: int) -> set[Record]:
    """Return the records that are not, or not any more, dead letters."""
    left = {number for _, number, _ in letters_of(folder / "letters.db")}
    return {answer(number) for number in range(count) if number not in left}
