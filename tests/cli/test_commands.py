"""The group of the commands: what starts quickly, and what is documented."""

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from m3.cli.commands import commands
from m3.cli.endings import ExitCode
from m3.cli.group import Commands
from m3.config.schema import ENGINE_OPTIONS, PipelineConfig
from m3.config.sources import SET_VARIABLE, VARIABLES
from m3.errors import StateError

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


@pytest.fixture(scope="module")
def page():
    """The page about the command line."""
    return PAGE.read_text("utf-8")


def parameters():
    """Return each option of each command, as (command, option)."""
    return [
        (name, option)
        for name, command in commands.commands.items()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    ]


def test_the_commands():
    """These commands there are."""
    known = "bench check completion dlq doctor explain list run serve services shell state"
    assert sorted(commands.commands) == known.split()


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_every_command_has_help(name):
    """Each command and each of its options says what it is for."""
    result = CliRunner().invoke(commands, [name, "--help"])
    assert result.exit_code == 0
    assert all(
        parameter.help
        for parameter in commands.commands[name].params
        if isinstance(parameter, click.Option)
    )


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ((), "  printf 'a\\nb\\n' | m3 run --frontend stdin"),
        ((), "  m3 run pipeline.toml"),
        (("serve",), "  m3 serve --config services.toml"),
        (("shell",), "  m3 shell --broker amqp://guest:guest@localhost"),
        (("completion",), "  fish: m3 completion fish > ~/.config/fish/completions/m3.fish"),
    ],
)
def test_examples_in_help(arguments, example):
    """Each example of a help text is a line of its own, as it is to be typed."""
    result = CliRunner().invoke(commands, [*arguments, "--help"])
    assert "\\b" not in result.output
    assert example in result.output.splitlines()


@pytest.mark.parametrize(("command", "option"), parameters())
def test_every_option_is_documented(page, command, option):
    """The page names each command and each of its options."""
    assert f"m3 {command}" in page
    assert f"`{option}" in page


@pytest.mark.parametrize("variable", [*VARIABLES, SET_VARIABLE])
def test_every_variable_is_documented(page, variable):
    """The page names each variable of the environment."""
    assert f"`{variable}`" in page


@pytest.mark.parametrize("key", [*ENGINE_OPTIONS, *PipelineConfig.__annotations__, "use"])
def test_every_key_is_documented(page, key):
    """The page names each key of the configuration file."""
    assert f"`{key}`" in page or f"`[[{key}]]`" in page


@pytest.mark.parametrize("code", [*map(int, ExitCode), 130, 143])
def test_every_exit_code_is_documented(page, code):
    """The page names each exit code."""
    assert f"| {code} |" in page


def test_version():
    """--version names m3 and Python."""
    result = CliRunner().invoke(commands, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("m3 ")
    assert "CPython" in result.output


def test_help_imports_little(command):
    """``m3 --help`` loads nothing that only a run needs."""
    program = (
        "import sys; sys.argv = ['m3', '--help']\n"
        "from m3.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    process = command.start(program=program)
    _, err = process.communicate()
    loaded = set(err.decode().replace("'", "").strip("[]\n").split(", "))
    assert "m3.cli.commands" in loaded
    assert not loaded & {
        *("asyncio", "attr", "cattrs", "importlib.metadata", "numpy", "rich", "tomllib"),
        *("m3.config", "m3.cli.running", "m3.connectors", "json"),
    }


def seconds(*arguments):
    """Return the shortest of ten times that Python takes."""
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.stress
def test_help_is_quick():
    """``m3 --help`` takes less than 150 ms longer than Python itself."""
    assert seconds("-m", "m3", "--help") - seconds("-c", "pass") < 0.15


def test_list():
    """``m3 list`` names every stage with its options, their defaults, and where it comes from."""
    result = CliRunner().invoke(commands, ["list"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line for line in lines if line and line[0] != " "] == [
        "frontends",
        "transports",
        "backends",
    ]
    assert "  stdin  (m3, m3.connectors.stdin:StdinFrontend)" in lines
    assert any(line.strip().startswith("path: ") and "required" in line for line in lines)
    assert any("limit: int = 16777216" in line for line in lines)


def test_list_of_one_kind():
    """``m3 list KIND`` is about that kind only."""
    result = CliRunner().invoke(commands, ["list", "backend"])
    assert result.output.startswith("backends\n")
    assert "frontends" not in result.output


def test_list_of_a_broken_plugin(monkeypatch):
    """A stage that cannot be loaded is listed with the reason, and hides no other."""
    from m3.errors import ConfigError
    from m3.registry import Registration

    def broken(_):
        raise ConfigError("it is broken")

    monkeypatch.setattr("m3.registry.names", lambda kind: [Registration("x", kind, "dist", "a:b")])
    monkeypatch.setattr("m3.registry.describe", broken)
    result = CliRunner().invoke(commands, ["list"])
    assert result.exit_code == 0
    assert result.output.count("x  (dist, a:b)\n      cannot be loaded: it is broken") == 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    """There is a completion script for each shell."""
    result = CliRunner().invoke(commands, ["completion", shell])
    assert result.exit_code == 0
    assert "_M3_COMPLETE" in result.output


def test_completion_of_names(command):
    """Names of stages are completed."""
    done = command.run(
        _M3_COMPLETE="bash_complete", COMP_WORDS="m3 run --frontend st", COMP_CWORD="3"
    )
    assert done.stdout.splitlines() == ["plain,stdin"]


def test_bench(command):
    """``m3 bench`` measures, and has checked that every item arrived."""
    done = command.run("bench", "--items", "1000", "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all(line.endswith("all items arrived") for line in lines)
    assert sum(" items/s  all" in line for line in lines) == 5
    assert "p50 " in lines[-1]


def test_bench_notices_what_is_lost(monkeypatch):
    """If items were lost, ``m3 bench`` says so and fails."""
    from m3.cli import benching

    monkeypatch.setattr(benching, "_same", lambda item: item or 1)
    result = CliRunner().invoke(commands, ["bench", "--items", "1000"])
    assert result.exit_code == 1
    assert "ITEMS LOST" in result.output


def test_check(command):
    """A file without mistakes is said to have none."""
    path = command.folder / "p.toml"
    path.write_text('frontend = { use = "stdin" }\n[[transport]]\nuse = "stages_of_test:Gate"\n')
    done = command.run("check", "p.toml", M3_WORKER="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "p.toml: no mistakes: 1 frontend, 1 transport, 1 backend\n"
    assert "M3_WORKER means nothing" in done.stderr


def test_check_shows_every_mistake(command):
    """All mistakes come at once, each with file and line, and nothing is run."""
    path = command.folder / "p.toml"
    path.write_text(
        "stop_timeot = 3\n"
        "[frontend]\n"
        'use = "stages_of_test:Endless"\n'
        "x = 1\n"
        "[[transport]]\n"
        'use = "nowhere:Thing"\n'
        'workers = "two"\n'
    )
    done = command.run("check", "p.toml")
    assert (done.returncode, done.stdout) == (2, "")
    begins = ["p.toml:1: stop_timeot", "p.toml:4: frontend.1.x", "p.toml:6: transport.1.use"]
    begins.append("p.toml:7: transport.1.workers")
    lines = done.stderr.splitlines()
    assert [line.removeprefix("m3: ")[: len(b)] for line, b in zip(lines, begins, strict=True)] == (
        begins
    )


def test_check_looks_at_every_stage(command):
    """A mistake hides none of another stage, also if only the finished plan shows that one."""
    path = command.folder / "p.toml"
    path.write_text(
        "stop_timeot = 3\n"
        "max_failures = 1.5\n"
        "[frontend]\n"
        'use = "stages_of_test:Endless"\n'
        "timeout = 3\n"
        "[[transport]]\n"
        'use = "nowhere:Thing"\n'
        "[[transport]]\n"
        'use = "stages_of_test:Gate"\n'
        "batch = 5\n"
        "[[backend]]\n"
        'use = "null"\n'
        'workers = "two"\n'
        "max_failures = -1\n"
    )
    done = command.run("check", "p.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[1:3] for line in done.stderr.splitlines()] == [
        ["p.toml:1", "stop_timeot"],
        ["p.toml:2", "max_failures"],
        ["p.toml:5", "frontend.1.timeout"],
        ["p.toml:7", "transport.1.use"],
        ["p.toml:10", "transport.2.batch"],
        ["p.toml:13", "backend.1.workers"],
        ["p.toml:14", "backend.1.max_failures"],
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            "max_failures = 1.5",
            "max_failures: must be a number of items, at least 0, or a fraction",
        ),
        (
            "crash_guard = 3",
            "crash_guard: crash_guard needs a place to note which runs have died: give state=DIR",
        ),
    ],
)
def test_check_tells_the_line_of_what_is_of_the_pipeline(command, line, complaint):
    """A mistake of the whole pipeline has the line of its option."""
    (command.folder / "p.toml").write_text(f'frontend = {{ use = "stdin" }}\n{line}\n')
    done = command.run("check", "p.toml")
    assert done.returncode == 2
    assert done.stderr.startswith(f"m3: p.toml:2: {complaint}")


def test_every_command_is_in_the_table(page):
    """The table at the beginning of the page has each command."""
    missing = [name for name in commands.commands if f"\n| [`m3 {name}`](" not in page]
    assert missing == []


@pytest.mark.parametrize("arguments", [["check"], ["run"], ["explain"]])
@pytest.mark.parametrize("crash_guard", ["", "crash_guard = 3\n"])
def test_what_a_constructor_refuses(command, arguments, crash_guard):
    """A mistake that only the constructor of a ready-made stage finds has its line and key."""
    (command.folder / "p.toml").write_text(
        f'state = "st"\n{crash_guard}[frontend]\nuse = "csv"\npath = "x"\ndelimiter = ";;"\n'
    )
    done = command.run(*arguments, "p.toml")
    assert (done.returncode, done.stdout) == (2, "")
    place = 6 if crash_guard else 5
    assert done.stderr == (
        f"m3: p.toml:{place}: frontend.1.delimiter: delimiter=';;': it is one character, and no "
        "line end\n"
    )


def test_check_finds_a_misspelt_method(command):
    """A class without the method of its kind is refused by the check, at its line."""
    (command.folder / "app" / "misspelt.py").write_text(
        "from m3 import Transport\n\n"
        "class Clean(Transport):\n    def transform(self, data):\n        return data\n"
    )
    path = command.folder / "p.toml"
    path.write_text(
        'frontend = { use = "stdin" }\n[[transport]]\nbatch = 5\nuse = "misspelt:Clean"\n'
    )
    done = command.run("check", "p.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "m3: p.toml:4: transport.1.use: Clean has no transport() and no process_batch(); "
        "should its transform() be called transport()?\n"
    )


def test_explain(command):
    """``m3 explain`` shows the plan, with where each value comes from, and runs nothing."""
    (command.folder / "p.toml").write_text(
        '[frontend]\nuse = "stages_of_test:Endless"\n'
        '[[transport]]\nuse = "stages_of_test:Gate"\npath = "${SECRET}"\n'
    )
    done = command.run("explain", "p.toml", "--workers", "3", M3_STOP_TIMEOUT="2", SECRET="hunter2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "stop_timeout 2 M3_STOP_TIMEOUT" in lines
    assert "frontend.1 stages_of_test:Endless (stages_of_test:Endless)" in lines
    assert "workers 3 --workers" in lines
    assert 'path "${SECRET}" p.toml:5' in lines
    assert "queue_size 1024 to 8192 default" in lines
    assert "backend.1 stdout (stdout)" in lines
    assert "hunter2" not in done.stdout


def test_report_schema(command):
    """The report's keys are what they were: adding is allowed, taking away is not."""
    command.run("run", "--frontend", "stdin", "--report", "r.json", stdin="a\n")
    report = json.loads((command.folder / "r.json").read_text())
    assert report["schema"] == 1
    assert report.keys() >= {
        *("name", "state", "ok", "stopped", "produced", "delivered", "dropped", "dead_lettered"),
        *("failed", "abandoned", "in_flight", "wall", "cpu", "stages", "errors", "hung"),
    }
    assert report["stages"][0].keys() >= {
        *("name", "kind", "workers", "items_in", "items_out", "errors", "dropped", "busy"),
        *("wait_in", "wait_out", "cpu", "queue"),
    }


def test_state_errors_are_mistakes():
    """A command that is refused the state says why in one line, with exit code 2."""
    group = Commands("m3")

    @group.command()
    def refused():
        raise StateError("st is in use \x1b[2J by x://u:pa55@h")

    result = CliRunner().invoke(group, ["refused"])
    assert (result.exit_code, result.output) == (2, "m3: st is in use \\x1b[2J by x://u:***@h\n")
