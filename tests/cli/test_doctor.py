"""``m3 doctor``: each resource of a configuration is tried by itself."""

import re

import pytest

MODULE = """
from m3 import Backend, Component

class Disk(Component):
    def setup(self): print("setup disk")
    def shutdown(self): print("shutdown disk")

class Database(Component):
    disk: Disk
    def __init__(self, *, url: str = "ok"): self.url = url
    def setup(self):
        if self.url == "refused": raise ConnectionError(f"nobody at {self.url}")
    def health(self):
        if self.url == "sick": raise ValueError("too slow")

class Cache(Component):
    pass

class Store(Backend):
    db: Database
    cache: Cache
    def setup(self): print("stage")
    def process(self, data): pass
"""


@pytest.fixture
def doctor(run_program, tmp_path):
    """Return a function that runs ``m3 doctor`` for stages that ask for resources."""
    (tmp_path / "shop.py").write_text(MODULE)

    def run(*arguments, backend="shop:Store"):
        command = ("m3", "doctor", "--app-dir", ".", "--frontend", "stdin", "--backend", backend)
        return run_program(*command, *arguments)

    return run


def test_all_work(doctor):
    """Each resource is set up with what it needs and shut down, and no stage is made."""
    done = doctor()
    assert done.returncode == 0
    assert done.stdout.count("works") == 3
    assert done.stdout.count("setup disk") == done.stdout.count("shutdown disk") == 2
    assert "stage" not in done.stdout


@pytest.mark.parametrize(("url", "reason"), [("refused", "nobody at"), ("sick", "too slow")])
def test_one_fails(doctor, url, reason):
    """What fails is said with its reason, the others are tried all the same, and the code is 1."""
    done = doctor("--set", f"resources.db.url={url}")
    assert done.returncode == 1
    assert "db (Database): fails" in done.stdout
    assert reason in done.stdout
    assert done.stdout.count("works") == 2


def test_nothing_to_try(doctor):
    """Without resources it says so."""
    done = doctor(backend="null")
    assert (done.returncode, done.stdout) == (0, "no stage asks for a resource\n")


def test_mistakes(doctor):
    """What is wrong with the configuration is said before anything is tried."""
    done = doctor("--set", "resources.caches.url=x")
    assert done.returncode == 2
    assert "did you mean 'cache'" in done.stderr
    assert done.stdout == ""


def test_explain_draws_them(run_program, doctor):
    """``m3 explain`` shows what is configured, who asks for what, and who needs whom."""
    command = ("m3", "explain", "--app-dir", ".", "--frontend", "stdin", "--backend", "shop:Store")
    shown = run_program(*command, "--set", "resources.db.url=x").stdout
    assert 'resource  db  (Database)\n  url  "x"  --set resources.db.url' in shown
    assert re.search(r"^  db +Database +resource$", shown, re.MULTILINE)
    assert "resources, each below what needs it\n" in shown
    assert shown.index("  Database") < shown.index("      Disk")
