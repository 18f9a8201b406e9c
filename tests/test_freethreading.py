"""m3 on the free-threaded build: the GIL stays off, and threads run side by side."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="this is not a free-threaded build of Python",
)

PACKAGE = Path(__file__).parent.parent / "m3"
COMPILED = sorted(f"m3.{path.stem}" for path in PACKAGE.glob("*.pyx"))


def run(script, *arguments):
    """Run *script* in a fresh interpreter with every warning an error; return what it prints."""
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("module", COMPILED)
def test_importing_leaves_the_gil_off(module):
    """No compiled module switches the GIL back on, nor warns that it would."""
    script = (
        "import importlib, sys; importlib.import_module(sys.argv[1]); print(sys._is_gil_enabled())"
    )
    assert run(script, module) == "False"


# Two threads that answer each other without ever letting go: with a GIL that
# nobody is asked to give up, the first would wait for the second for ever.
PARALLEL = """
import sys, threading
from m3._queue import BoundedQueue

sys.setswitchinterval(1000)
rounds, turns, answers = 1000, [0, 0], BoundedQueue()

def answer(own, other):
    for turn in range(1, rounds + 1):
        turns[own] = turn
        while turns[other] < turn:
            pass
    answers.put(turns[own])

for own in (0, 1):
    threading.Thread(target=answer, args=(own, 1 - own), daemon=True).start()
print(answers.get() + answers.get())
"""


def test_threads_run_in_parallel():
    """Threads run Python code at the same time after m3 was imported."""
    assert run(PARALLEL) == "2000"
