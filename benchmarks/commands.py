"""Measure whole commands: lines from stdin to stdout, and how long a start takes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.figures import Figures

__all__ = ("COPIES", "STARTS", "measure")

# What a console script does; `python -m` would add the search for the module.
M3 = "from m3.cli import main; main()"
LOOP = """\
import sys
write = sys.stdout.buffer.write
for line in sys.stdin.buffer:
    write(line)
"""

STARTS = {
    "python": [sys.executable, "-c", "pass"],
    "import m3": [sys.executable, "-c", "import m3"],
    "from m3 import Pipeline": [sys.executable, "-c", "from m3 import Pipeline"],
    "m3 --help": [sys.executable, "-c", M3, "--help"],
}
COPIES = {
    "loop": [sys.executable, "-c", LOOP],
    "m3 run": [sys.executable, "-c", M3, "run", "-q", "--frontend", "stdin", "--backend", "stdout"],
}
STARTS_PER_SECOND = 20
LINES_PER_SECOND = 2_000_000


def measure(*, command: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """
    Run a command to its end and return how long it took.

    Args:
        command: a key of :data:`STARTS`, which is run a few times; or one of
            :data:`COPIES`, which gets lines as its input, less the time that
            it takes for none at all.
        count: how many starts, or lines.
        seconds: about how long it should take where *count* is not given.

    Raises:
        RuntimeError: it failed, or other lines came out than went in.
    """
    if command in STARTS:
        return start(command, count or max(3, round(seconds * STARTS_PER_SECOND)))
    return copy(command, count or round(seconds * LINES_PER_SECOND))


def start(command: str, count: int) -> Figures:
    """Run *command* so many times; return its median times."""
    walls, cpus = zip(*(run(command) for _ in range(count)), strict=True)
    return {"count": count, "wall": median(walls), "cpu": median(cpus)}


def copy(command: str, count: int) -> Figures:
    """Give *command* so many lines; return how fast it copied them."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        check_copy(command, Path(folder))
        write_lines(source, count)
        wall_of_start, cpu_of_start = run(command)
        wall, cpu = run(command, source)
    return {
        "count": count,
        "rate": count / (wall - wall_of_start),
        "wall": wall,
        "cpu": (cpu - cpu_of_start) / count,
    }


def check_copy(command: str, folder: Path) -> None:
    """Raise if *command* does not copy its input to its output."""
    source, output = folder / "few", folder / "copy"
    write_lines(source, 1000)
    run(command, source, output)
    if source.read_bytes() != output.read_bytes():
        raise RuntimeError(f"{command!r} did not copy its input to its output")


def write_lines(path: Path, count: int) -> None:
    """Write *count* lines of about the length of a log's."""
    with path.open("w") as file:
        for number in range(count):
            file.write(f"2024-05-17T08:13:{number % 60:02} INFO request {number} took 12 ms\n")


def run(
    command: str, source: str | Path = os.devnull, output: str | Path = os.devnull
) -> tuple[float, float]:
    """Run *command* and return its seconds on the clock and on the processors."""
    with Path(source).open("rb") as stdin, Path(output).open("wb") as stdout:
        began = perf_counter()
        process = subprocess.Popen((STARTS | COPIES)[command], stdin=stdin, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - began
    if status:
        raise RuntimeError(f"{command!r} ended with status {os.waitstatus_to_exitcode(status)}")
    return wall, usage.ru_utime + usage.ru_stime
