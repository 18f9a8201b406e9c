"""What all tests share: how a program of this checkout is run as a user would run it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "aws_server",
    "aws_stages",
    "fault_proxy",
    "pytester",
    "rabbit_node",
    "rabbitmq",
    "tcp_proxy",
]

settings.register_profile("m3", deadline=None)  # a busy machine is no failure
settings.load_profile("m3")


def pytest_configure():
    """Let Ctrl-C reach the programs that tests start, also in a job in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val):
    """Name a case by its value, without an address, which differs from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(val)) if " at 0x" in repr(val) else None


ROOT = Path(__file__).parent.parent


@pytest.fixture
def hurried():
    """Make the interpreter switch threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_program(tmp_path) -> Run:
    """
    Return a function that runs a command in an empty folder and returns what it did.

    The ``m3`` command and the interpreter of these tests come first on PATH.
    """

    def run(*command: str | Path, stdin: str = "", **options) -> subprocess.CompletedProcess[str]:
        own = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([own, os.environ["PATH"]]),
            "PYTHONWARNINGS": "error",
        }
        return subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            **{"env": environment, "timeout": 50, **options},
        )

    return run
