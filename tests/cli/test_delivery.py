"""What the command line says about delivery: one line at the start, and ``m3 explain``."""

import json

import pytest

from m3.engine.crash_record import CrashRecord
from m3.engine.state import Checkpoint, StateStore

STAGES = '''
from m3 import Frontend, Item


class Jobs(Frontend):
    """Hands out numbers, and wants to know what became of them."""

    def produce(self):
        for number in range(3):
            yield Item(str(number), number)

    def ack(self, position):
        pass
'''

AT_MOST_ONCE = "at most once (what is under way is lost if the process dies)"
AT_LEAST_ONCE = "at least once (if the process dies nothing is lost, but some items may come twice)"
EFFECTIVELY_ONCE = "effectively once (if the process dies nothing is lost and nothing comes twice)"

LOST = "it cannot go on where a run has ended"
UNKEPT = "it could go on where a run has ended, but no checkpoints are kept; give --state DIR"
AT_END = "what it got is kept when the run has ended well, and not before"
COMES_AGAIN = "what was not acknowledged comes again from its source"
AGAIN = "what comes again is delivered again"
BEHIND = "it goes on behind the last checkpoint"
UNDONE = "it undoes what it got after the last checkpoint"
NOT_UNDONE = "it cannot undo what it got after the last checkpoint"
ONE_TRANSACTION = "what it got is committed together with the checkpoint"
TWO_TRANSACTIONS = "only one worker can commit together with the checkpoint"

NUMBERS = ("--frontend", "sturdy:Numbers", "--set", "frontend.count=3", "--set", "frontend.name=n")
FILES = (
    *("--frontend", "file", "--set", "frontend.name=in", "--set", "frontend.path=in.txt"),
    *("--backend", "file", "--set", "backend.name=out", "--set", "backend.path=out.txt"),
)
STATE = ("--state", "st")


def to(*kinds):
    """Return the options for the backends *kinds* of ``sturdy``, which are called a, b, ..."""
    for number, (kind, name) in enumerate(zip(kinds, "abc", strict=False), 1):
        yield from ("--backend", f"sturdy:{kind}")
        yield from ("--set", f"backend.{number}.name={name}")
        yield from ("--set", f"backend.{number}.path={name}")


CASES = {
    "stdin to stdout": (
        ["--frontend", "stdin"],
        AT_MOST_ONCE,
        [("stdin", "at most once", LOST), ("stdout", "at least once", AGAIN)],
    ),
    "stdin to stdout with state": (
        ["--frontend", "stdin", *STATE],
        AT_MOST_ONCE,
        [
            ("stdin", "at most once", f"{LOST}, so no checkpoints are kept"),
            ("stdout", "at least once", AGAIN),
        ],
    ),
    "own stages without state": (
        [*NUMBERS, *to("Lines")],
        AT_MOST_ONCE,
        [("n", "at most once", UNKEPT), ("a", "at least once", AGAIN)],
    ),
    "own stages with state": (
        [*NUMBERS, *to("Lines"), *STATE],
        EFFECTIVELY_ONCE,
        [("n", "effectively once", BEHIND), ("a", "effectively once", UNDONE)],
    ),
    "acknowledged": (
        ["--frontend", "told:Jobs", "--set", "frontend.name=jobs"],
        AT_LEAST_ONCE,
        [("jobs", "at least once", COMES_AGAIN), ("stdout", "at least once", AGAIN)],
    ),
    "acknowledged, to a file": (
        ["--frontend", "told:Jobs", "--set", "frontend.name=jobs", *FILES[-6:]],
        AT_MOST_ONCE,
        [("jobs", "at least once", COMES_AGAIN), ("out", "at most once", AT_END)],
    ),
    "to stdout with state": (
        [*NUMBERS, *STATE, "--transport", "json.dumps"],
        AT_LEAST_ONCE,
        [("n", "effectively once", BEHIND), ("stdout", "at least once", NOT_UNDONE)],
    ),
    "appending": (
        [*NUMBERS, *to("Lines", "Appended"), *STATE],
        AT_LEAST_ONCE,
        [
            ("n", "effectively once", BEHIND),
            ("a", "effectively once", UNDONE),
            ("b", "at least once", NOT_UNDONE),
        ],
    ),
    "one transaction": (
        [*NUMBERS, *to("Table", "Lines"), *STATE],
        EFFECTIVELY_ONCE,
        [
            ("n", "effectively once", BEHIND),
            ("a", "effectively once", ONE_TRANSACTION),
            ("b", "effectively once", UNDONE),
        ],
    ),
    "two transactions": (
        [*NUMBERS, *to("Table", "Table"), *STATE],
        AT_LEAST_ONCE,
        [
            ("n", "effectively once", BEHIND),
            ("a", "at least once", TWO_TRANSACTIONS),
            ("b", "at least once", TWO_TRANSACTIONS),
        ],
    ),
    "files": (
        [*FILES],
        AT_MOST_ONCE,
        [("in", "at most once", UNKEPT), ("out", "at most once", AT_END)],
    ),
    "files with state": (
        [*FILES, *STATE],
        EFFECTIVELY_ONCE,
        [("in", "effectively once", BEHIND), ("out", "effectively once", UNDONE)],
    ),
}

WITH_STAGES = pytest.mark.parametrize(
    ("arguments", "level", "stages"),
    [pytest.param(*case, id=name) for name, case in CASES.items()],
)


@pytest.fixture
def told(command):
    """The command, with a module that has a frontend which wants to be told, and a file to read."""
    (command.folder / "app" / "told.py").write_text(STAGES)
    (command.folder / "in.txt").write_text("a\nb\nc\n")
    return command


def line_for(level, stages):
    """Return the line for a level, with the first stage that limits it."""
    if level == EFFECTIVELY_ONCE:
        return f"delivery: {level}"
    name, _, reason = min(
        stages, key=lambda it: ("at most once", "at least once", "effectively once").index(it[1])
    )
    return f"delivery: {level}, limited by {name!r}: {reason}"


@WITH_STAGES
def test_the_first_line_says_the_level(told, arguments, level, stages):
    """A run begins with its level, what that means, and the stage that limits it; -q drops it."""
    done = told.run("run", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"m3: {line_for(level, stages)}"
    assert told.run("run", *arguments, "-q").stderr == ""


@WITH_STAGES
def test_explain_says_why(told, arguments, level, stages):
    """``m3 explain`` ends with the same line, then the level of each stage and its reason."""
    done = told.run("explain", *arguments)
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()[-len(stages) - 1 :]
    assert first == line_for(level, stages)
    for row, (name, of_stage, reason) in zip(rows, stages, strict=True):
        assert row.split(maxsplit=1)[0] == name
        assert row.split(maxsplit=1)[1].startswith(f"{of_stage}  ")
        assert row.endswith(f"  {reason}")
    assert not (told.folder / "st").exists()


def test_as_json(told):
    """As JSON, level, stage and reason are fields; the best level is limited by nothing."""
    limited = told.run("run", *NUMBERS, *to("Appended"), *STATE, "--log-format", "json")
    best = told.run("run", *NUMBERS, *to("Lines"), "--state", "other", "--log-format", "json")
    first = json.loads(limited.stderr.splitlines()[0])
    assert (first["level"], first["delivery"]) == ("info", "at_least_once")
    assert (first["limited_by"], first["reason"]) == ("a", NOT_UNDONE)
    assert first["message"] == line_for(AT_LEAST_ONCE, [("a", "at least once", NOT_UNDONE)])
    first = json.loads(best.stderr.splitlines()[0])
    assert (first["delivery"], first["message"]) == (
        "effectively_once",
        f"delivery: {EFFECTIVELY_ONCE}",
    )
    assert not {"limited_by", "reason"} & first.keys()


def test_a_mistake_comes_before_the_level(told):
    """Of a pipeline that cannot run, no level is said."""
    done = told.run("run", *NUMBERS, "--backend", "file", "--set", "backend.encoding=no", *STATE)
    assert done.returncode == 2
    assert "delivery" not in done.stderr


def test_explain_says_how_many_have_died(told):
    """With crash_guard, the last line has the number of deaths at the last checkpoint."""
    arguments = (*NUMBERS, *to("Lines"), *STATE, "--crash-guard", "3")
    assert told.run("explain", *arguments).stdout.splitlines()[-1].endswith("so far 0")
    store = StateStore(told.folder / "st")
    store.write(Checkpoint(1, {"n/0": 1}))
    store.write_crashes(CrashRecord(1, is_running=True, marks={"n/0": 1}).plain())
    store.close()
    assert told.run("explain", *arguments).stdout.splitlines()[-1] == (
        "crash guard: careful after 3 deaths at the same mark; so far 2"
    )
