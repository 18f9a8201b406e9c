"""Real processes that run the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import m3

SOURCES = str(Path(m3.__file__).parent.parent)
STURDY = Path(__file__).parent.parent / "engine" / "sturdy.py"

STAGES = r'''
import os
import time

from m3.stages import Backend, Frontend, Transport


class Endless(Frontend):
    """Numbers without end, as lines."""

    def produce(self):
        number = 0
        while True:
            yield b"%d" % number
            number += 1


class Gate(Transport):
    """Tells on stderr that it has an item, and holds it until somebody writes into a FIFO."""

    def __init__(self, *, path: str = "gate"):
        self.path = path
        self.is_open = False

    def transport(self, data):
        if not self.is_open:
            os.write(2, b"at the gate\n")
            open(self.path).read()
            self.is_open = True
        return data


class Watch(Transport):
    """Tells on stderr that the last item has come."""

    def transport(self, data):
        if data == b"99":
            os.write(2, b"the last item\n")
        return data


class GateInSetup(Gate):
    def setup(self):
        self.transport(None)


class Strict(Transport):
    def transport(self, data):
        return self.check(data)

    def check(self, data):
        if data == b"bad":
            raise ValueError("not good")
        return data


class Printing(Backend):
    def process(self, data):
        print(data)


class BrokenSocket(Backend):
    def process(self, data):
        raise BrokenPipeError("the server went away")


class NoWayOn(Endless):
    def setup(self):
        from m3.errors import StateError

        raise StateError("the input has changed; start again with --from-start")


class Refusing(Backend):
    """Raises in its setup what it is told to."""

    def __init__(self, *, error):
        self.error = error

    def setup(self):
        from m3 import errors

        raise {
            "ConfigError": errors.ConfigError("no such table"),
            "MissingExtraError": errors.MissingExtraError("a driver", extra="x"),
            "FileNotFoundError": FileNotFoundError(2, "there is none", "x"),
        }[self.error]

    def process(self, data):
        pass


class NoDatabase(Backend):
    def setup(self):
        raise RuntimeError("no database")

    def process(self, data):
        pass
'''


class Command:
    """The command ``m3`` in a folder with the modules of stages ``stages_of_test``, ``sturdy``."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        (folder / "app").mkdir()
        (folder / "app" / "stages_of_test.py").write_text(STAGES)
        (folder / "app" / "sturdy.py").write_bytes(STURDY.read_bytes())

    def environment(self, **more):
        """Return the environment of the processes: this one's, without options of m3."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("M3_")}
        path = os.pathsep.join([SOURCES, str(self.folder / "app")])
        return kept | {"PYTHONPATH": path} | more

    def run(self, *arguments, stdin="", **environment):
        """Run the command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "m3", *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
        )

    def start(self, *arguments, program=None, environment=None, **options):
        """Start the command, or *program*, with pipes to all its streams; return the process."""
        begin = ["-m", "m3"] if program is None else ["-c", program]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [sys.executable, *begin, *arguments],
            cwd=self.folder,
            env=self.environment(**(environment or {})),
            bufsize=0,  # or what comes with a line that is read is lost to communicate()
            **(streams | options),
        )
        self.processes.append(process)
        return process

    def gate(self):
        """Make the FIFO that stages of the class Gate wait for, and return its path."""
        path = self.folder / "gate"
        os.mkfifo(path)
        return path

    def close(self):
        """End what still runs."""
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def command(tmp_path):
    """The command ``m3`` in a folder of its own."""
    made = Command(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def command_of_module(tmp_path_factory):
    """The command ``m3`` in a folder that the tests of a module share."""
    made = Command(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()
