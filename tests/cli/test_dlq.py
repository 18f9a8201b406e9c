"""``m3 dlq``: dead letters at the shell."""

import json
import os
import signal
from contextlib import closing
from dataclasses import replace

import pytest

from m3.cli.letters_shown import as_json, details, in_one_line, statistics
from m3.engine.dead_letter import DeadLetter
from m3.engine.letters import open_dead_letters, read_dead_letters
from m3.errors import StageError

pytestmark = pytest.mark.once

FILE = """
    [[frontend]]
    use = "stdin"

    [[transport]]
    use = "stages_of_test:Strict"
    name = "strict"
    on_error = "skip"

    [[backend]]
    use = "file"
    path = "out.txt"
"""

FIXED = """
from m3.stages import Transport


class Strict(Transport):
    def transport(self, data):
        return data
"""

LETTER = DeadLetter(
    id=7,
    item=b"bad",
    text="b'bad'",
    is_plain=True,
    position=3,
    stage="strict",
    kind="transport",
    worker=0,
    pipeline="clean",
    error_type="ValueError",
    message="not good",
    traceback="Traceback (most recent call last):\n  somewhere\nValueError: not good\n",
    attempts=2,
    first_failed=0.0,
    last_failed=1.5,
)


@pytest.fixture(params=["letters.db", "letters.jsonl"])
def store(request, command):
    """The path of a store with three letters."""
    path = command.folder / request.param
    put(path, b"bad", stage="strict", now=1000.0)
    put(path, b"good", stage="strict", now=2000.0)
    put(path, {"n": 1}, stage="file", kind="backend", now=3000.0, error=KeyError("n"))
    return path


def put(path, item, *, stage, now=1.0, kind="transport", error=None):
    failure = StageError(error or ValueError("not good"), stage=stage, worker=0, item=item)
    with closing(open_dead_letters(path)) as letters:
        letters.put(failure, items=[(item, None)], kind=kind, pipeline="p", now=now)


def items_at(path):
    with closing(read_dead_letters(path)) as letters:
        return [letter.item for letter in letters.select()]


# -- looking at them


def test_a_letter_in_one_line():
    """Number, time, stage, error and item."""
    line = in_one_line(LETTER)
    assert line == ("     7  1970-01-01T00:00:01Z  strict  ValueError: not good  item: b'bad'")
    assert "cannot be redriven" in in_one_line(replace(LETTER, is_plain=False, item=None))


def test_nothing_that_a_terminal_obeys():
    """Escape sequences, line ends and marks of direction in any field are shown as text."""
    evil = "\x1b[2J\r\n\u202e\x9b\x07"
    letter = replace(LETTER, stage=evil, message=evil, text=evil, error_type=evil, pipeline=evil)
    letter = replace(letter, item=evil, position=evil, traceback=evil)
    shown = [in_one_line(letter), as_json(letter), *details(letter), *statistics([letter])]
    assert all(line.isprintable() for line in shown)


def test_everything_about_a_letter():
    """Each field, the item as it is kept, and the traceback."""
    text = "\n".join(details(LETTER))
    for part in ("7", "clean", "strict", "worker 0", "2", "not good", "1970-01-01T00:00:01Z"):
        assert part in text
    assert '{"$bytes":"YmFk"}' in text
    assert text.endswith("  somewhere\nValueError: not good")


def test_ls(command, store):
    """One line per letter; --only and --stage select; --json gives the data."""
    done = command.run("dlq", "ls", str(store))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2", "3"]
    done = command.run("dlq", "ls", str(store), "--only", "KeyError")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["3"]
    done = command.run("dlq", "ls", str(store), "--stage", "strict", "--json")
    letters = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(letter["id"], letter["item"]) for letter in letters] == [
        (1, {"$bytes": "YmFk"}),
        (2, {"$bytes": "Z29vZA=="}),
    ]
    assert letters[0].keys() == set(DeadLetter.__slots__)


def test_show(command, store):
    """All of one letter; a number that is not there is a mistake."""
    done = command.run("dlq", "show", str(store), "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert '{"n":1}' in done.stdout
    done = command.run("dlq", "show", str(store), "4")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no letter 4" in done.stderr


def test_stats(command, store):
    """Counts by stage and type, the most frequent first, and the times."""
    done = command.run("dlq", "stats", str(store))
    assert done.stdout.splitlines() == [
        "3 letters, the oldest of 1970-01-01T00:16:40Z, the newest of 1970-01-01T00:50:00Z",
        "       2  strict  ValueError",
        "       1  file  KeyError",
    ]
    command.run("dlq", "purge", str(store), "--all")
    assert command.run("dlq", "stats", str(store)).stdout == "no letters\n"


def test_the_folder_of_a_state(command):
    """A folder stands for the store that runs keep in it."""
    put(command.folder / "st" / "dead-letters.db", b"x", stage="strict")
    assert len(command.run("dlq", "ls", "st").stdout.splitlines()) == 1


@pytest.mark.parametrize("name", ["ls", "stats", "purge --all", "show 1", "redrive p.toml"])
def test_a_store_that_is_not_there(command, name):
    """It is a mistake, and no file is made."""
    (command.folder / "p.toml").write_text(FILE)
    first, *rest = name.split()
    done = command.run("dlq", first, "absent.db", *rest)
    assert done.returncode == 2
    assert "m3: absent.db: there is no such store of dead letters" in done.stderr
    assert not (command.folder / "absent.db").exists()


def test_a_cut_off_line_is_noted(command):
    """What is left out of a file of JSON lines is said on stderr."""
    path = command.folder / "letters.jsonl"
    put(path, b"x", stage="strict")
    with path.open("ab") as file:
        file.write(b'{"id": 2, ')
    done = command.run("dlq", "ls", str(path))
    assert len(done.stdout.splitlines()) == 1
    assert "line 2: the last letter is cut off" in done.stderr


def test_a_damaged_store(command):
    """It is refused with the line that is wrong."""
    path = command.folder / "letters.jsonl"
    path.write_text("garbage\n")
    done = command.run("dlq", "ls", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 1: is no dead letter" in done.stderr


# -- removing them


def test_purge(command, store):
    """Removes what is selected, and says how many; without a filter, only with --all."""
    done = command.run("dlq", "purge", str(store))
    assert done.returncode == 2
    assert "--all" in done.stderr
    assert len(items_at(store)) == 3
    done = command.run("dlq", "purge", str(store), "--before", "1970-01-01T00:20:00")
    assert (done.returncode, done.stdout) == (0, "1 letter removed\n")
    assert command.run("dlq", "purge", str(store), "--only", "OSError").stdout == (
        "0 letters removed\n"
    )
    assert command.run("dlq", "purge", str(store), "--id", "2").stdout == "1 letter removed\n"
    assert items_at(store) == [{"n": 1}]
    assert command.run("dlq", "purge", str(store), "--all", "--id", "3").returncode == 2
    assert command.run("dlq", "purge", str(store), "--all").stdout == "1 letter removed\n"
    assert items_at(store) == []


def test_a_date_that_is_none(command, store):
    """A mistake on the command line: exit code 2."""
    done = command.run("dlq", "purge", str(store), "--before", "yesterday")
    assert done.returncode == 2
    assert "is no date" in done.stderr
    assert len(items_at(store)) == 3


# -- redriving them


def test_redrive_from_a_file(command, store):
    """What is delivered leaves the store, what fails again stays; exit codes 3 and 0."""
    (command.folder / "p.toml").write_text(FILE)
    (command.folder / "out.txt").write_text("before\n")
    command.run("dlq", "purge", str(store), "--id", "3")
    done = command.run("dlq", "redrive", str(store), "p.toml", "--report", "report.json")
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert "m3: warning: failed again: stage 'strict', worker 0" in done.stderr
    assert done.stderr.splitlines()[-1] == "m3: 1 letter redriven, 1 failed again"
    assert (command.folder / "out.txt").read_text() == "before\ngood\n"
    assert items_at(store) == [b"bad"]
    report = json.loads((command.folder / "report.json").read_text())
    assert (report["redriven"], report["failed_again"]) == (1, 1)
    (command.folder / "app" / "stages_of_test.py").write_text(FIXED)
    done = command.run("dlq", "redrive", str(store), "p.toml")
    assert (done.returncode, done.stderr) == (0, "m3: 1 letter redriven, 0 failed again\n")
    assert (command.folder / "out.txt").read_text() == "before\ngood\nbad\n"
    assert items_at(store) == []
    assert command.run("dlq", "redrive", str(store), "p.toml").returncode == 0


def test_a_run_a_fix_and_a_redrive(command):
    """Together they give what a run without failures gives: every line, once."""
    (command.folder / "p.toml").write_text(FILE.replace("skip", "dead_letter"))
    lines = ["good", "bad", "fine", "bad"]
    done = command.run("run", "p.toml", "--dead-letters", "dead.db", stdin="\n".join(lines))
    assert done.returncode == 3, done.stderr
    (command.folder / "app" / "stages_of_test.py").write_text(FIXED)
    done = command.run("dlq", "redrive", "dead.db", "p.toml")
    assert (done.returncode, done.stderr) == (0, "m3: 2 letters redriven, 0 failed again\n")
    assert sorted((command.folder / "out.txt").read_text().split()) == sorted(lines)
    assert command.run("dlq", "stats", "dead.db").stdout == "no letters\n"


def test_redrive_from_options(command, store):
    """The pipeline may be given by options; no frontend is needed."""
    done = command.run(
        *("dlq", "redrive", str(store), "--transport", "builtins:str", "--to", "builtins:str"),
        *("--only", "KeyError", "--quiet"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "{'n': 1}\n"
    assert len(items_at(store)) == 2


def test_a_redrive_that_fails(command, store):
    """Under the policy "fail" the exit code is 1, and what was not delivered is left."""
    done = command.run(
        *("dlq", "redrive", str(store), "--transport", "stages_of_test:Strict"),
        *("--set", "transport.name=strict", "--id", "1"),
    )
    assert done.returncode == 1
    assert "not good" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "m3: 0 letters redriven, 0 failed again, 1 left as they were"
    )
    assert len(items_at(store)) == 3


def test_a_pipeline_that_does_not_fit(command, store):
    """A stage that the pipeline has not is a mistake, and nothing is run."""
    done = command.run("dlq", "redrive", str(store), "--transport", "builtins:str")
    assert (done.returncode, done.stdout) == (2, "")
    assert "m3: letter 1 failed at stage 'strict'" in done.stderr
    done = command.run("dlq", "redrive", str(store), "--transport", "no.such:Thing")
    assert done.returncode == 2
    assert len(items_at(store)) == 3


def test_what_is_text_only_is_counted(command):
    """Letters that cannot be redriven are said, and the exit code is 3."""
    path = command.folder / "letters.db"
    put(path, object(), stage="builtins:str")
    done = command.run("dlq", "redrive", str(path), "--transport", "builtins:str")
    assert done.returncode == 3
    assert "1 cannot be redriven, for they are kept as text only" in done.stderr


def test_a_second_redrive_is_refused(command, store):
    """Two at once would deliver twice."""
    with closing(open_dead_letters(store)) as letters, letters.redriving():
        done = command.run(
            "dlq", "redrive", str(store), "--transport", "builtins:str", "--to", "builtins:str"
        )
    assert done.returncode == 2
    assert "another process" in done.stderr
    assert len(items_at(store)) == 3
    assert {path.name for path in command.folder.iterdir()} == {"app", store.name}


def test_a_redrive_that_is_stopped(command):
    """SIGTERM: what is under way is finished, the rest is left, and the process ends by it."""
    path = command.folder / "letters.db"
    for item in (b"1", b"2", b"3"):
        put(path, item, stage="gate")
    gate = command.gate()
    process = command.start(
        *("dlq", "redrive", str(path), "--transport", "stages_of_test:Gate"),
        *("--set", f"transport.path={gate}", "--set", "transport.name=gate"),
    )
    assert process.stderr.readline() == b"at the gate\n"
    process.send_signal(signal.SIGTERM)
    assert b"SIGTERM: stopping" in process.stderr.readline()
    with gate.open("w"):
        pass
    out, err = process.communicate(timeout=50)
    assert process.returncode == -signal.SIGTERM
    delivered = out.split()
    assert len(delivered) + len(items_at(path)) == 3
    assert b"redriven" in err


def test_stdout_that_nobody_reads(command, store):
    """The redrive ends quietly, and the letters are left."""
    read, write = os.pipe()
    os.close(read)
    process = command.start(
        *("dlq", "redrive", str(store), "--transport", "builtins:str", "--to", "builtins:str"),
        stdout=write,
    )
    os.close(write)
    _, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (141, b"")
    assert len(items_at(store)) == 3
