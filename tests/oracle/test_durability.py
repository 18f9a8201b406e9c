"""
In which order things reach the disk, as the system calls of a run show it.

What a kill cannot show, for the kernel keeps what was written: that a checkpoint is not
written before all that it promises would survive a loss of power, too.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import issued
import pytest

HERE = Path(__file__).parent
COUNT = 300
TRACED = "write,writev,pwrite64,ftruncate,fsync,fdatasync,rename,unlink,openat"
CALL = re.compile(
    r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?:<(?P<opened>[^>]*)>)?"
)
ON_FILE = re.compile(r"^\d+<(?P<path>[^>]*)>")
SINKS = {
    "file": ("Answer", "backend.path=out.txt"),
    "jsonl": ("answer_row", "backend.path=out.jsonl"),
    "jsonl to many files": ("Sharded", "backend.path=out/{shard}/all.jsonl"),
    "csv": ("answer_row", "backend.path=out.csv"),
    "parquet": ("answer_row", "backend.path=out"),
    "sqlite": ("answer_row", "backend.path=out.db"),
}
"""For each sink: a transport, and where the sink is."""


class Call(NamedTuple):
    """A system call that has succeeded: its name, and the path it was about."""

    name: str
    path: str


def whole_lines(trace):
    """Yield the lines of a trace; those that another thread has interrupted are joined."""
    begun = {}
    for line in trace.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix(" <unfinished ...>")
        elif "resumed>" in rest:
            yield begun.pop(thread) + rest.split("resumed>", 1)[1]
        else:
            yield line


def calls_of(trace, folder):
    """Yield the calls of a trace that change or sync something below *folder*, in their order."""
    for line in whole_lines(trace):
        match = CALL.match(line)
        path = path_of(match) if match and not match["result"].startswith("-") else None
        if path is not None:
            whole = os.path.normpath(folder / path)
            if whole.startswith(str(folder)):
                yield Call(match["name"], whole)


def path_of(match):
    """Return the path that a call is about; None if it changes nothing."""
    name, arguments = match["name"], match["arguments"]
    if name == "openat":
        return match["opened"] if "O_CREAT" in arguments else None
    if name in {"rename", "unlink"}:
        return arguments.split('"')[-2]
    on_file = ON_FILE.match(arguments)
    return on_file["path"] if on_file else None


class Disk:
    """
    What a loss of power would take from a sink, and what was promised meanwhile.

    Attributes:
        checkpoints: how often something was written to the state.
        broken: what was not on the disk then.
    """

    def __init__(self, folder):
        self._folder = folder
        self._known = set()
        self._unsynced = set()
        self.checkpoints = 0
        self.broken = set()

    def take(self, call):
        """Take note of a call."""
        if call.name in {"fsync", "fdatasync"}:
            self._unsynced -= {("content", call.path), ("names", call.path)}
        elif call == Call("pwrite64", str(self._folder / "state/state.db-wal")):
            self.checkpoints += 1
            self.broken |= self._unsynced
        elif self._is_of_sink(call.path):
            if call.name not in {"openat", "rename", "unlink"}:
                self._unsynced.add(("content", call.path))
            elif call.name != "openat" or call.path not in self._known:
                self._unsynced.add(("names", os.path.dirname(call.path)))
            self._known.add(call.path)

    def _is_of_sink(self, path):
        """Tell whether a path is of the sink; what SQLite shares between processes is not."""
        is_shared_memory = path.endswith("-shm")
        return path.startswith(str(self._folder / "out")) and not is_shared_memory


def traced(folder, *options):
    """Run a pipeline under strace; return its calls."""
    command = shutil.which("strace")
    if command is None or subprocess.run([command, "-o", os.devnull, "true"]).returncode:
        pytest.skip("there is no strace, or it may not trace")
    own = [sys.executable, "-m", "m3", "run", "-q", "--app-dir", HERE, "--state", "state"]
    tracing = [command, "-f", "-y", "-s", "0", "-o", "trace.txt", "-e", f"trace={TRACED}"]
    subprocess.run([*tracing, *own, *options], cwd=folder, check=True, timeout=50)
    return list(calls_of(folder / "trace.txt", folder))


@pytest.mark.parametrize("name", SINKS)
def test_a_checkpoint_is_written_when_all_that_it_promises_is_on_the_disk(name, tmp_path):
    """Whenever the state is written to, the sink's files and their names were synced before."""
    transport, option = SINKS[name]
    folder = tmp_path.resolve()
    issued.write_lines(folder, COUNT)
    calls = traced(
        folder,
        *["--frontend", "file", "--set", "frontend.path=in.txt"],
        *["--transport", f"oracle_stages:{transport}"],
        *["--backend", name.split()[0], "--set", option],
        *["--set", "checkpoint_interval=0.01"],
    )
    disk = Disk(folder)
    for call in calls:
        disk.take(call)
    assert disk.checkpoints > 2
    assert not disk.broken


@pytest.mark.parametrize(
    "unsynced", [("write", "out.txt"), ("openat", "out.txt"), ("unlink", "out/part-00000.parquet")]
)
def test_what_is_not_on_the_disk_is_found(unsynced):
    """Each kind of change is found if it is not synced before the next write to the state."""
    folder = Path("/folder")
    name, path = unsynced
    change = Call(name, str(folder / path))
    sync = [Call("fsync", change.path), Call("fsync", str((folder / path).parent))]
    checkpoint = Call("pwrite64", "/folder/state/state.db-wal")
    for calls, is_broken in (([change], True), ([change, *sync], False), ([*sync, change], True)):
        disk = Disk(folder)
        for call in (*calls, checkpoint):
            disk.take(call)
        assert bool(disk.broken) == is_broken
