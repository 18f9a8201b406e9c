"""What was redriven into the sinks of a run with a state is as safe there as what the run put."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace

import pytest

from m3 import Backend, Pipeline
from m3.connectors.csv import CsvBackend
from m3.connectors.file import FileBackend
from m3.connectors.jsonl import JsonlBackend
from m3.connectors.sqlite import SqliteBackend
from m3.engine.letters import open_dead_letters
from m3.engine.redrive import redrive
from m3.engine.state import LETTERS, StateStore
from m3.errors import DeadLetterError, StageError, StateError

ITEMS = 60


class Code:
    """Code of a user that refuses some items until it is fixed."""

    makes_text = False

    def __init__(self):
        self.is_fixed = False

    def check(self, line):
        number = int(line)
        if number % 10 == 3 and not self.is_fixed:
            raise ValueError(f"bad {number}")
        return str(number) if self.makes_text else {"n": str(number), "g": str(number % 2)}


@pytest.fixture
def code():
    return Code()


@pytest.fixture
def source(tmp_path):
    """Return the input, of ITEMS lines."""
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{number}\n" for number in range(ITEMS)))
    return path


@pytest.fixture(params=["dead-letters.db", "letters.jsonl"])
def store(request, tmp_path):
    """Return the path of dead letters, in the state or beside it."""
    return tmp_path / ("state" if request.param == "dead-letters.db" else "") / request.param


SINKS = {
    "file": (FileBackend, "out.txt", {}),
    "jsonl": (JsonlBackend, "out.jsonl", {}),
    "appended": (JsonlBackend, "out.jsonl", {"append": True}),
    "templated": (JsonlBackend, "out-{g}.jsonl", {}),
    "csv": (CsvBackend, "out.csv", {}),
}


def pipeline_of(code, source, store, *backends, state=True):
    """Return a pipeline with a state, or the same without a word of it."""
    folder = source.parent / "state" if state else None
    pipeline = Pipeline("file", path=source, state=folder, dead_letters=store)
    pipeline.transport(code.check, name="check", on_error="dead_letter")
    for backend, options in backends:
        pipeline.backend(backend, **options)
    return pipeline


def again(pipeline, store):
    with closing(open_dead_letters(store)) as letters:
        return redrive(pipeline.plan(), letters)


def letters_at(store):
    with closing(open_dead_letters(store)) as letters:
        return [*letters.select()]


def numbers_in(folder):
    """Return the numbers in the output, sorted, each as often as it is there."""
    lines = [line for path in folder.glob("out*") for line in path.read_text().splitlines()]
    words = [line.split(",")[0].removeprefix('{"n":').strip(' "') for line in lines]
    return sorted(int(word) for word in words if word.isdigit())


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("tells_state", [True, False])
def test_the_next_run_leaves_it(code, source, store, sink, tells_state):
    """The next run goes on behind it, also if the redrive was not told of the state."""
    code.makes_text = sink == "file"
    kind, name, options = SINKS[sink]
    backend = (kind, {"path": source.parent / name, **options})
    pipeline = pipeline_of(code, source, store, backend)
    assert pipeline.run().dead_lettered == ITEMS // 10
    code.is_fixed = True
    told = pipeline_of(code, source, store, backend, state=tells_state)
    assert again(told, store).gone == ITEMS // 10
    assert numbers_in(source.parent) == [*range(ITEMS)]
    pipeline.run()
    assert numbers_in(source.parent) == [*range(ITEMS)]
    with source.open("a") as file:
        file.write(f"{ITEMS}\n")
    pipeline.run()
    assert numbers_in(source.parent) == [*range(ITEMS + 1)]
    assert letters_at(store) == []


def test_beside_a_sink_that_commits_with_its_data(code, source, store):
    """A sink of the run that had no part in it is neither in the way nor disturbed."""
    folder = source.parent
    pipeline = pipeline_of(
        code,
        source,
        store,
        (SqliteBackend, {"path": folder / "data.db", "table": "numbers"}),
        (JsonlBackend, {"path": folder / "out.jsonl"}),
    )
    pipeline.run()
    code.is_fixed = True
    assert again(pipeline, store).gone == ITEMS // 10
    pipeline.run()
    assert numbers_in(folder) == [*range(ITEMS)]
    with closing(sqlite3.connect(folder / "data.db")) as database:
        found = database.execute("SELECT n FROM numbers").fetchall()
    assert sorted(int(number) for (number,) in found) == [*range(ITEMS)]


def test_not_while_a_run_uses_the_state(code, source, store):
    """It is refused then, for both would write to the sinks; nothing was touched."""
    pipeline = pipeline_of(code, source, store, (JsonlBackend, {"path": source.parent / "out"}))
    pipeline.run()
    with (
        closing(StateStore(source.parent / "state")),
        pytest.raises(StateError, match="is used by"),
    ):
        again(pipeline, store)
    assert len(letters_at(store)) == ITEMS // 10


def test_what_it_makes_of_a_letter_stays_a_letter(source, store, tmp_path):
    """A new letter, of something made from an old one, is not taken back by the next run."""
    is_fixed = False

    def expand(line):
        if not is_fixed:
            raise ValueError(line)
        return [int(line), -int(line) or 1000]

    class Sink(Backend):
        def process(self, data):
            raise ValueError(data)

    def flat(pair):
        yield from pair

    source.write_text("1\n2\n")
    pipeline = Pipeline("file", path=source, state=tmp_path / "state", dead_letters=store)
    pipeline.transport(expand, name="expand", on_error="dead_letter").transport(flat)
    pipeline.backend(Sink, on_error="dead_letter")
    pipeline.run()
    assert len(letters_at(store)) == 2
    is_fixed = True
    again(pipeline, store)
    found = sorted(letter.item for letter in letters_at(store))
    assert found == [-2, -1, 1, 2]
    pipeline.run()
    assert sorted(letter.item for letter in letters_at(store)) == found


@pytest.mark.parametrize("broken", ["the marks", "the letters"])
def test_what_fails_in_between_loses_nothing(code, source, store, monkeypatch, broken):
    """First the data, then the marks, then the letters: whatever comes last may come again."""
    pipeline = pipeline_of(
        code, source, store, (JsonlBackend, {"path": source.parent / "out.jsonl"})
    )
    pipeline.run()
    code.is_fixed = True

    def fail(*_, **__):
        raise DeadLetterError("no room")

    with closing(open_dead_letters(store)) as letters:
        kind, method = (StateStore, "amend")
        if broken == "the letters":
            kind, method = (type(letters), "settle")
        with monkeypatch.context() as patched, pytest.raises((StageError, DeadLetterError)):
            patched.setattr(kind, method, fail)
            redrive(pipeline.plan(), letters)
    assert len(letters_at(store)) == ITEMS // 10
    pipeline.run()
    assert again(pipeline, store).gone == ITEMS // 10
    pipeline.run()
    twice = ITEMS // 10 if broken == "the letters" else 0
    assert len(numbers_in(source.parent)) == ITEMS + twice
    assert {*numbers_in(source.parent)} == {*range(ITEMS)}


def test_killed_in_the_middle(code, source, store):
    """After kill -9, the next run and the next redrive give the whole result."""
    out = source.parent / "out.jsonl"
    pipeline = pipeline_of(code, source, store, (JsonlBackend, {"path": out}))
    pipeline.run()
    program = f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_redrive_state import Code, JsonlBackend, again, pipeline_of
        class Deadly(Code):
            def check(self, line):
                if int(line) == 43:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().check(line)
        code = Deadly()
        code.is_fixed = True
        sink = (JsonlBackend, {{"path": {str(out)!r}}})
        store = Path({str(store)!r})
        pipeline = pipeline_of(code, Path({str(source)!r}), store, sink)
        again(pipeline, store)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    code.is_fixed = True
    pipeline.run()
    again(pipeline, store)
    pipeline.run()
    assert {*numbers_in(source.parent)} == {*range(ITEMS)}
    assert letters_at(store) == []


def interrupt(folder):
    """Have the checkpoint of a state be one of a run that has not come to its end."""
    with closing(StateStore(folder)) as state:
        last = state.checkpoint
        state.write(replace(last, number=last.number + 1, finished=False))


def test_letters_that_come_again_are_not_redriven(code, source, store):
    """What became a letter since the last checkpoint comes again from its source."""
    folder = source.parent / "state"
    pipeline = pipeline_of(code, source, store, (JsonlBackend, {"path": source.parent / "out"}))
    pipeline.run()
    with closing(StateStore(folder)) as state:
        last = state.checkpoint
        mark = last.sinks[LETTERS] | {"last": 4}
        changed = replace(last, number=last.number + 1, sinks=last.sinks | {LETTERS: mark})
        state.write(changed)
    code.is_fixed = True
    assert again(pipeline, store).gone == 4


def test_what_only_the_next_run_can_tell(code, source, store):
    """Where a sink that commits with its data may be ahead of the state, it goes on first."""
    folder = source.parent
    backends = [
        (SqliteBackend, {"path": folder / "data.db", "table": "numbers"}),
        (JsonlBackend, {"path": folder / "out.jsonl"}),
    ]
    pipeline = pipeline_of(code, source, store, *backends)
    pipeline.run()
    interrupt(folder / "state")
    code.is_fixed = True
    with pytest.raises(StateError, match="go on with it first"):
        again(pipeline, store)
    assert len(letters_at(store)) == ITEMS // 10


def test_letters_of_several_states(code, source, store):
    """Where nobody says which is meant, it is refused."""
    sink = (JsonlBackend, {"path": source.parent / "out.jsonl"})
    pipeline_of(code, source, store, sink).run()
    other = Pipeline("file", path=source, state=source.parent / "other", dead_letters=store)
    other.transport(code.check, name="check", on_error="dead_letter")
    other.backend(JsonlBackend, path=source.parent / "other.jsonl").run()
    with pytest.raises(StateError, match=r"several states.*other or state="):
        again(pipeline_of(code, source, store, sink, state=False), store)
