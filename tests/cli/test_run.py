"""``m3 run``."""

import json
import os
import subprocess
import sys

import pytest


def test_lines_go_through(command):
    """The smallest pipeline prints what it reads, and nothing else, on stdout."""
    done = command.run("run", "--frontend", "stdin", stdin="a\nb\n")
    assert (done.returncode, done.stdout) == (0, "a\nb\n")
    first, last = done.stderr.splitlines()
    assert first.startswith("m3: delivery: at most once ")
    assert last.startswith(
        "m3: pipeline: 2 produced, 2 delivered, 0 dropped, 0 failed, 0 abandoned in "
    )


def test_quiet(command):
    """-q leaves nothing on stderr of a run that went well."""
    done = command.run("run", "--frontend", "stdin", "-q", stdin="a\n")
    assert (done.stdout, done.stderr) == ("a\n", "")


def test_stages_of_all_kinds(command):
    """Transports are a chain in their order, and each of several backends gets every item."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "json.loads", "--transport", "json.dumps"),
        *("--backend", "stdout", "--backend", "file", "--set", "backend.2.path=out.txt"),
        *("--workers", "2", "--set", "transport.1.workers=1", "--report", "report.json"),
        stdin='{"a":1}\n[2]\n',
    )
    assert done.returncode == 0, done.stderr
    lines = ["[2]", '{"a": 1}']
    assert sorted(done.stdout.splitlines()) == lines
    assert sorted((command.folder / "out.txt").read_text().splitlines()) == lines
    report = json.loads((command.folder / "report.json").read_text())
    assert [stage["workers"] for stage in report["stages"]] == [1, 1, 2, 1, 1]


def test_several_frontends(command):
    """The items of several frontends are merged."""
    (command.folder / "in.txt").write_text("from file\n")
    done = command.run(
        *("run", "--frontend", "stdin", "--frontend", "file"),
        *("--set", "frontend.2.path=in.txt"),
        stdin="from stdin\n",
    )
    assert sorted(done.stdout.splitlines()) == ["from file", "from stdin"]


def test_file_and_flags(command):
    """Flags go over the environment, and that over the file."""
    (command.folder / "pipeline.toml").write_text(
        'name = "filed"\nfrontend = { use = "stdin" }\n'
        '[[transport]]\nuse = "json.loads"\nworkers = 2\n'
    )
    done = command.run(
        *("run", "pipeline.toml", "--report", "r.json", "--workers", "4"),
        stdin="1\n",
        M3_NAME="named",
        M3_WORKERS="3",
    )
    assert (done.returncode, done.stdout) == (0, "1\n")
    report = json.loads((command.folder / "r.json").read_text())
    assert (report["name"], report["stages"][1]["workers"]) == ("named", 4)


def test_report(command):
    """The report is JSON with a version, also of a run that failed."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Strict"),
        *("--report", "report.json"),
        stdin="bad\n",
    )
    assert done.returncode == 1
    report = json.loads((command.folder / "report.json").read_text())
    assert (report["schema"], report["state"], report["ok"]) == (1, "failed", False)
    assert report["produced"] == report["failed"] == 1
    assert "ValueError: not good" in report["errors"][0]


def test_failure(command):
    """A failure is told with stage, worker, item and cause, then the frames of the user's code."""
    done = command.run(
        "run", "--frontend", "stdin", "--transport", "stages_of_test:Strict", stdin="bad\n"
    )
    delivery, first, *lines, summary = done.stderr.splitlines()
    assert delivery.startswith("m3: delivery: ")
    assert all(line.startswith("  ") for line in lines)
    traceback = [line[2:] for line in lines]
    assert first == (
        "m3: stage 'stages_of_test:Strict', worker 0: ValueError: not good (item: b'bad')"
    )
    files = [line.split('"')[1] for line in traceback if line.startswith('  File "')]
    assert files == [str(command.folder / "app" / "stages_of_test.py")] * 2
    assert traceback[-1] == "ValueError: not good"
    assert "1 failed" in summary


def test_failure_quiet(command):
    """-q leaves the traceback out."""
    arguments = ["run", "--frontend", "stdin", "--transport", "stages_of_test:Strict"]
    quiet = command.run(*arguments, "-q", stdin="bad\n").stderr
    assert quiet.splitlines() == [
        "m3: stage 'stages_of_test:Strict', worker 0: ValueError: not good (item: b'bad')"
    ]


def test_failure_of_a_ready_made_stage(command):
    """m3's own frames are left out, and shown with -v."""
    arguments = ["run", "--frontend", "file", "--set", "frontend.path=nowhere"]
    done = command.run(*arguments)
    assert done.returncode == 1
    assert "stage 'file'" in done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert "m3/connectors" in command.run(*arguments, "-v").stderr


def test_failing_setup(command):
    """A failing setup is told like any failure, and no item was touched."""
    done = command.run(
        "run", "--frontend", "stdin", "--backend", "stages_of_test:NoDatabase", stdin="a\n"
    )
    assert done.returncode == 1
    assert "worker 0, in setup(): RuntimeError: no database" in done.stderr
    assert "0 produced" in done.stderr


def test_app_dir(command):
    """Stages come from --app-dir, and never from the current directory by itself."""
    (command.folder / "here.py").write_text("def shout(data): return data.upper()\n")
    arguments = ["run", "--frontend", "stdin", "--transport", "here:shout"]
    done = command.run(*arguments, stdin="a\n")
    assert done.returncode == 2
    assert "there is no module 'here'" in done.stderr
    assert "--app-dir" in done.stderr
    done = command.run(*arguments, "--app-dir", ".", stdin="a\n")
    assert (done.returncode, done.stdout) == (0, "A\n")


def test_app_dir_of_a_file(command):
    """In a file, app_dir is relative to the file."""
    folder = command.folder / "project"
    folder.mkdir()
    (folder / "there.py").write_text("def shout(data): return data.upper()\n")
    (folder / "p.toml").write_text(
        'app_dir = "."\nfrontend = { use = "stdin" }\ntransport = { use = "there:shout" }\n'
    )
    done = command.run("run", "project/p.toml", stdin="a\n")
    assert (done.returncode, done.stdout) == (0, "A\n"), done.stderr


def test_the_current_directory_shadows_nothing(command):
    """``python -m m3`` is not misled by files that lie about."""
    for name in ("json.py", "click.py", "m3.py"):
        (command.folder / name).write_text("raise SystemExit('shadowed')\n")
    program = "import m3.__main__ as command; command.main()"
    done = command.run("run", "--frontend", "stdin", "--transport", "json.loads", stdin="1\n")
    assert (done.returncode, done.stdout) == (0, "1\n") or "shadowed" in done.stderr, program


def test_mistakes_of_flags(command):
    """All mistakes are shown at once, each with where it was made."""
    done = command.run(
        *("run", "--frontend", "stdon", "--set", "transport.workers=3", "--set", "nam=x"),
        M3_STOP_TIMEOUT="soon",
    )
    assert done.returncode == 2
    assert "m3: --frontend: frontend.1.use: there is no frontend called 'stdon'" in done.stderr
    assert "did you mean 'stdin'" in done.stderr
    assert "m3: M3_STOP_TIMEOUT: stop_timeout: must be a number of seconds" in done.stderr
    assert "--set transport.workers: transport.1.workers: there is no" in done.stderr
    assert "--set nam: nam: there is no such option; did you mean 'name'" in done.stderr


def test_unknown_variables_are_warned_of(command):
    """A misspelt M3_ variable does not stop a run, and is not ignored in silence."""
    done = command.run("run", "--frontend", "stdin", stdin="", M3_WORKER="3")
    assert done.returncode == 0
    assert "warning: the environment variable M3_WORKER means nothing to m3" in done.stderr


def test_json_on_stderr(command):
    """With --log-format json, every line on stderr is JSON: warnings, failures, the summary."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "log", "--transport"),
        *("stages_of_test:Strict", "--log-format", "json"),
        stdin="a\nbad\n",
        M3_WORKER="3",
    )
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stderr.splitlines()]
    levels = [record["level"] for record in records]
    assert (levels[:2], levels[-2:]) == (["warning", "info"], ["error", "info"])
    assert records[1]["delivery"] == "at_most_once"
    assert records[-1]["produced"] == 2
    assert "ValueError: not good" in records[-2]["message"]


def test_progress_is_asked_for(command):
    """Without a terminal there is progress only if asked for, as plain lines."""
    gate = command.gate()
    process = command.start(
        "run", "--progress", "--frontend", "stdin", "--transport", "stages_of_test:Gate"
    )
    process.stdin.write(b"a\n")
    process.stdin.close()
    process.stdin = None
    assert process.stderr.readline().startswith(b"m3: delivery: ")
    assert process.stderr.readline() == b"at the gate\n"
    line = process.stderr.readline()
    gate.write_text("open")
    out, _ = process.communicate()
    assert line.startswith(b"pipeline: 1 produced, 0 delivered, 0 items/s")
    assert (process.returncode, out) == (0, b"a\n")


def on_a_terminal(command, *arguments, until=b"items/s", **environment):
    """
    Run a pipeline through a gate, stderr being a terminal; return what is shown on it.

    The gate opens when *until* is shown, or at the gate if there is to be no progress.
    """
    pty = pytest.importorskip("pty")
    gate = command.gate()
    terminal, end = pty.openpty()
    process = command.start(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Gate", *arguments),
        stderr=end,
        environment={"TERM": "xterm"} | environment,
    )
    os.close(end)
    process.stdin.write(b"a\n")
    process.stdin.close()
    process.stdin = None
    shown = b""
    while until not in shown:
        shown += os.read(terminal, 10_000)
        if b"gate" in shown and "--no-progress" in arguments:
            break
    gate.write_text("open")
    while True:
        try:
            more = os.read(terminal, 10_000)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    assert process.wait() == 0
    os.close(terminal)
    return shown


def test_progress_on_a_terminal(command):
    """On a terminal, there is a table where rich is installed, and the summary after it."""
    pytest.importorskip("rich")
    shown = on_a_terminal(command, until=b"slowest")
    assert b"stages_of_test:Gate" in shown
    assert shown.rstrip().endswith(b"items/s)")


def test_no_progress_on_a_terminal(command):
    """--no-progress keeps a terminal calm."""
    shown = on_a_terminal(command, "--no-progress")
    assert b"\x1b" not in shown


def test_dumb_terminal(command):
    """Nothing is redrawn on a terminal that cannot."""
    shown = on_a_terminal(command, "--progress", TERM="dumb")
    assert b"\x1b" not in shown


def test_no_color(command):
    """NO_COLOR is respected."""
    pytest.importorskip("rich")
    shown = on_a_terminal(command, NO_COLOR="1")
    assert b"\x1b[3" not in shown


def test_python_m(command):
    """``python -m m3`` is the command; the current directory is not searched for modules."""
    done = subprocess.run(
        [sys.executable, "-m", "m3", "--version"],
        cwd=command.folder,
        env=command.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("m3 ")


@pytest.mark.parametrize("flags", [[], ["-v"], ["-q"]])
def test_state_that_is_refused(command, flags):
    """State that cannot be gone on from is a mistake: told without a traceback, and no counts."""
    done = command.run("run", "--frontend", "stages_of_test:NoWayOn", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    *before, line = done.stderr.splitlines()
    assert line.endswith("StateError: the input has changed; start again with --from-start")
    assert [said.startswith("m3: delivery: ") for said in before] == [True] * ("-q" not in flags)


@pytest.mark.parametrize(
    ("error", "code"), [("ConfigError", 2), ("MissingExtraError", 2), ("FileNotFoundError", 1)]
)
def test_a_mistake_that_a_setup_finds(command, error, code):
    """A mistake is exit code 2 also where a setup finds it; what else is wrong is a failure."""
    done = command.run(
        *("run", "--frontend", "stdin", "--backend", "stages_of_test:Refusing"),
        *("--set", f"backend.error={error}"),
        stdin="a\n",
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert f"m3: stage 'stages_of_test:Refusing', worker 0, in setup(): {error}: " in done.stderr
    assert ("0 produced" in done.stderr) == (code == 1)


def test_from_start_needs_a_state(command):
    """--from-start without --state is a mistake, and nothing is run."""
    done = command.run("run", "--frontend", "stdin", "--from-start", stdin="a\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "m3: --from-start: there is no state to forget; give --state DIR\n"


def test_dead_letters_are_counted(command):
    """The summary has the count of dead letters if a stage has that policy, also if it is 0."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "json.loads", "--dead-letters", "d.jsonl"),
        *("--set", "transport.on_error={attempts=2, then='dead_letter'}"),
        stdin="1\n",
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "0 dropped, 0 dead_lettered, 0 failed, 0 abandoned" in done.stderr


def test_dead_letters_without_a_place(command):
    """The policy alone is a mistake that says what to give."""
    done = command.run(
        *("run", "--frontend", "stdin", "--transport", "json.loads"),
        *("--set", "transport.on_error=dead_letter"),
    )
    assert done.returncode == 2
    assert (
        "--set transport.on_error: transport.1.on_error: on_error is 'dead_letter'" in done.stderr
    )
    assert "dead_letters=FILE" in done.stderr
