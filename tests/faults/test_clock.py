"""F9: the wall clock jumps: nothing that waits depends on it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import m3

ENGINE = Path(m3.__file__).parent

WALL = re.compile(r"\btime\.time\(|\btime_ns\(|datetime\.now\(|\.utcnow\(|\bgettimeofday\b")

STAMPS = {
    "engine/letterbox.py": "the time that a dead letter says it is of",
    "engine/redrive.py": "likewise",
    "engine/state_db.py": "the time that a state says it was written",
}
"""Where the wall clock is read, to be shown to people."""


def test_the_wall_clock_is_only_shown():
    """Outside of what is shown to people, nothing in the engine reads the wall clock."""
    found = set()
    for path in sorted([*ENGINE.glob("*.py*"), *(ENGINE / "engine").glob("*.py")]):
        if path.suffix in (".py", ".pyx", ".pxd") and WALL.search(path.read_text()):
            found.add(path.relative_to(ENGINE).as_posix())
    assert found <= STAMPS.keys()


PROGRAM = """
import sys, threading, time
from m3 import Backoff, Batch, Pipeline, Retry

failed = set()

def flaky(item):
    if item == 3:
        with open(sys.argv[2], "w") as setting:
            setting.write(sys.argv[3])
    if item % 5 == 0 and item not in failed:
        failed.add(item)
        raise ValueError(item)
    return item

def stuck(item):
    if item == 7:
        threading.Event().wait(1000)
    return item

again = Retry(attempts=3, backoff=Backoff(initial=0.2, maximum=0.2, max_elapsed=5))
began, wall = time.monotonic(), time.time()
pipeline = Pipeline(range(40), state=sys.argv[1], checkpoint_interval=0.05)
pipeline.transport(flaky, on_error=again, name="flaky")
pipeline.transport(stuck, timeout=0.5, on_error="skip", name="stuck", workers=2)
class Sink:
    def process_batch(self, items):
        pass
report = pipeline.backend(Sink(), batch=Batch(count=1000, period=0.3), name="sink").run()
print(report.delivered, report.failed, time.monotonic() - began, time.time() - wall)
"""


def faketime_library():
    """Return the path of libfaketime, or None."""
    places = [Path(word) for word in os.environ.get("M3_FAKETIME", "").split(os.pathsep) if word]
    places += Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return next((place for place in places if place.exists()), None)


@pytest.mark.parametrize("jump", ["+1d", "-1d"])
def test_a_jump_by_a_day(tmp_path, jump):
    """Retries, timeouts, batches and checkpoints come when they are due, over a jump by a day."""
    library = faketime_library()
    if library is None:
        pytest.skip("libfaketime is not installed")
    setting = tmp_path / "faketime"
    setting.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
        "PYTHONPATH": str(ENGINE.parent),
    }
    command = [sys.executable, "-c", PROGRAM, tmp_path / "state", setting, jump]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    delivered, failed, seconds, wall = done.stdout.split()
    assert abs(float(wall)) > 80_000
    assert (delivered, failed) == ("39", "1")
    assert 0.5 < float(seconds) < 3
