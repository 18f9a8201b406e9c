"""
Every snippet of Ramos' pages, with m3's paths of import, is run.

Each is executed as it stands there, in a new process; what surrounds it gives it
what it leaves to the reader, and looks at what it did.
"""

import sys

import pytest

BACKENDS = """
class PrintHiBackend:

    id = 'hi'

    @classmethod
    def create(cls):
        return cls()

    def print(self):
        print('hi')


class PrintByeBackend:

    id = 'bye'

    @classmethod
    def create(cls):
        return cls()

    def print(self):
        print('bye')
"""

CONFIGURE = """
import m3

m3.configure(pools={
    'print': (
        '__main__.PrintHiBackend',
        '__main__.PrintByeBackend',
    )
})
"""

POOL = """
from m3.pools.pool import BackendPool

class PrintBackendPool(BackendPool):
    backend_type = 'print'
"""

USE = """
pool = PrintBackendPool()

# iterate over all of them
for backend in pool.all():
    backend.print()

# get a backend by id
backend = pool.get('bye')
backend.print()
"""

SINGLETON = """
from m3.pools.mixins import SingletonCreateMixin

class BaseBackend:

    def do_something(self):
        pass


class MyBackend(SingletonCreateMixin, BaseBackend):

    def do_something(self):
        # do something else
        pass


backend = MyBackend.create()
other = MyBackend.create()

assert backend is other  # True
"""

DEFAULT = """
from m3.pools.mixins import DefaultBackendMixin
from m3.pools.pool import BackendPool

class MyBackendPool(DefaultBackendMixin, BackendPool):
    SETTINGS_KEY = 'DEFAULT_BACKEND_ID'

backend = MyBackendPool.get_default()
assert backend.id == 'DEFAULT_BACKEND_ID'
"""

PATHS = """
import m3

m3.configure(pools={
    'print': [
        'path.to.backend_a',
        'path.to.backend_b',
    ]
})
"""

SETTINGS = """
# settings.py

POOL_OF_RAMOS = {
    'backend_type': [
        'path.to.backend_a',
        'path.to.backend_b',
    ]
}
"""

A_AND_B = """
class backend_a:
    id = 'a'
    @classmethod
    def create(cls):
        return cls()

class backend_b(backend_a):
    id = 'b'
"""


@pytest.fixture
def run(run_program, tmp_path):
    """Return a function that runs a program beside ``path.to`` and returns what it printed."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "to.py").write_text(A_AND_B)

    def run(program):
        (tmp_path / "program.py").write_text(program)
        done = run_program(sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_the_example(run):
    """All four steps together greet as the page says."""
    assert run(BACKENDS + CONFIGURE + POOL + USE) == ["hi", "bye", "bye"]


def test_the_same_names_without_their_modules(run):
    """Everything is in m3.pools, and what is used most in m3."""
    pool = POOL.replace("m3.pools.pool", "m3")
    assert run(BACKENDS + CONFIGURE + pool + USE) == ["hi", "bye", "bye"]
    assert run(SINGLETON.replace("m3.pools.mixins", "m3.pools")) == []


def test_the_singleton(run):
    """Two calls of create return the same."""
    assert run(SINGLETON) == []


def test_the_default(run):
    """The backend that the setting names; here its id is the key itself, as the page has it."""
    configured = """
import m3
class Backend:
    id = 'DEFAULT_BACKEND_ID'
    @classmethod
    def create(cls):
        return cls()
m3.configure(pools={None: [Backend]}, settings={'DEFAULT_BACKEND_ID': 'DEFAULT_BACKEND_ID'})
"""
    assert run(configured + DEFAULT) == []


def test_paths(run):
    """Backends in other modules."""
    assert run(PATHS + POOL + "print([each.id for each in PrintBackendPool.all()])") == [
        "['a', 'b']"
    ]


@pytest.mark.parametrize("package", ["django", "simple_settings"])
def test_settings(run, tmp_path, monkeypatch, package):
    """A settings file, of Django or of simple-settings."""
    pytest.importorskip(package)
    (tmp_path / "settings.py").write_text(SETTINGS)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")
    monkeypatch.setenv("SIMPLE_SETTINGS", "settings")
    library = {"django": "django.conf", "simple_settings": "simple_settings"}[package]
    pool = POOL.replace("'print'", "'backend_type'")
    show = "print([each.id for each in PrintBackendPool.all()])"
    assert run(f"import {library}\n{pool}\n{show}") == ["['a', 'b']"]
