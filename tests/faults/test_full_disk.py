"""F3, F4: the disk is full, at the sink, at the checkpoint, at the dead letters."""

import csv
import json
import os
import shutil
import sqlite3
from contextlib import closing, suppress

import pytest
from outcomes import residual

from m3 import Frontend, Item, Pipeline
from m3.engine.letters import open_dead_letters
from m3.engine.state import StateStore
from m3.errors import StageError, StateError

pytestmark = pytest.mark.once

COUNT = 5_000
FAILED, MISTAKE, INCOMPLETE = 1, 2, 3


@pytest.fixture
def source(tmp_path):
    """Records, more than fit onto the small disk."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id": {n}, "text": "{n:060}"}}\n' for n in range(COUNT)))
    return path


def ids_in_jsonl(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def ids_in_csv(path):
    with path.open(newline="") as file:
        return [int(row["id"]) for row in csv.DictReader(file)]


def ids_in_sqlite(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [number for (number,) in connection.execute("SELECT id FROM items ORDER BY rowid")]


def ids_in_parquet(path):
    import pyarrow.parquet as pq

    return [
        n for part in sorted(path.glob("*.parquet")) for n in pq.read_table(part)["id"].to_pylist()
    ]


SINKS = {
    "file": (["frontend.path={source}", "backend.path={target}"], ids_in_jsonl),
    "jsonl": (["backend.path={target}"], ids_in_jsonl),
    "csv": (["backend.path={target}"], ids_in_csv),
    "sqlite": (["backend.path={target}", "backend.table=items"], ids_in_sqlite),
    "sql": (
        ["backend.url=sqlite:///{target}", "backend.table=items", "backend.create=true"],
        ids_in_sqlite,
    ),
    "parquet": (["backend.path={target}"], ids_in_parquet),
}


def pipeline(sink, source, target, *more):
    """Return the options of a copy of *source* to a sink, and what reads its ids."""
    options, ids = SINKS[sink]
    if sink == "parquet":
        pytest.importorskip("pyarrow")
    if sink == "sql":
        pytest.importorskip("sqlalchemy")
    frontend = "file" if sink == "file" else "jsonl"
    words = ["--frontend", frontend, "--backend", sink]
    for option in (f"frontend.path={source}", *options, "checkpoint_interval=0.02", *more):
        words += ["--set", option.format(source=source, target=target)]
    return words, ids


@pytest.mark.parametrize("sink", SINKS)
def test_no_room_at_the_sink(m3_run, source, disk, sink):
    """
    With a state, the run fails and says why; with room again it goes on to the exact result.

    Nothing of what was committed before is missing.
    """
    target = disk.path / "out"
    words, ids = pipeline(sink, source, target)
    disk.resize(24 if sink == "parquet" else 128)
    words += ["--state", m3_run.folder / "state"]
    ended = m3_run.run(*words)
    assert ended.code == FAILED
    assert ended.is_accounted_for()
    assert "No space left" in ended.said or "disk is full" in ended.said
    disk.resize(16 * 1024)
    ended = m3_run.run(*words)
    assert (ended.code, ended.said.count("failed,")) == (0, 1)
    assert ids(target) == list(range(COUNT))


@pytest.mark.parametrize("sink", ["file", "jsonl", "csv"])
@pytest.mark.parametrize("policy", ["skip", "dead_letter"])
def test_the_policy_applies_to_what_cannot_be_written(m3_run, source, disk, sink, policy):
    """Where items may fail, delivered are exactly those in the sink, and no record is cut."""
    target = disk.path / "out"
    words, ids = pipeline(sink, source, target, "backend.append=true", f"backend.on_error={policy}")
    disk.resize(128)
    ended = m3_run.run(*words, "--dead-letters", m3_run.folder / "letters.db")
    assert ended.code == INCOMPLETE
    assert ended.is_accounted_for()
    written = ids(target)
    assert 0 < len(written) == ended.counts["delivered"] < COUNT
    assert len(set(written)) == len(written)
    lost = ended.counts["dead_lettered" if policy == "dead_letter" else "failed"]
    assert lost == COUNT - len(written)


class Told(Frontend):
    """Lines, and which of them are acknowledged."""

    def __init__(self, *, count, answers):
        self.count = count
        self.answers = answers

    def produce(self):
        for number in range(self.count):
            yield Item(b"%060d" % number, number)

    def ack(self, position):
        self.answers[position] = True

    def nack(self, position, error):
        self.answers[position] = False


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_nothing_is_acknowledged_that_was_not_written(disk, policy):
    """Where the disk becomes full, acknowledged are exactly the lines that are on it."""
    answers = {}
    path = disk.path / "out"
    disk.resize(128)
    pipeline = Pipeline(Told(count=COUNT, answers=answers), max_failures=None)
    engine = pipeline.backend("file", path=path, append=True, on_error=policy).engine()
    with suppress(StageError):
        engine.start()
    report = engine.report()
    assert residual(report) == 0
    assert sorted(answers) == list(range(report.produced))
    written = {int(line) for line in path.read_bytes().splitlines()}
    assert {position for position, is_good in answers.items() if is_good} == written
    assert 0 < len(written) < COUNT


@pytest.mark.parametrize("sink", ["file", "jsonl", "csv", "sqlite", "sql"])
def test_dev_full(m3_run, source, sink):
    """On a device that is always full, nothing counts as delivered."""
    words, _ = pipeline(sink, source, "/dev/full")
    ended = m3_run.run(*words)
    assert ended.code == FAILED
    assert ended.is_accounted_for()
    assert ended.counts["delivered"] == 0


def test_standard_output_is_full(m3_run, source):
    """On a full standard output, likewise."""
    with open("/dev/full", "wb") as full:
        ended = m3_run.run("--frontend", "file", "--set", f"frontend.path={source}", stdout=full)
    assert ended.code == FAILED
    assert ended.is_accounted_for()
    assert ended.counts["delivered"] == 0


def test_standard_error_is_full(m3_run, source):
    """A full standard error changes nothing about the run."""
    words, ids = pipeline("file", source, m3_run.folder / "out")
    with open("/dev/full", "wb") as full:
        process = m3_run.start(*words)
        process.communicate(timeout=30)
        full.flush()
    assert process.returncode == 0
    assert ids(m3_run.folder / "out") == list(range(COUNT))


def test_no_room_for_the_report(m3_run, source):
    """A report that cannot be written is said, after what became of the items."""
    words, ids = pipeline("file", source, m3_run.folder / "out")
    ended = m3_run.run(*words, "--report", "/dev/full")
    assert ended.code == FAILED
    assert "--report /dev/full: cannot be written: No space left on device" in ended.said
    assert f"{COUNT:,} delivered" in ended.said
    assert "Traceback" not in ended.said
    assert ids(m3_run.folder / "out") == list(range(COUNT))


def is_whole(state):
    with closing(sqlite3.connect(state / "state.db")) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("kib", [4, 12, 32, 48, 52, 96])
@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_no_room_for_the_checkpoint(m3_run, source, disk, sink, kib):
    """Where no checkpoint can be written the run fails; its state is whole and goes on later."""
    target = m3_run.folder / "out"
    words, ids = pipeline(sink, source, target, "checkpoint_interval=0.001")
    disk.resize(kib)
    words += ["--state", disk.path / "state"]
    ended = m3_run.run(*words)
    assert ended.code in (FAILED, MISTAKE, 0)
    assert ended.is_accounted_for()
    disk.resize(16 * 1024)
    ended = m3_run.run(*words)
    assert ended.code == 0, ended.said
    assert ids(target) == list(range(COUNT))
    assert is_whole(disk.path / "state")


def test_no_room_while_a_state_is_made(disk):
    """However much room is missing for a new state, with room again it is made as if at first."""
    refused = 0
    for kib in range(4, 100, 4):
        disk.resize(kib)
        folder = disk.path / str(kib)
        try:
            StateStore(folder).close()
        except StateError:
            refused += 1
        disk.resize(16 * 1024)
        StateStore(folder).close()
        assert sorted(os.listdir(folder)) == ["lock", "state.db"]
        assert is_whole(folder)
        shutil.rmtree(folder)
    assert refused > 10


@pytest.mark.parametrize("limit", [2048, 9000, 30_000, 100_000])
def test_no_file_may_grow(m3_run, source, limit):
    """The same with a limit on the length of every file: sink and state at once."""
    target = m3_run.folder / "out"
    words, ids = pipeline("jsonl", source, target, "checkpoint_interval=0.001")
    words += ["--state", m3_run.folder / "state"]
    ended = m3_run.run(*words, limits={"RLIMIT_FSIZE": limit})
    assert ended.code in (FAILED, MISTAKE)
    assert "File too large" in ended.said or "disk I/O" in ended.said or "full" in ended.said
    ended = m3_run.run(*words)
    assert ended.code == 0, ended.said
    assert ids(target) == list(range(COUNT))


@pytest.mark.parametrize("name", ["letters.db", "letters.jsonl"])
@pytest.mark.parametrize("kib", [4, 24, 128])
def test_no_room_for_dead_letters(m3_run, source, disk, name, kib):
    """An item that cannot be kept fails the run; with room again, each is there once."""
    target = m3_run.folder / "out"
    words, ids = pipeline("jsonl", source, target, "transport.on_error=dead_letter")
    letters = disk.path / name
    words += ["--transport", "faulty:every_third", "--dead-letters", letters]
    words += ["--state", m3_run.folder / "state"]
    disk.resize(kib)
    ended = m3_run.run(*words)
    assert ended.code in (FAILED, MISTAKE)
    assert ended.is_accounted_for()
    assert "dead letter" in ended.said
    disk.resize(64 * 1024)
    ended = m3_run.run(*words)
    assert ended.code == INCOMPLETE, ended.said
    assert ids(target) == [n for n in range(COUNT) if n % 3]
    assert ids_in_letters(letters) == [n for n in range(COUNT) if n % 3 == 0]


def ids_in_letters(path):
    store = open_dead_letters(path)
    try:
        return [letter.item["id"] for letter in store.select()]
    finally:
        store.close()
