"""The registry: a name or a path gives its object, or an error that helps."""

import logging
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from m3 import connectors, registry
from m3.errors import ConfigError, UnknownNameError
from m3.registry import BUILTIN, Option, Registration, Registry, load, options_of
from m3.stages import Backend, Frontend, Transport

ROOT = Path(__file__).parents[1]
BASES = {"frontend": Frontend, "transport": Transport, "backend": Backend}


class Documented:
    """
    A stage with documentation.

    What is here is not an argument: neither is this.

    Args:
        path: where it is,
            which may take several lines.
        count (int): how many: at least one.

    Raises:
        path: not an argument.
    """

    class Inner:
        pass

    def __init__(self, path: "str | None", *, count: int | None = 3, plain=(), **rest) -> None:
        pass


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Put modules where Python finds them, and forget them after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def distribution(tmp_path):
    """Make the metadata of a distribution with entry points, as installers do."""

    def make(name, group, **entries):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{entry} = {path}" for entry, path in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        return PathDistribution(folder)

    return make


def with_entries(*distributions, table=None):
    """Return a registry that sees just these distributions."""

    def entry_points(group):
        found = [entry for each in distributions for entry in each.entry_points]
        return [entry for entry in found if entry.group == group]

    return Registry(table, entry_points=entry_points)


# -- names ------------------------------------------------------------------

OF_SERVICES = {"events": "stages", "rpc": "stages", "submit": "submit"}
"""The modules of the ready-made stages that are no connectors."""


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in BUILTIN.items() for name in names]
)
def test_every_ready_made_name_is_a_stage_of_its_kind(kind, name):
    """Each line of the table can be loaded, and the module of a connector is named as it is."""
    target = registry.resolve(kind, name)
    assert issubclass(target, BASES[kind])
    module = f"services.{OF_SERVICES[name]}" if name in OF_SERVICES else f"connectors.{name}"
    assert target.__module__ == f"m3.{module}"


def test_every_connector_is_registered():
    """Each public module of the connectors has its line in the table."""
    files = {path.stem for path in (ROOT / "m3" / "connectors").glob("[a-z]*.py")}
    assert {name for names in BUILTIN.values() for name in names} == files | {*OF_SERVICES}


def test_the_table_in_the_documentation_is_right():
    """The overview of the connectors says which kinds each of them is."""
    _, divider, _, _, table, *_ = re.split(r"^(===.*===)$", connectors.__doc__, flags=re.MULTILINE)
    columns = [match.span() for match in re.finditer("=+", divider)]
    described = {}
    for row in table.strip().splitlines():
        name, *cells = (row[start:end].strip(" `") for start, end in columns)
        described[name] = [cell == "yes" for cell in cells]
    kinds = ("frontend", "transport", "backend")
    names = sorted({name for registered in BUILTIN.values() for name in registered})
    assert described == {name: [name in BUILTIN[kind] for kind in kinds] for name in names}


def test_an_unknown_name_says_what_is_near_and_what_exists():
    """A typing error is answered with the name that was meant, and all there are."""
    with pytest.raises(UnknownNameError) as caught:
        registry.resolve("backend", "stdot")
    assert caught.value.name == "stdot"
    assert caught.value.near[0] == "stdout"
    assert "did you mean 'stdout'" in str(caught.value)
    for name in BUILTIN["backend"]:
        assert name in str(caught.value)


def test_a_name_of_another_kind_is_recognised():
    """``stdin`` as a backend is answered with what it is."""
    with pytest.raises(UnknownNameError, match="'stdin' is a frontend"):
        registry.resolve("backend", "stdin")


@pytest.mark.parametrize("name", ["json", "os", "Documented", ""])
def test_a_name_without_a_dot_is_never_a_module(name):
    """Only registered names stand alone; modules and builtins do not."""
    with pytest.raises(UnknownNameError):
        registry.resolve("transport", name)


def test_an_empty_registry_has_no_names():
    """A test can begin with nothing, or with names of its own."""
    with pytest.raises(UnknownNameError, match="there are: none"):
        Registry().resolve("frontend", "stdin")
    own = Registry({"transport": {"parse": "json:loads"}})
    assert own.resolve("transport", "parse") is registry.resolve("transport", "json.loads")
    assert own.names("transport") == [Registration("parse", "transport", "m3", "json:loads")]


def test_a_line_of_the_table_that_leads_nowhere_is_an_error():
    """What a table of one's own names wrong is said as for a path."""
    with pytest.raises(UnknownNameError, match="'json' has no 'lods'"):
        Registry({"transport": {"parse": "json:lods"}}).resolve("transport", "parse")


# -- entry points -----------------------------------------------------------


def test_entry_points_are_names(distribution):
    """What an installed distribution registers is found, with where it comes from."""
    found = with_entries(distribution("others", "m3.transports", parse="json:loads [fast]"))
    assert found.names("transport") == [Registration("parse", "transport", "others", "json:loads")]
    assert found.names("backend") == []
    assert found.resolve("transport", "parse") is load("json:loads")


def test_installed_entry_points_are_found_by_the_default_registry(distribution, tmp_path):
    """A distribution on the path of a fresh process is seen, listed after m3's own."""
    distribution("others", "m3.backends", store="json:loads")
    program = """
from m3 import connectors, registry
for entry in registry.names("backend"): print(entry.name, entry.origin, entry.target_path)
registry.resolve("backend", "store")
"""
    output = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        check=True,
        text=True,
    ).stdout.splitlines()
    own = [f"{name} m3 {path}" for name, path in sorted(BUILTIN["backend"].items())]
    assert output[: len(own)] == own
    assert "store others json:loads" in output


def test_an_entry_point_that_cannot_be_loaded_names_its_distribution(distribution):
    """The user learns which installed package to mend."""
    found = with_entries(
        distribution("broken", "m3.backends", gone="no_such_module:Name", empty="json")
    )
    with pytest.raises(ConfigError, match=r"'gone' of the distribution 'broken'.*no_such_module"):
        found.resolve("backend", "gone")
    with pytest.raises(ConfigError, match="'empty' of the distribution 'broken'"):
        found.resolve("backend", "empty")


def test_a_name_of_ours_cannot_be_taken(distribution, caplog):
    """A foreign ``stdout`` does not become ``stdout``, and the user is told, once."""
    found = with_entries(
        distribution("greedy", "m3.backends", stdout="json:loads"),
        table={"backend": {"stdout": "json:dumps"}},
    )
    with caplog.at_level(logging.WARNING, logger="m3.registry"):
        assert [entry.origin for entry in found.names("backend")] == ["m3"]
        assert found.names("backend")
    assert found.resolve("backend", "stdout") is load("json:dumps")
    assert len(caplog.messages) == 1
    assert "'greedy'" in caplog.text
    assert "json:loads" in caplog.text


def test_a_name_that_two_distributions_claim_is_ambiguous(distribution):
    """Which one is meant has to be said; the message has both paths."""
    found = with_entries(
        distribution("first", "m3.backends", store="json:loads"),
        distribution("second", "m3.backends", store="json:dumps"),
    )
    with pytest.raises(ConfigError) as caught:
        found.resolve("backend", "store")
    for part in ("first", "second", "json:loads", "json:dumps"):
        assert part in str(caught.value)


def test_our_own_names_need_no_entry_points():
    """A ready-made name is found without looking through what is installed."""

    def fail(_group):
        pytest.fail("read the entry points")

    found = Registry(BUILTIN, entry_points=fail)
    assert found.resolve("backend", "null").__name__ == "NullBackend"


def test_an_entry_point_of_no_distribution_is_listed():
    """Entry points that were made by hand have no origin to name."""
    found = Registry(entry_points=lambda group: [EntryPoint("a", "json:loads", group)])
    assert found.names("backend")[0].origin == "unknown"


# -- paths ------------------------------------------------------------------


@pytest.mark.parametrize("path", ["collections:OrderedDict", "collections.OrderedDict"])
def test_a_path_gives_the_object(path):
    """With a colon or with dots alone, the path names an object of a module."""
    from collections import OrderedDict

    assert registry.resolve("transport", path) is OrderedDict


def test_a_path_reaches_inside_a_class(modules):
    """After the colon, dots go from object to object."""
    modules(nested="class Outer:\n    class Inner: pass\n")
    assert load("nested:Outer.Inner").__qualname__ == "Outer.Inner"
    with pytest.raises(ConfigError, match=r"pkg\.mod:Outer\.Inner"):
        load("nested.Outer.Inner")


@pytest.mark.parametrize(
    "path", ["a:", ":b", "a:b:c", ".", "..", "a..b", "a:b-c", "a b.c", "./a.py:f", "a.py:", ".a"]
)
def test_a_malformed_path_is_told_from_a_missing_one(path):
    """What cannot be a path is said to be none, and how one looks."""
    with pytest.raises(ConfigError, match=r"write pkg\.mod:Name"):
        load(path)


@pytest.mark.parametrize("path", ["no_such:Name", "no_such.inner.Name", "json.no_such:Name"])
def test_a_missing_module_is_named(path):
    """The message names the module and the ways to make it found."""
    with pytest.raises(ConfigError, match=r"there is no module '.*no_such.*PYTHONPATH") as caught:
        load(path)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_module_that_raises_is_not_a_missing_one(modules):
    """The message has the module and its error; the cause has the line that raised."""
    modules(raising="value = 1\nraise RuntimeError('not today')\n")
    with pytest.raises(
        ConfigError, match="'raising' raised while it was imported: RuntimeError: not today"
    ) as caught:
        load("raising:Name")
    frames = caught.value.__cause__.__traceback__
    while frames.tb_next is not None:
        frames = frames.tb_next
    assert (Path(frames.tb_frame.f_code.co_filename).name, frames.tb_lineno) == ("raising.py", 2)


def test_a_module_that_misses_another_is_not_a_missing_one(modules):
    """A dependency that is not installed is told from a path that is wrong."""
    modules(needy="import no_such_dependency\n")
    with pytest.raises(ConfigError, match=r"'needy' raised .*no_such_dependency"):
        load("needy:Name")


def test_a_module_that_exits_does_not_end_the_program(modules):
    """A script without a guard that calls ``sys.exit`` is an error of the configuration."""
    modules(script="import sys\nsys.exit('done')\n")
    with pytest.raises(ConfigError, match="'script' raised while it was imported: SystemExit"):
        load("script:main")


def test_a_missing_attribute_says_what_is_near():
    """A typing error behind the colon is answered with the name that was meant."""
    with pytest.raises(UnknownNameError, match="'json' has no 'lods'; did you mean 'loads'"):
        load("json:lods")


def test_the_current_directory_is_not_searched(tmp_path):
    """A module that merely lies here is not imported; the message says how it can be."""
    (tmp_path / "lying.py").write_text("raise SystemExit('imported')")
    program = """
from m3.registry import load
from m3.errors import ConfigError
try:
    load("lying:Name")
except ConfigError as error:
    print(error)
"""
    path = tmp_path / "program" / "main.py"
    path.parent.mkdir()
    path.write_text(program)
    output = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert "the current directory has one" in output
    assert "--app-dir" in output


# -- options ----------------------------------------------------------------


def test_options_are_the_parameters_of_the_constructor():
    """Each has its type and default as written, and one line of explanation."""
    assert options_of(Documented) == (
        Option("path", "str | None", None, "where it is, which may take several lines."),
        Option("count", "int | None", "3", "how many: at least one."),
        Option("plain", "", "()", ""),
    )


@pytest.mark.parametrize("target", [len, load, int, type, object, Documented.Inner, 3])
def test_what_has_no_options_has_none(target):
    """Functions, builtins and classes without a constructor take no options."""
    assert options_of(target) == ()


@pytest.mark.parametrize("kind", list(BUILTIN))
def test_every_option_of_a_ready_made_stage_is_described(kind):
    """Each has a summary, and each of its options a type and an explanation."""
    for entry in registry.names(kind):
        if entry.origin != "m3":
            continue
        description = registry.describe(entry)
        assert description.registration == entry
        assert description.summary.endswith(".")
        for option in description.options:
            assert option.type, option
            assert option.help.endswith("."), option


def test_the_options_of_stdin():
    """What ``m3 list`` shows of ``stdin``, to the letter."""
    (entry,) = [entry for entry in registry.names("frontend") if entry.name == "stdin"]
    description = registry.describe(entry)
    assert description.summary == "Read records from standard input."
    assert [(each.name, each.type, each.default) for each in description.options] == [
        ("encoding", "str | None", "None"),
        ("errors", "str", "'strict'"),
        ("limit", "int", "16777216"),
    ]


def test_types_are_written_without_their_modules():
    """The type of a path reads as a person would write it."""
    (entry,) = [entry for entry in registry.names("frontend") if entry.name == "file"]
    path = registry.describe(entry).options[0]
    assert path.type == "str | PathLike[str] | Sequence[str | PathLike[str]]"
    assert path.default is None


def test_importing_the_registry_imports_little():
    """Neither the metadata of distributions nor a connector is loaded."""
    program = """
import sys
import m3.registry
unwanted = {"importlib.metadata", "m3.connectors"} & set(sys.modules)
raise SystemExit(", ".join(unwanted))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.stderr.strip() == ""
