"""Where backends are configured: configure(), Django, simple-settings, entry points."""

import sys
import threading
from contextlib import suppress
from textwrap import dedent

import pytest

from m3 import BackendPool, configure
from m3.pools import ImproperlyConfigured, get_installed_pools, settings


class Hi:
    id = "hi"

    @classmethod
    def create(cls):
        return cls()


class Bye(Hi):
    id = "bye"


class Greetings(BackendPool):
    backend_type = "greeting"


def test_configured_pools_can_be_seen():
    """What was configured can be asked for."""
    pools = {"a": ["path.to.backend"], "b": ("path.to.backend",)}
    configure(pools=pools)
    assert get_installed_pools() == pools


def test_pool_visible_in_workers():
    """Every thread sees what one of them has configured (in Ramos, only that one did)."""
    configuring = threading.Thread(target=lambda: configure(pools={"greeting": [Hi]}))
    configuring.start()
    configuring.join()
    seen = []
    reading = threading.Thread(target=lambda: seen.append(Greetings.get_class("hi")))
    reading.start()
    reading.join()
    assert seen == [Hi]


def test_a_configuration_replaces_the_one_before():
    """Nothing of an earlier configuration is left, and a pool notices at once."""
    configure(pools={"greeting": [Hi], "other": [Hi]})
    assert Greetings.all_classes() == [Hi]
    configure(pools={"greeting": [Bye]})
    assert Greetings.all_classes() == [Bye]
    assert get_installed_pools().keys() == {"greeting"}


def test_a_configuration_can_be_undone():
    """In a ``with`` statement it holds until the end, however that comes."""
    configure(pools={"greeting": [Hi]})
    with pytest.raises(KeyError), configure(pools={"greeting": [Bye]}, settings={"X": 1}):
        assert (Greetings.all_classes(), settings.find("X")) == ([Bye], 1)
        raise KeyError
    assert (Greetings.all_classes(), settings.find("X")) == ([Hi], None)


def test_what_is_done_to_the_list_afterwards_does_not_matter():
    """The configuration is what was given at the call."""
    backends = [Hi]
    pools = {"greeting": backends}
    configure(pools=pools)
    backends.append(Bye)
    pools.clear()
    assert Greetings.all_classes() == [Hi]


@pytest.mark.parametrize("wrong", ["pkg.mod.Name", None, 3, iter([Hi])])
def test_backends_that_are_no_list_are_refused_at_once(wrong):
    """One path where a list belongs is told, not taken letter by letter."""
    with pytest.raises(ImproperlyConfigured, match=r"'greeting' backends .* give a list of paths"):
        configure(pools={"greeting": wrong})
    assert get_installed_pools() == {}


def test_an_unknown_type_is_refused_with_what_is_near():
    """The error names the types that there are, and all ways to configure one."""
    configure(pools={"greetings": [Hi]})
    with pytest.raises(ImproperlyConfigured) as refused:
        Greetings.classes_iterator()
    assert "'greeting' backends; did you mean 'greetings'?" in str(refused.value)
    for way in ("m3.configure(pools=", "POOL_OF_RAMOS", "m3.backends.greeting"):
        assert way in str(refused.value)


def test_configurations_race(race):
    """Whoever reads while others configure sees one configuration or another, never a part."""
    lists = ([Hi], [Bye], [Hi, Bye])
    configure(pools={"greeting": [Hi]})

    def write(backends):
        for _ in range(100):
            configure(pools={"greeting": backends})

    def write_nothing():
        for _ in range(100):
            configure()

    def read():
        seen = []
        for _ in range(100):
            with suppress(ImproperlyConfigured):
                seen.append(Greetings.all_classes())
        return seen

    writers = [lambda each=each: write(each) for each in lists]
    results = race(*writers, write_nothing, read, read, read)
    assert all(classes in lists for seen in results[4:] for classes in seen)


# -- settings of other packages, each in a process of its own ---------------------

BACKENDS = """
class Backend:
    @classmethod
    def create(cls):
        return cls()

class Hi(Backend):
    id = "hi"

class Bye(Backend):
    id = "bye"
"""

POOLS = """
from m3 import BackendPool
from m3.pools import DefaultBackendMixin

class Greetings(DefaultBackendMixin, BackendPool):
    backend_type = "greeting"
    SETTINGS_KEY = "DEFAULT_GREETING"
"""

SHOW = "print([each.id for each in Greetings.all()], Greetings.get_default().id)"

SETTINGS = """
POOL_OF_RAMOS = {"greeting": ["backends.Hi", "backends.Bye"]}
DEFAULT_GREETING = "bye"
"""


@pytest.fixture
def run(run_program, tmp_path):
    """Return a function that runs a program beside modules, and returns what it prints."""
    (tmp_path / "backends.py").write_text(BACKENDS)
    (tmp_path / "pools.py").write_text(POOLS)
    (tmp_path / "my_settings.py").write_text(SETTINGS)

    def run(program, *arguments):
        (tmp_path / "program.py").write_text(f"from pools import *\n{dedent(program)}")
        done = run_program(sys.executable, "program.py", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_settings_of_django(run):
    """POOL_OF_RAMOS and the key of a default are Django's settings, also when they change."""
    pytest.importorskip("django")
    out = run(
        f"""
        from django.conf import settings
        import my_settings
        settings.configure(my_settings)
        {SHOW}
        settings.POOL_OF_RAMOS = {{"greeting": ["backends.Bye"]}}
        {SHOW}
        """
    )
    assert out == ["['hi', 'bye'] bye", "['bye'] bye"]


def test_settings_of_django_by_its_variable(run, monkeypatch):
    """Settings that Django has not loaded yet are loaded where it knows which."""
    pytest.importorskip("django")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "my_settings")
    assert run(f"import django.conf\n{SHOW}") == ["['hi', 'bye'] bye"]


def test_settings_of_simple_settings(run):
    """The same from simple-settings, as its command line names them; its stub works too."""
    pytest.importorskip("simple_settings")
    out = run(
        f"""
        from simple_settings.utils import settings_stub
        {SHOW}
        with settings_stub(POOL_OF_RAMOS={{"greeting": ["backends.Bye"]}}):
            {SHOW}
        {SHOW}
        """,
        "--settings=my_settings",
    )
    assert out == ["['hi', 'bye'] bye", "['bye'] bye", "['hi', 'bye'] bye"]


def test_wrong_settings_of_simple_settings_are_not_hidden(run):
    """That simple-settings knows none is no error; that it cannot load them is one."""
    pytest.importorskip("simple_settings")
    out = run(
        """
        import simple_settings
        try:
            Greetings.all()
        except RuntimeError as error:
            print(error)
        """,
        "--settings=no_such.thing",
    )
    assert "no_such.thing" in out[0]


def test_packages_that_are_there_but_not_used(run):
    """Nothing is imported for settings, and packages without settings do not disturb."""
    pytest.importorskip("django")
    pytest.importorskip("simple_settings")
    out = run(
        """
        import sys
        from m3 import configure
        from m3.pools import ImproperlyConfigured
        def fails():
            try:
                Greetings.all()
            except ImproperlyConfigured:
                return True
        print(fails(), sorted({"django", "simple_settings"} & sys.modules.keys()))
        import django.conf, simple_settings
        print(fails())
        configure(pools={"greeting": ["backends.Hi"]})
        print(Greetings.all_classes()[0].id)
        """
    )
    assert out == ["True []", "True", "hi"]


@pytest.fixture
def entry_points(tmp_path):
    """Return a function that installs a distribution which brings backends."""

    def install(name, **backends):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        lines = [f"{backend} = {path}" for backend, path in backends.items()]
        (folder / "entry_points.txt").write_text(
            "\n".join(["[m3.backends.greeting]", *lines, "[m3.backends]", "other = x:Y", ""])
        )

    return install


def test_entry_points(run, entry_points):
    """Backends of installed distributions are there; only the one asked for is imported."""
    entry_points("one", hi="backends:Hi", broken="no_such_module:Name")
    out = run(
        """
        from m3.errors import ConfigError
        print(Greetings.get("hi").id)
        for call in (lambda: Greetings.get("broken"), lambda: Greetings.get("hii")):
            try:
                call()
            except ConfigError as error:
                print(error)
        """
    )
    assert out[0] == "hi"
    assert out[1].startswith("there is no module 'no_such_module'")
    assert out[2] == "Invalid greeting backend: hii; did you mean 'hi'?; there are: hi, broken"


def test_two_entry_points_of_one_name(run, entry_points):
    """Two distributions that bring the same id are told, with both paths."""
    entry_points("one", hi="backends:Hi")
    entry_points("two", hi="backends:Bye")
    out = run(
        """
        from m3.pools import ImproperlyConfigured
        try:
            Greetings.get("hi")
        except ImproperlyConfigured as error:
            print(error)
        """
    )
    assert "'greeting' backend 'hi'" in out[0]
    assert "backends:Hi" in out[0]
    assert "backends:Bye" in out[0]


def test_who_is_asked_first(run, entry_points):
    """configure() before settings before entry points, for each type by itself."""
    pytest.importorskip("simple_settings")
    entry_points("one", hi="backends:Hi")
    out = run(
        """
        from m3 import configure
        def show():
            print([each.id for each in Greetings.all()])
        show()
        import simple_settings
        show()
        with configure(pools={"greeting": ["backends.Bye"]}):
            show()
        configure(pools={"other": ["backends.Bye"]})
        show()
        """,
        "--settings=my_settings",
    )
    assert out == ["['hi']", "['hi', 'bye']", "['bye']", "['hi', 'bye']"]


def test_two_threads_that_extend(monkeypatch):
    """What one of two threads says at once about one type does not undo the other's."""
    configure()
    others = []

    def configuration(*arguments):
        if not others:
            others.append(threading.Thread(target=settings.extend, args=({"b": [Bye]},)))
            others[0].start()
            others[0].join(0.1)
        return real(*arguments)

    real = settings.Configuration
    monkeypatch.setattr(settings, "Configuration", configuration)
    settings.extend({"a": [Hi]})
    others[0].join(10)
    assert settings.get_installed_pools() == {"a": [Hi], "b": [Bye]}
