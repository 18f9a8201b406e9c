"""``m3 state``."""

import json
import os

import pytest
from click.testing import CliRunner

from m3.cli.commands import commands
from m3.engine.crash_record import CrashRecord, Suspect
from m3.engine.state import Checkpoint, StateStore

LAST = Checkpoint(
    7,
    sources={"file/0": {"offset": 123}, "file/1": None},
    sinks={"out/0": (b"\xff", 5)},
    counts={"produced": 20, "delivered": 19},
    stages={"frontends": ["file"], "backends": ["out", "print"]},
)


@pytest.fixture
def folder(command):
    """The folder of a state that no run uses."""
    store = StateStore(command.folder / "st", name="clean")
    store.write(LAST)
    store.close()
    return command.folder / "st"


def test_show(command, folder):
    """Key, name, number, time, counts and every mark are shown."""
    done = command.run("state", "show", "st")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "state of the pipeline 'clean'"
    words = [line.split(maxsplit=1) for line in lines]
    shown = {word[0]: word[-1] for word in words}
    assert len(shown["key"]) == 36
    assert shown["checkpoint"].startswith("7, written 20")
    assert (shown["finished"], shown["file/0"], shown["file/1"]) == (
        "no",
        "{'offset': 123}",
        "None",
    )
    assert (shown["out/0"], shown["produced"]) == (r"(b'\xff', 5)", "20")
    assert "in use      no" in done.stdout
    assert sorted(os.listdir(folder)) == ["lock", "state.db"]


def test_show_as_json(command, folder):
    """--json prints the same as one object."""
    done = command.run("state", "show", "st", "--json")
    shown = json.loads(done.stdout)
    assert shown.keys() == {
        *("schema", "key", "name", "created", "written", "user"),
        *("number", "sources", "sinks", "counts", "finished", "stages", "crashes"),
    }
    assert (shown["schema"], shown["name"], shown["user"]) == (1, "clean", "")
    assert shown["sources"] == {"file/0": {"offset": 123}, "file/1": None}
    assert shown["sinks"] == {"out/0": {"$tuple": [{"$bytes": "/w=="}, 5]}}
    assert (shown["number"], shown["finished"]) == (7, False)
    assert shown["stages"] == {"frontends": ["file"], "backends": ["out", "print"]}


def test_show_escapes(command):
    """Names of stages cannot write control characters onto the terminal."""
    store = StateStore(command.folder / "st", name="\x1b[31m")
    store.write(Checkpoint(1, {"\x1b[2J/0": "\x1b[0m"}, finished=True))
    store.close()
    done = command.run("state", "show", "st")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "yes: the input had ended" in done.stdout


def test_show_crashes(command):
    """How many runs have died is told as the next one would know it, and over which item."""
    store = StateStore(command.folder / "st")
    store.write(Checkpoint(1, {"file/0": 5}))
    suspects = {"file/0": Suspect(5, "6", 1)}
    record = CrashRecord(4, True, {"file/0": 5}, ahead=9, in_hand="file/0", suspects=suspects)
    store.write_crashes(record.plain())
    during = command.run("state", "show", "st").stdout
    store.close()
    assert "  crashes     4 in a row, without getting further\n" in during
    assert "1 with the item at 6 alone\n" in during
    after = command.run("state", "show", "st").stdout
    assert "  crashes     5 in a row, without getting further\n" in after
    assert "2 with the item at 6 alone\n" in after
    assert json.loads(command.run("state", "show", "st", "--json").stdout)["crashes"] == 5


def test_while_a_run_uses_it(command, folder):
    """A state in use can be shown, with the process that uses it, and not reset."""
    store = StateStore(folder, name="clean")
    store.write(Checkpoint(8))
    done = command.run("state", "show", "st")
    assert f"in use      by process {os.getpid()}\n" in done.stdout
    assert "checkpoint  8, " in done.stdout
    assert json.loads(command.run("state", "show", "st", "--json").stdout)["number"] == 8
    done = command.run("state", "reset", "st")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"m3: st is used by another run, process {os.getpid()}; " in done.stderr
    store.write(Checkpoint(9))
    store.close()


def test_reset(command, folder):
    """A reset says what it has removed, and leaves all else; the second time there is nothing."""
    (folder / "dead-letters.db").write_text("x")
    done = command.run("state", "reset", "st")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["removed st/state.db", "removed st/lock"]
    assert os.listdir(folder) == ["dead-letters.db"]
    done = command.run("state", "reset", "st")
    assert (done.returncode, done.stdout) == (0, "there is no state in st\n")


@pytest.mark.parametrize("name", ["state.db", "lock"])
def test_damage(command, folder, name):
    """What is damaged is said in one line, with what to do, and a reset helps."""
    (folder / name).write_bytes(b"nothing")
    done = command.run("state", "show", "st")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"m3: the state cannot be gone on from: st/{name}: ")
    assert done.stderr.count("\n") == 1
    assert "'m3 state reset st'" in done.stderr
    assert command.run("state", "reset", "st").returncode == 0
    assert os.listdir(folder) == []


def test_no_state(command):
    """Where there is no state, that is said."""
    done = command.run("state", "show", "nowhere")
    assert (done.returncode, done.stderr) == (2, "m3: there is no state in nowhere\n")


@pytest.mark.parametrize("name", ["show", "reset"])
def test_help(name):
    """Each has help; without a folder, usage is shown."""
    result = CliRunner().invoke(commands, ["state", name, "--help"])
    assert result.exit_code == 0
    assert "DIR" in result.output
    assert CliRunner().invoke(commands, ["state", name]).exit_code == 2
