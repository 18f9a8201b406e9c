"""Secrets are in no output, and items cannot write to the terminal; whatever goes wrong."""

import json

import pytest

pytestmark = pytest.mark.once

CANARY = "canary-5f3a/9q"
URL = f"postgresql://me:{CANARY.replace('/', '')}@db.example/x"

STAGES = r'''
import logging

from m3 import Backend, Frontend, Secret, Transport

log = logging.getLogger("user")


class Store(Backend):
    """
    Fail in one way.

    Args:
        key: to the store.
        url: of the store.
        how: to fail.
    """

    def __init__(self, *, key: Secret, url: str = "", how: str = "", count: int = 0):
        assert isinstance(key, Secret)
        self.key, self.url, self.how = key, url, how
        if how == "constructor":
            raise ValueError(f"no store {url} for {key.reveal()}")

    def setup(self):
        log.warning("connecting to %s with %s, %r", self.url, self.key, self.key.reveal())
        if self.how == "setup":
            raise ConnectionError(f"no store at {self.url} for {self.key.reveal()}")

    def process(self, data):
        try:
            self.login(data)
        except ConnectionError as error:
            raise ValueError(f"cannot store {data} at {self.url}") from error

    def login(self, data):
        if self.how in ("process", "skip"):
            raise ConnectionError(f"{self.key.reveal()!r} is not welcome at {self.url}")

    def cleanup(self):
        if self.how == "cleanup":
            raise RuntimeError(f"still connected to {self.url} with {self.key.reveal()}")


class Hostile(Transport):
    def transport(self, data):
        log.info("\x1b[2J a\r\nlog: forged")
        if data == b"message":
            raise ValueError("\x1b]0;owned\x07\x1b[2J\rgone\nm3: all is well\n\x9b31m\u202e")
        if data == b"type":
            raise type("\x1b[2J\nm3: ", (Exception,), {})("x")
        if data == b"note":
            error = ValueError("x")
            error.add_note("\x1b[2J\nm3: note")
            raise error
        raise ValueError(Evil())


class Evil:
    def __repr__(self):
        return "\x1b[2J\nm3: repr"


class EvilItems(Frontend):
    def produce(self):
        yield Evil()
'''


@pytest.fixture
def store(command):
    """The command, with a module of stages that fail."""
    (command.folder / "app" / "failing.py").write_text(STAGES)
    return command


FILE = """
[frontend]
use = "stdin"

[[backend]]
use = "failing:Store"
key = "${CANARY}"
url = "${URL}"
how = "process"
"""


def everything(done, folder):
    """Return all that a run has written: stdout, stderr, and the report if there is one."""
    report = folder / "report.json"
    return done.stdout + done.stderr + (report.read_text() if report.exists() else "")


@pytest.mark.parametrize("how", ["", "constructor", "setup", "process", "skip", "cleanup"])
@pytest.mark.parametrize("flags", [[], ["-vv"], ["--log-format", "json", "-v"]])
def test_no_failure_shows_a_secret(store, how, flags):
    """A run that fails in any phase tells why, and not with which key or password."""
    (store.folder / "p.toml").write_text(FILE)
    done = store.run(
        *("run", "p.toml", "--report", "report.json", "--set", f"backend.how={how}", *flags),
        *(["--set", "backend.on_error=skip"] if how == "skip" else []),
        stdin="a\n",
        CANARY=CANARY,
        URL=URL,
    )
    assert done.returncode == {"": 0, "skip": 3}.get(how, 1), done.stderr
    shown = everything(done, store.folder)
    assert "canary" not in shown
    assert "me:***@db.example" in shown


@pytest.mark.parametrize("where", ["flag", "file", "environment"])
@pytest.mark.parametrize("command_name", ["explain", "run"])
def test_no_mistake_shows_a_secret(store, command_name, where):
    """Mistakes, and explain, show what was given by its name."""
    said = {"key": CANARY, "url": URL, "count": CANARY, "how": URL}
    flags, environment = [], {}
    text = FILE.partition("key")[0] + 'workers = "${OTHER}"\n'
    if where == "flag":
        said |= {"key.inner": CANARY}
        flags = [word for k, v in said.items() for word in ("--set", f"backend.{k}={v}")]
        flags += ["--set", f"..={CANARY}", "--set", f"timeout={CANARY}"]
    elif where == "file":
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())
    else:
        environment = {"M3_SET": " ".join(f"backend.{k}={v}" for k, v in said.items())}
    (store.folder / "p.toml").write_text(text)
    done = store.run(command_name, "p.toml", *flags, OTHER="another canary", **environment)
    assert done.returncode == 2
    assert "backend.1.count: must be int" in done.stderr
    assert "backend.1.workers: must be a whole number, not '${OTHER}'" in done.stderr
    assert "canary" not in done.stdout + done.stderr


def test_explain_shows_names_only(store):
    """Of a secret option the variable is shown, or nothing; of a URL all but the password."""
    (store.folder / "p.toml").write_text(FILE)
    done = store.run("explain", "p.toml", CANARY=CANARY, URL=URL)
    assert 'key               "${CANARY}"' in done.stdout or '"${CANARY}"' in done.stdout
    flags = ["--set", f"backend.key={CANARY}", "--set", f"backend.url={URL}"]
    flagged = store.run("explain", "p.toml", *flags, CANARY=CANARY, URL=URL)
    assert (done.returncode, flagged.returncode) == (0, 0), flagged.stderr
    assert "canary" not in done.stdout + flagged.stdout
    rows = [line.split() for line in flagged.stdout.splitlines()]
    assert ["key", "***", "--set", "backend.key"] in rows
    assert ["url", '"postgresql://me:***@db.example/x"', "--set", "backend.url"] in rows


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("item", ["message", "type", "note", "repr"])
@pytest.mark.parametrize("flags", [[], ["-v"], ["--log-format", "json"]])
def test_errors_cannot_write_to_the_terminal(store, item, policy, flags):
    """No message of an error moves the cursor, reorders a line or passes for one of m3's."""
    done = store.run(
        *("run", "--frontend", "stdin", "--transport", "failing:Hostile", "-v", *flags),
        *("--set", f"transport.on_error={policy}", "--report", "report.json"),
        stdin=f"{item}\n",
    )
    assert done.returncode == {"fail": 1, "skip": 3}[policy], done.stderr
    is_harmless(done.stderr + (store.folder / "report.json").read_text())
    lines = done.stderr.splitlines()
    if "json" in flags:
        assert all(json.loads(line)["logger"] in ("user", "m3.cli") for line in lines)
    else:
        ours = [line for line in lines if not line.startswith("  ")]
        told = [line for line in ours if line.startswith("m3: ")]
        assert told[0].startswith("m3: delivery: ")
        assert [line.partition("stage")[0] for line in told[1:-1]] == [
            "m3: " if policy == "fail" else "m3: warning: skipped: "
        ]
        assert not any(line.startswith("log: ") for line in ours)


def test_items_cannot_write_to_the_terminal(store):
    """An item whose repr is hostile is shown in one harmless line."""
    done = store.run(
        *("run", "--frontend", "failing:EvilItems", "--transport", "log", "--backend", "null")
    )
    assert done.returncode == 0
    is_harmless(done.stderr)
    delivery, item, summary = done.stderr.splitlines()
    assert delivery.startswith("m3: delivery: ")
    assert "log: " in item
    assert summary.startswith("m3: pipeline: 1 produced")


def is_harmless(text):
    """Assert that *text* has no character that a terminal obeys."""
    assert all(c == "\n" or c.isprintable() for c in text), ascii(text)
