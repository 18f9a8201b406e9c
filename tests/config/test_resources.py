"""Resources in a configuration: found by the name of an attribute, checked, and made."""

import sys
from types import SimpleNamespace

import pytest

from m3.config import Flags, read
from m3.errors import ConfigError
from m3.pools import configure
from m3.pools.settings import get_installed_pools

MODULE = """
from m3 import Backend, Component, Secret, Transport

class Disk(Component):
    def __init__(self, *, path: str = "/tmp"): self.path = path

class Database(Component):
    disk: Disk
    def __init__(self, url: str, *, size: int = 3, password: Secret | None = None):
        if size > 99: raise ValueError("too large")
        self.url, self.size, self.password = url, size, password

class Archive(Database):
    pass

class Store(Backend):
    db: Database
    def process(self, data): pass

class One(Component):
    other: "Two"

class Two(Component):
    one: One

class Circular(Transport):
    one: One
    def transport(self, data): return data

class Both(Transport):
    db: Disk
    def transport(self, data): return data

def placed(data, *, disk: Disk): return data
"""

STAGES = """\
frontend = [{ use = "stdin" }]
backend = [{ use = "resources_of_test:Store" }]
"""


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Return a function that reads a configuration with further lines and flags."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "resources_of_test", raising=False)
    (tmp_path / "resources_of_test.py").write_text(MODULE)
    path = tmp_path / "pipeline.toml"

    def configure(text, *assignments, **environ):
        path.write_text(STAGES + text)
        return read(path, Flags(set=assignments), environ)

    return configure


def mistakes(configuration):
    """Return what is wrong, in one text."""
    with pytest.raises(ConfigError) as caught:
        configuration.plan()
    return str(caught.value)


def test_class_of_the_annotation(configured):
    """A resource is of the class that the attribute of its name asks for."""
    plan = configured('[resources.db]\nurl = "x"\nsize = 7').plan()
    db = plan.resources["db"]
    assert (type(db).__name__, db.url, db.size) == ("Database", "x", 7)


def test_what_a_component_asks_for(configured):
    """A component's own resources are found by their names, too."""
    plan = configured('[resources.db]\nurl = "x"\n[resources.disk]\npath = "/data"').plan()
    assert plan.resources["disk"].path == "/data"


def test_what_a_function_asks_for(configured):
    """A stage that is a function asks by its keyword-only parameters, as a class by attributes."""
    stage = '[[transport]]\nuse = "resources_of_test:placed"\n'
    plan = configured(stage + '[resources.db]\nurl = "x"\n[resources.disk]\npath = "/data"').plan()
    assert plan.resources["disk"].path == "/data"


def test_class_that_is_named(configured):
    """With a type, it is of that class, and nobody need ask for it."""
    plan = configured(
        '[resources.db]\nurl = "x"\ntype = "resources_of_test:Archive"\n'
        '[resources.metrics]\ntype = "resources_of_test:Disk"'
    ).plan()
    assert [type(it).__name__ for it in plan.resources.values()] == ["Archive", "Disk"]


def test_a_name_that_is_nearly_right(configured):
    """Also with a type, a name near to one that is asked for is a mistake, at its line."""
    text = '[resources.dbb]\nurl = "x"\ntype = "resources_of_test:Database"'
    found = mistakes(configured(text))
    assert found.endswith(
        ": resources.dbb: no stage and no component asks for one of that name; did you mean 'db'?"
    )
    assert "pipeline.toml:" in found


def test_flags_and_variables(configured):
    """Flags cover what the file says, and variables are replaced."""
    configuration = configured(
        '[resources.db]\nurl = "${URL}"\nsize = 1', "resources.db.size=5", URL="postgres://"
    )
    db = configuration.plan().resources["db"]
    assert (db.url, db.size) == ("postgres://", 5)


def test_without_a_file(configured):
    """A flag alone makes a resource."""
    assert configured("", "resources.db.url=x").plan().resources["db"].url == "x"


def test_secrets(configured):
    """An option whose type is Secret becomes one."""
    plan = configured('[resources.db]\nurl = "x"\npassword = "hunter2"').plan()
    assert "hunter2" not in str(plan.resources["db"].password)


def test_its_config(configured):
    """A table called config becomes the config of the component."""
    plan = configured('[resources.db]\nurl = "x"\n[resources.db.config]\nlevel = 3').plan()
    assert plan.resources["db"].config == SimpleNamespace(level=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[resources.dbb]", "pipeline.toml:3: resources.dbb: no stage and no component asks"),
        ("[resources.dbb]", "did you mean 'db'?"),
        ("[resources.db]\nur = 1\nurl = 'x'", "pipeline.toml:4: resources.db.ur: there is no such"),
        ("[resources.db]\nsize = 'many'\nurl = 'x'", "resources.db.size: must be int, not 'many'"),
        ("[resources.db]", "resources.db.url: must be given"),
        ("[resources.db]\nurl = 'x'\nsize = 100", "Database(): ValueError: too large"),
        ("[resources.db]\ntype = 'resources_of_test:Nope'", "resources.db: "),
        ("[resources]\ndb = 3", "resources.db: must be a table"),
        ("resources = 3", "resources: must be a table"),
        ("[pools]\nstorage = 3", "pools.storage: must be a list of paths"),
        ("[pools]\nstorage = ['x']", "pools.storage: must be a list of paths"),
    ],
)
def test_mistakes(configured, text, message):
    """What is wrong is said with its line or key, and nothing is made."""
    assert message in mistakes(configured(text))


def test_asked_for_as_two_classes(configured):
    """A name that stands for two classes needs a type."""
    configuration = configured("transport = [{ use = 'resources_of_test:Both' }]\n[resources.db]")
    assert "it is asked for as Database and as Disk" in mistakes(configuration)


def test_circles(configured):
    """Components that need each other are a mistake of the configuration."""
    configuration = configured(
        "transport = [{ use = 'resources_of_test:Circular' }]\n[resources.db]\nurl = 'x'"
    )
    assert "One -> Two -> One" in mistakes(configuration)


def test_pools(configured):
    """The table of pools says which backends there are, of the types that it names."""
    with configure(pools={"kept": ["a.b:C"], "storage": ["old.module:Class"]}):
        configuration = configured('[pools]\nstorage = ["a:One"]\n[pools.mail]\nsmtp = "b:Two"')
        configuration.checked()
        assert get_installed_pools() == {
            "kept": ["a.b:C"],
            "storage": ["a:One"],
            "mail": {"smtp": "b:Two"},
        }
