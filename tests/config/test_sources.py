"""File, environment and flags, each read into a layer."""

import pytest

from m3.config.merging import Assignment, Setting
from m3.config.origins import Origin
from m3.config.sources import (
    VARIABLES,
    Flags,
    from_environment,
    from_file,
    from_flags,
    unknown_variables,
)
from m3.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    """Write a configuration file and return its path."""

    def write(text):
        path = tmp_path / "pipeline.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_flags():
    """Stages keep their order; an option that was not given says nothing."""
    layer = from_flags(Flags(transport=("a", "b"), workers=4, set=("transport.2.workers=8",)))
    assert list(layer.stages) == ["transport"]
    assert layer.settings == {"workers": Setting(4, Origin("flag", "--workers"))}
    said = [(a.kind, a.number, a.option, a.setting.value) for a in layer.assignments]
    assert said == [
        ("transport", 1, "use", "a"),
        ("transport", 2, "use", "b"),
        ("transport", 2, "workers", 8),
    ]


@pytest.mark.parametrize(
    ("text", "kind", "number", "keys", "value"),
    [
        ("frontend.path=big.log", "frontend", None, ["path"], "big.log"),
        ("transport.1.workers=16", "transport", 1, ["workers"], 16),
        ("backend.3.url=http://x/?a=b", "backend", 3, ["url"], "http://x/?a=b"),
        ("backend.batch.count=3", "backend", None, ["batch", "count"], 3),
        (
            "transport.1.on_error.backoff.initial=1",
            "transport",
            1,
            ["on_error", "backoff", "initial"],
            1,
        ),
    ],
)
def test_set(text, kind, number, keys, value):
    """``--set`` names a stage by kind and number, or by kind alone, and keys at any depth."""
    (assignment,) = from_flags(Flags(set=(text,))).assignments
    setting = Setting(value, Origin("flag", f"--set {text.partition('=')[0]}"))
    option, *inner = keys
    assert assignment == Assignment(kind, number, option, setting, tuple(inner))


def test_what_is_set_is_no_place():
    """Where a value was given is told without the value, which may be a secret."""
    layer = from_flags(Flags(set=("backend.key=hunter2", "..=hunter2")))
    assert "hunter2" not in str(layer.assignments[0].setting.origin)
    assert "hunter2" not in str(layer.problems[0])


def test_set_of_the_pipeline():
    """``--set`` without a stage is an option of the pipeline."""
    layer = from_flags(Flags(set=("stop_timeout=3",)))
    assert layer.settings["stop_timeout"].value == 3


@pytest.mark.parametrize("text", ["workers", "a.b=c", "transport..workers=3", "=3", "frontend=x"])
def test_set_refuses_what_is_malformed(text):
    """A malformed ``--set`` is a mistake that shows what is right."""
    (problem,) = from_flags(Flags(set=(text,))).problems
    assert "transport.1.workers=16" in problem.message or "--frontend NAME" in problem.message


def test_environment():
    """Each variable is the option of its name; an empty one is not set."""
    layer = from_environment({"M3_WORKERS": "4", "M3_REPORT": "", "M3_NAME": "12"})
    assert {name: setting.value for name, setting in layer.settings.items()} == {
        "workers": 4,
        "name": "12",
    }
    assert layer.settings["workers"].origin == Origin("environment", "M3_WORKERS")


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("yes", True), ("False", False), ("off", False)]
)
def test_environment_truth(text, value):
    """Truth values may be written as people write them in an environment."""
    assert from_environment({"M3_PROGRESS": text}).settings["progress"].value is value


def test_environment_set():
    """``M3_SET`` holds assignments, split as a shell splits words."""
    layer = from_environment({"M3_SET": "frontend.path='a b' stop_timeout=3"})
    assert layer.assignments[0].setting.value == "a b"
    assert layer.settings["stop_timeout"].value == 3
    assert from_environment({"M3_SET": "'open"}).problems


def test_unknown_variables():
    """A variable that is nearly right is named with the right one; others may have their own."""
    environ = dict.fromkeys([*VARIABLES, "M3_SET", "M3_DEBUG", "M3_SANITIZE", "HOME"], "1")
    assert unknown_variables(environ) == []
    (warning,) = unknown_variables({"M3_WORKER": "4"})
    assert "M3_WORKER means nothing to m3; did you mean 'M3_WORKERS'" in warning


def test_file(written):
    """Keys of the pipeline and of stages come with their lines."""
    path = written('name = "x"\n[frontend]\nuse = "stdin"\n[[backend]]\n\nuse = "null"\n')
    layer = from_file(path, {})
    assert layer.settings["name"] == Setting("x", Origin("file", f"{path}:1", 1))
    assert layer.stages["frontend"] == [Origin("file", f"{path}:2", 2)]
    assert [a.setting.origin.line for a in layer.assignments] == [3, 6]


def test_file_variables(written):
    """Variables are replaced at any depth; a missing one is a mistake of its key."""
    path = written('[frontend]\nuse = "x"\nheaders = { a = "${A}", b = ["${NOPE}"] }\n')
    layer = from_file(path, {"A": "1"})
    assert layer.assignments[1].setting.value["a"] == "1"
    (problem,) = layer.problems
    assert (problem.origin.line, problem.key) == (3, "frontend.1.headers.b.1")


@pytest.mark.parametrize("text", ['frontend = "stdin"', "frontend = [1]"])
def test_file_stage_is_a_table(written, text):
    """A stage that is not a table is a mistake."""
    (problem,) = from_file(written(text), {}).problems
    assert "a stage is a table: [[frontend]]" in problem.message


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\na = !", r"is not TOML: .*line 2"), (b"\xff", "is not UTF-8"), (None, "cannot be read")],
)
def test_file_that_cannot_be_read(tmp_path, content, message):
    """A file that is missing, or no TOML, is named with the reason."""
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"x.toml: {message}"):
        from_file(path, {})
