"""F2: an item that kills the process is found and put aside, and only that one."""

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from functools import partial

import deadly
import pytest
from sturdy import lines_of, rows_of

from m3.engine.crash_record import DEATHS_ALONE
from m3.engine.letters import read_dead_letters

COUNT = 1000
BAD = 500
GUARD = 3
MORE = 1 + DEATHS_ALONE
"""So many deaths more it takes to find an item: with a group of them, then with it alone."""

pytestmark = [pytest.mark.timeout(180), pytest.mark.once]

CREEPING = 20
"""So many runs may die and have moved the mark on, until it is right before the item."""

INPUTS = {
    "file": lambda number: f"{number}\n",
    "jsonl": lambda number: f'{{"id": {number}}}\n',
}

STAGES = r'''
import os
import pathlib
import time

from m3 import Frontend, Item


def number_of(item):
    return item["id"] if isinstance(item, dict) else int(item)


def deadly(item):
    here = pathlib.Path("killers")
    if here.exists() and number_of(item) in map(int, here.read_text().split()):
        os.abort()
    return item


def rarely(item):
    if number_of(item) == 500:
        tries = pathlib.Path("tries")
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if len(tries.read_text()) <= 5:
            os.abort()
    return item


def rows(item):
    return {"id": number_of(deadly(item))}


def holding(item):
    print(number_of(item), flush=True)
    while pathlib.Path("hold").exists():
        time.sleep(0.01)
    return item


class Waiting(Frontend):
    """Has nothing to produce as long as there is a file."""

    def __init__(self, *, count: int):
        self.count = count

    def resume(self, checkpoint):
        self.first = 0 if checkpoint is None else checkpoint + 1

    def produce(self):
        print("waiting", flush=True)
        while pathlib.Path("hold").exists():
            time.sleep(0.01)
        for number in range(self.first, self.count):
            yield Item(b"%d" % number, number)
'''


class Guarded:
    """A command line that is run until it no longer dies."""

    def __init__(self, runner, source, sink, transport="killing:deadly", frontend=None):
        self.runner = runner
        self.folder = runner.folder
        self.sink = sink
        self.is_table = sink == "sqlite"
        (self.folder / "app" / "killing.py").write_text(STAGES)
        lines = map(INPUTS[source], range(COUNT))
        (self.folder / "in").write_text("".join(lines))
        self.words = ["--frontend", frontend or source, "--transport", transport, "--backend", sink]
        self.words += ["--set", "backend.path=out", "--set"]
        self.words += [f"frontend.count={COUNT}" if frontend else "frontend.path=in"]
        self.words += ["--set", "transport.workers=8", "--set", "checkpoint_interval=0.01"]
        self.words += ["--set", "backend.table=t"] if self.is_table else []
        self.words += ["--state", "state", "--crash-guard", str(GUARD)]
        self.said = []

    def kill(self, *numbers):
        """Have these items kill the process from now on, and no others."""
        (self.folder / "killers").write_text(" ".join(map(str, numbers)))

    def hold(self):
        """Have stages wait from now on."""
        (self.folder / "hold").touch()

    def let_go(self):
        """Have them go on."""
        (self.folder / "hold").unlink()

    def kill_when_it_speaks(self):
        """Start it, and kill it when it has written a line on stdout."""
        process = self.runner.start(*self.words)
        process.stdout.readline()
        process.kill()
        assert self.runner.end(process).code == -signal.SIGKILL

    def run(self, most):
        """Run it again and again; return how it ended, and after how many deaths."""
        for deaths in range(most + 1):
            ended = self.runner.run(*self.words)
            self.said.append(ended.said)
            if ended.code != -signal.SIGABRT:
                return ended, deaths
        raise AssertionError(f"it still dies: {ended.said}")

    def content(self):
        """Return the numbers in the sink, sorted."""
        path = self.folder / "out"
        if self.is_table:
            database = sqlite3.connect(path)
            found = [number for (number,) in database.execute("select id from t")]
            database.close()
        else:
            found = [int(line.strip(b'{"id: }')) for line in path.read_bytes().splitlines()]
        return sorted(found)

    def letters(self):
        """Return the dead letters."""
        if not (self.folder / "state" / "dead-letters.db").exists():
            return []
        store = read_dead_letters(self.folder / "state" / "dead-letters.db")
        found = [*store.select()]
        store.close()
        return found

    def redrive(self):
        """Send the dead letters through the same pipeline again."""
        command = [sys.executable, "-m", "m3", "dlq", "redrive", "state", "--app-dir", "app"]
        subprocess.run(
            [*command, *self.words],
            cwd=self.folder,
            env=self.runner.environment(),
            check=True,
            timeout=50,
        )


@pytest.fixture
def guarded(m3_run):
    """Return what makes such a command line."""
    return partial(Guarded, m3_run)


@pytest.mark.parametrize(
    ("source", "sink", "transport"),
    [
        ("file", "file", "killing:deadly"),
        ("jsonl", "jsonl", "killing:deadly"),
        ("file", "sqlite", "killing:rows"),
    ],
)
def test_the_item_that_kills_is_put_aside(guarded, source, sink, transport):
    """
    After some restarts everything else is delivered, once, and the item is a dead letter.

    Redriven after the code was mended, it makes the result that of a run without a fault.
    """
    run = guarded(source, sink, transport)
    run.kill(BAD)
    ended, deaths = run.run(most=CREEPING + GUARD + MORE)
    assert ended.code == 3, ended.said
    assert ended.is_accounted_for()
    assert run.content() == [number for number in range(COUNT) if number != BAD]
    (letter,) = run.letters()
    assert (letter.position[1], letter.attempts) == (BAD + 1, DEATHS_ALONE)
    assert (letter.kind, letter.error_type) == ("frontend", "m3.errors.CrashError")
    guards = [[line for line in said.splitlines() if "crash guard" in line] for said in run.said]
    assert [len(lines) for lines in guards[-MORE - 1 :]] == [1] * MORE + [2]
    assert not any(guards[:GUARD])
    assert deaths >= GUARD + MORE
    run.kill()
    run.redrive()
    assert (run.content(), run.letters()) == ([*range(COUNT)], [])
    assert run.run(most=0)[0].code == 0


def test_several_items_that_kill(guarded):
    """Each is found; after the first, it takes fewer deaths."""
    bad = [500, 501, 999]
    run = guarded("file", "file")
    run.kill(*bad)
    ended, _ = run.run(most=CREEPING + GUARD + len(bad) * MORE)
    assert ended.code == 3, ended.said
    assert run.content() == [number for number in range(COUNT) if number not in bad]
    assert [letter.position[1] - 1 for letter in run.letters()] == bad


def test_an_item_that_kills_only_some_times(guarded):
    """What gets through in the end is delivered, and nothing is put aside."""
    run = guarded("file", "file", "killing:rarely")
    ended, deaths = run.run(most=5)
    assert (ended.code, deaths) == (0, 5), ended.said
    assert run.content() == [*range(COUNT)]
    assert run.letters() == []


@pytest.mark.parametrize("more", [0, 1, 2])
def test_kills_from_outside_before_an_item_was_alone_twice(guarded, more):
    """As long as no item was alone under way at two deaths, none is put aside."""
    run = guarded("file", "file", "killing:holding")
    run.hold()
    for _ in range(GUARD + more):
        run.kill_when_it_speaks()
    run.let_go()
    ended, deaths = run.run(most=0)
    assert (ended.code, deaths) == (0, 0), ended.said
    assert run.content() == [*range(COUNT)]


def test_kills_from_outside_with_the_same_item_alone(guarded):
    """Who kills the process at the same item again and again cannot be told from that item."""
    run = guarded("file", "file", "killing:holding")
    run.hold()
    for _ in range(GUARD + MORE):
        run.kill_when_it_speaks()
    run.let_go()
    ended, _ = run.run(most=0)
    assert ended.code == 3, ended.said
    assert run.content() == [*range(1, COUNT)]
    run.redrive()
    assert (run.content(), run.letters()) == ([*range(COUNT)], [])


def test_kills_from_outside_with_no_item_under_way(guarded):
    """However often that happens, there is nobody to suspect."""
    run = guarded("file", "file", "killing:deadly", frontend="killing:Waiting")
    run.hold()
    for _ in range(GUARD + MORE + 3):
        run.kill_when_it_speaks()
    run.let_go()
    ended, deaths = run.run(most=0)
    assert (ended.code, deaths) == (0, 0), ended.said
    assert run.content() == [*range(COUNT)]


HOWS = ("plain", "chained", "async", "expand", "batches", "ordered", "retries", "two frontends")
SINKS = ("lines", "appended", "table")
MIXED = [*zip(HOWS, itertools.cycle(SINKS))]


@pytest.mark.parametrize(
    ("how", "sink"),
    [
        pytest.param(how, sink, marks=() if (how, sink) in MIXED else pytest.mark.stress)
        for how in HOWS
        for sink in SINKS
    ],
)
def test_in_any_pipeline(make_runner, tmp_path, how, sink):
    """
    Two items that kill are put aside, and no other, whatever lies between source and sink.

    Of two frontends, each has one of them.
    """
    last = deadly.FURTHER + 310 if how == "two frontends" else deadly.COUNT - 1
    bad = {300, last}
    (tmp_path / "killers").write_text(" ".join(map(str, bad)))
    program = [sys.executable, deadly.__file__, how, sink, tmp_path]
    environment = make_runner(tmp_path).environment(PYTHONPATH=os.pathsep.join(sys.path))
    for _ in range(40):
        done = subprocess.run(program, env=environment, capture_output=True, timeout=50)
        if done.returncode != -signal.SIGABRT:
            break
    assert done.returncode == 3, done.stderr.decode()
    store = read_dead_letters(tmp_path / "state" / "dead-letters.db")
    letters = [letter.item for letter in store.select()]
    store.close()
    assert sorted(letters) == sorted(bad)
    found = (rows_of if sink == "table" else lines_of)(tmp_path / sink)
    if sink == "appended":
        found = set(found)
    assert sorted(found) == sorted(deadly.expected(how, bad))
