"""Closed pipes, and exit codes."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from m3.engine.letters import open_dead_letters
from m3.engine.state import Checkpoint, StateStore
from m3.errors import StageError


def read_one_line(command, *arguments, **environment):
    """Start a pipeline, read a line of its output, close the pipe, and return how it ended."""
    process = command.start("run", *arguments, environment=environment)
    line = process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate()
    return line, process.returncode, after_the_first_line(err)


def after_the_first_line(err):
    """Return what was said on stderr after the delivery level."""
    first, _, rest = err.partition(b"\n")
    assert first.startswith(b"m3: delivery: "), err
    return rest


def test_closed_stdout_is_a_quiet_end(command):
    """``m3 run … | head -1`` ends with 141 and without a word, 20 times of 20."""
    endings = {read_one_line(command, "--frontend", "stages_of_test:Endless") for _ in range(20)}
    assert endings == {(b"0\n", 141, b"")}


def test_closed_stdout_is_no_word_at_all_with_quiet(command):
    """With -q nothing at all is said."""
    process = command.start("run", "-q", "--frontend", "stages_of_test:Endless")
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate()
    assert (process.returncode, err) == (141, b"")


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_closed_stdout_is_a_quiet_end_often(command):
    """The same, 200 times of 200, and with several workers."""
    endings = [
        read_one_line(command, "--frontend", "stages_of_test:Endless", *more)[1:]
        for _ in range(100)
        for more in ([], ["--transport", "stages_of_test:Strict", "--workers", "4"])
    ]
    assert endings == [(141, b"")] * 200


def test_closed_stdout_under_printing(command):
    """A backend of the user that prints ends as quietly."""
    arguments = ["--frontend", "stages_of_test:Endless", "--backend", "stages_of_test:Printing"]
    assert read_one_line(command, *arguments) == (b"b'0'\n", 141, b"")


def test_stdout_that_is_closed_at_the_end(command):
    """What is left to write when the run is over may meet a closed pipe, too."""
    reader, writer = os.pipe()
    process = command.start(
        *("run", "--frontend", "stdin", "--backend", "stages_of_test:Printing"), stdout=writer
    )
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(b"a\n")
    assert (process.returncode, after_the_first_line(err)) == (141, b"")


def test_other_broken_pipes_are_failures(command):
    """A connection of the user that breaks is a failure like any other."""
    done = command.run(
        "run", "--frontend", "stdin", "--backend", "stages_of_test:BrokenSocket", stdin="a\n"
    )
    assert done.returncode == 1
    assert "BrokenPipeError: the server went away" in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["run", "--help"]])
def test_commands_with_closed_stdout(command, arguments):
    """Every command ends quietly when nobody reads what it says."""
    reader, writer = os.pipe()
    process = command.start(*arguments, stdout=writer)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, b"")


@pytest.fixture
def kept(command):
    """The folder of a state with a dead letter, and with more marks than a buffer holds."""
    store = StateStore(command.folder / "st")
    store.write(Checkpoint(1, {f"file/{number}": "x" * 50 for number in range(1000)}))
    store.close()
    letters = open_dead_letters(command.folder / "st" / "dead-letters.db")
    failure = StageError(ValueError("bad"), stage="a", worker=0)
    letters.put(failure, items=[(1, 1)], kind="transport", pipeline="p", now=0.0)
    letters.close()
    return command


@pytest.mark.parametrize(
    "arguments",
    [
        *("list", "--help", "--version", "run --help", "explain --frontend stdin"),
        *("state show st", "state show st --json", "dlq ls st", "dlq stats st"),
    ],
)
def test_commands_with_a_full_stdout(kept, arguments):
    """What a command cannot write for want of room is one line on stderr, and a failure."""
    told = b"m3: standard output cannot be written: No space left on device\n"
    for unbuffered in ("", "1"):
        environment = {"PYTHONUNBUFFERED": unbuffered}
        with open("/dev/full", "wb") as full:
            process = kept.start(*arguments.split(), stdout=full, environment=environment)
            _, err = process.communicate()
        assert (process.returncode, err) == (1, told)


def test_a_backend_that_prints_on_a_full_stdout(command):
    """What is left to write when a run is over is told behind what became of the items."""
    with open("/dev/full", "wb") as full:
        process = command.start(
            *("run", "--frontend", "stdin", "--backend", "stages_of_test:Printing"),
            stdout=full,
            environment={"PYTHONUNBUFFERED": ""},
        )
        _, err = process.communicate(b"a\n")
    *_, counts, told = err.decode().splitlines()
    assert (process.returncode, "1 produced" in counts) == (1, True)
    assert told == "m3: standard output cannot be written: No space left on device"


def test_closed_stderr_does_not_matter(command):
    """When nobody reads stderr, the items are delivered all the same."""
    reader, writer = os.pipe()
    process = command.start("run", "--frontend", "stdin", stderr=writer)
    os.close(writer)
    os.close(reader)
    out, _ = process.communicate(b"a\nb\n")
    assert (process.returncode, out) == (0, b"a\nb\n")


def in_shell(command, arguments):
    """Run the command with redirections of the shell, and return how it ended."""
    return subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m m3 {arguments}"],
        cwd=command.folder,
        env=command.environment(),
        input=b"a\n",
        capture_output=True,
        timeout=50,
    )


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", ">&-"])
def test_streams_that_are_not_there(command, streams):
    """A process may be started without the streams that it does not need."""
    done = in_shell(command, f"run --frontend stdin --backend null {streams}")
    assert done.returncode == 0


def test_items_for_a_stream_that_is_not_there(command):
    """Items are neither lost in silence nor written into a file that was opened meanwhile."""
    done = in_shell(command, "run --frontend stdin --report report.json >&-")
    assert done.returncode == 2
    assert b"stage 'stdout'" in done.stderr
    json.loads((command.folder / "report.json").read_text())


def test_exit_code_of_success(command):
    """All delivered is 0, and so is nothing to do."""
    for text in ("a\nb\n", ""):
        done = command.run("run", "--frontend", "stdin", stdin=text)
        assert (done.returncode, done.stdout) == (0, text)


def test_exit_code_of_failure(command):
    """A failed run is 1."""
    done = command.run(
        "run", "--frontend", "stdin", "--transport", "stages_of_test:Strict", stdin="a\nbad\nb\n"
    )
    assert done.returncode == 1


def test_exit_code_of_skipped_items(command):
    """A run that went on without some of its items is 3, and names them."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Strict"),
        *("--set", "transport.on_error=skip"),
        stdin="a\nbad\nb\n",
    )
    assert (done.returncode, done.stdout) == (3, "a\nb\n")
    assert "warning: skipped: stage 'stages_of_test:Strict'" in done.stderr
    assert "(item: b'bad')" in done.stderr
    assert "3 produced, 2 delivered, 0 dropped, 1 failed, 0 abandoned" in done.stderr


@pytest.mark.parametrize("bad", [1, 20])
@pytest.mark.parametrize("where", [["--state", "st"], ["--dead-letters", "the letters.jsonl"]])
def test_exit_code_of_dead_letters(command, where, bad):
    """A run with dead letters is 3, calls them so, and ends with how to list all of them."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Strict", *where),
        *("--set", "transport.on_error=dead_letter", "-q"),
        stdin="a\n" + "bad\n" * bad,
    )
    assert (done.returncode, done.stdout) == (3, "a\n")
    *named, last = done.stderr.splitlines()
    begin = "m3: warning: dead letter: stage 'stages_of_test:Strict', worker 0"
    assert all(line.startswith(begin) and "(item: b'bad')" in line for line in named)
    said, to_list = last.split("; to list them: m3 ")
    items = "1 item is" if bad == 1 else "20 items are"
    assert said == f"m3: warning: {items} kept as dead letters"
    assert len(command.run(*shlex.split(to_list)).stdout.splitlines()) == bad


def test_skipped_items_beside_dead_letters(command):
    """Of a run that keeps dead letters, what is skipped all the same is not called one."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Strict"),
        *("--set", "transport.on_error=skip", "--dead-letters", "letters.db"),
        stdin="bad\n",
    )
    assert done.returncode == 3
    assert "m3: warning: skipped: stage" in done.stderr
    assert "dead letter" not in done.stderr


@pytest.mark.parametrize("limit", ["max_failures=1", "transport.max_failures=0.5"])
def test_exit_code_of_too_many_failures(command, limit):
    """A run in which more items failed than max_failures allows is 1, and says so."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Strict"),
        *("--set", "transport.on_error=skip", "--set", limit),
        stdin="bad\nbad\na\n",
    )
    assert done.returncode == 1
    assert "2 of " in done.stderr
    assert "more than max_failures=" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "nowhere.toml"],
        ["run", "--frontend", "stdon"],
        ["run", "--frontend", "stdin", "--workers", "many"],
        ["run", "--frontend", "stdin", "--set", "nonsense"],
        ["run", "--frontend", "stdin", "--app-dir", "nowhere"],
        ["run", "--frontend", "stdin", "--report", "nowhere/report.json"],
        ["run", "--frontend", "stdin", "--no-such-option"],
        ["check", "nowhere.toml"],
        ["explain"],
        ["no-such-command"],
    ],
)
def test_exit_code_of_mistakes(command, arguments):
    """Usage and configuration are 2; nothing has run, and no traceback is shown."""
    done = command.run(*arguments, stdin="a\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
