"""Runs of m3 that are killed at random moments, until one ends by itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
PATIENCE = 120.0
"""Seconds after which a run that has not ended counts as one that hangs."""

LOOK = 0.0002
"""Seconds between two looks at the files of a run."""

KINDS = ("anywhere", "start", "first write", "write", "write", "stop")
"""The kinds of moments; a kind that is named twice is taken twice as often."""


class RunError(Exception):
    """A run that nobody has killed has failed, or hangs."""


@dataclass(frozen=True, slots=True)
class Usual:
    """Seconds that a run takes that is left in peace: until it writes something, and in all."""

    start: float
    whole: float


class Run:
    """A process of m3 in a folder."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self._folder = folder
        self._log = folder / "log.txt"
        self._before = self._state_of_files()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "m3", *command, "--app-dir", str(HERE)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )
        self.began = time.monotonic()

    def is_over(self) -> bool:
        """Tell whether the process has ended."""
        return self._process.poll() is not None

    def seconds(self) -> float:
        """Return for how long it has run."""
        return time.monotonic() - self.began

    def sleep_until(self, seconds: float) -> None:
        """Block until it has run for so long, or has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, seconds - self.seconds()))

    def await_write(self) -> None:
        """Block until it changes one of its files, or ends."""
        while not self.is_over():
            now = self._state_of_files()
            if now != self._before:
                self._before = now
                return
            time.sleep(LOOK)

    def look(self) -> None:
        """Take what is in the files now as what :meth:`await_write` compares with."""
        self._before = self._state_of_files()

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> bool:
        """Kill it, and tell whether it was that which has ended it."""
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def join(self, *codes: int) -> int:
        """Block until it has ended; return its exit code, which has to be one of those."""
        try:
            got = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            raise RunError(f"a run hangs:\n{self._log.read_text(errors='replace')}") from None
        if got not in codes:
            raise RunError(f"a run has ended with {got}:\n{self._log.read_text(errors='replace')}")
        return got

    def _state_of_files(self) -> list[tuple[str, int, int]]:
        return sorted(_files_below(self._folder))


def _files_below(folder: str | Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of all files that a run may write."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("in") or entry.name == "log.txt":
                continue
            with suppress(FileNotFoundError):
                if entry.is_dir():
                    yield from _files_below(entry.path)
                else:
                    state = entry.stat()
                    yield entry.path, state.st_size, state.st_mtime_ns


def kill_at_random(run: Run, kind: str, usual: Usual, reach: float, random: Random) -> bool:
    """
    Kill a run at a moment of that kind; return whether it had not ended by itself before.

    Args:
        run: just started.
        kind: one of KINDS: ``start`` while the process starts and goes back to its
            checkpoint; ``anywhere`` while it works; ``write`` while it works, as soon as
            it writes to its sink or its state, or up to 3 ms later; ``first write`` the
            same when it writes for the first time; ``stop`` while it ends after SIGTERM.
        usual: how long runs take.
        reach: the part of their work after which it is done at the latest.
        random: says when.
    """
    working = usual.start + random.uniform(0, reach) * (usual.whole - usual.start)
    if kind == "start":
        run.sleep_until(usual.start * random.uniform(0.2, 1.2))
    elif kind == "anywhere":
        run.sleep_until(working)
    elif kind == "stop":
        run.sleep_until(working)
        run.send(signal.SIGTERM)
        run.sleep_until(run.seconds() + random.uniform(0, 0.05))
    else:
        if kind == "write":
            run.sleep_until(working)
            run.look()
        run.await_write()
        run.sleep_until(run.seconds() + random.choice((0, random.uniform(0, 0.003))))
    return run.kill()
