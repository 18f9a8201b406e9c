"""``m3 run`` as a user runs it, on a machine where something is wrong."""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from outcomes import residual

import m3
from m3.engine.state import look_at
from m3.errors import StateError

SOURCES = str(Path(m3.__file__).parent.parent)

STAGES = r'''
"""Stages of a user, some of which misbehave."""

import os
import time

from m3.stages import Backend, Frontend, Transport


class Counting(Frontend):
    """Numbers without end."""

    def produce(self):
        number = 0
        while True:
            yield b"%d" % number
            number += 1


class Slow(Transport):
    """Takes a while over each item."""

    def __init__(self, *, seconds: float = 0.001):
        self.seconds = seconds

    def transport(self, data):
        time.sleep(self.seconds)
        return data


class Deadly(Transport):
    """Kills the process at one item, as a fault in a library written in C does."""

    def __init__(self, *, item: str = "500"):
        self.item = item.encode()

    def transport(self, data):
        if data == self.item:
            os.abort()
        return data


class Opening(Transport):
    """Opens a file for each item, and forgets to close it."""

    def setup(self):
        self.files = []

    def transport(self, data):
        self.files.append(os.open(os.devnull, os.O_RDONLY))
        return data


class SlowSink(Backend):
    """Cannot keep up with what comes."""

    def process(self, data):
        time.sleep(0.002)


def every_third(row):
    if row["id"] % 3 == 0:
        raise ValueError("one of three is bad")
    return row


def same(item):
    return item


def length_of_b(row):
    return str(len(row["b"]))


def endless(item):
    return item if int(item) % 2 else endless(item)
'''


@dataclass(frozen=True)
class Ended:
    """What a run of ``m3 run`` did; *counts* is its report, or empty."""

    code: int
    output: bytes
    said: str
    counts: dict

    def is_accounted_for(self):
        """Return whether no item is missing from the report, and no traceback of m3 was shown."""
        return residual(self.counts) == 0 and SOURCES + "/m3/" not in self.said


class Runner:
    """Runs ``m3 run`` in a folder that has a module of stages, ``faulty``."""

    sources = SOURCES

    def __init__(self, folder):
        self.folder = folder
        (folder / "app").mkdir()
        (folder / "app" / "faulty.py").write_text(STAGES)

    def command(self, *arguments):
        """Return the command line."""
        report = self.folder / "report.json"
        words = ["m3", "run", "--app-dir", self.folder / "app", "--report", report, *arguments]
        return [sys.executable, "-m", *map(str, words)]

    def environment(self, **more):
        """Return the environment: this one's, without options of m3."""
        kept = {name: it for name, it in os.environ.items() if not name.startswith("M3_")}
        return kept | {"PYTHONPATH": SOURCES, **more}

    def start(self, *arguments, within=(), limits=None, environment=None, **options):
        """Start a run; *within* is a command that runs it, *limits* those of the system."""

        def limit():
            for name, most in (limits or {}).items():
                resource.setrlimit(getattr(resource, name), (most, most))

        (self.folder / "report.json").unlink(missing_ok=True)
        return subprocess.Popen(
            [*within, *self.command(*arguments)],
            cwd=self.folder,
            env=self.environment(**(environment or {})),
            preexec_fn=limit if limits else None,  # noqa: PLW1509
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options},
            stderr=subprocess.PIPE,
        )

    def end(self, process, *, timeout=30):
        """Wait for the end, which has to come; return what the run did."""
        try:
            output, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, said = process.communicate()
            pytest.fail(f"it hangs; so far it said: {said.decode(errors='replace')}")
        return Ended(
            process.returncode, output or b"", said.decode(errors="replace"), self.counts()
        )

    def wait_for_checkpoints(self, process, number, state="state"):
        """Wait until a run that goes on has written so many."""
        until = time.monotonic() + 20
        while self.last_checkpoint(state) < number:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.001)

    def last_checkpoint(self, state="state"):
        """Return the number of the last checkpoint, 0 if there is none yet."""
        try:
            return look_at(self.folder / state).checkpoint.number
        except StateError:
            return 0

    def counts(self):
        """Return the report of the last run; empty if it has written none."""
        try:
            return json.loads((self.folder / "report.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def run(self, *arguments, timeout=30, **options):
        """Run it to its end."""
        return self.end(self.start(*arguments, **options), timeout=timeout)


@pytest.fixture(scope="session")
def make_runner():
    """Return what makes runners in folders."""
    return Runner


@pytest.fixture
def m3_run(tmp_path):
    """Return what runs ``m3 run`` in a folder of its own."""
    return Runner(tmp_path)


class Disk:
    """A file system of its own, as small as is wanted."""

    def __init__(self, path):
        self.path = path

    def resize(self, kib):
        """Let it have room for so many KiB."""
        subprocess.run(["mount", "-o", f"remount,size={kib}k", self.path], check=True)


@pytest.fixture
def disk(tmp_path):
    """Return a small file system; skip where none may be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", path], check=True)  # what reads it may not have closed it
