"""System calls that fail, one after the other: reported, and the next run makes it exact."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.once

COUNT = 600
FAILED, MISTAKE = 1, 2

CALLS = {
    "write": ("write,pwrite64", "ENOSPC"),
    "sync": ("fsync,fdatasync", "EIO"),
    "truncate": ("ftruncate", "EIO"),
}


@pytest.fixture
def strace():
    """Return the command ``strace``; skip where it is missing or may not trace."""
    command = shutil.which("strace")
    if command is None:
        pytest.skip("strace is not installed")
    if subprocess.run([command, "-qq", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return command


class Copy:
    """One pipeline, whose system calls on one of its files can be made to fail."""

    def __init__(self, runner, strace, sink):
        self.runner = runner
        self.strace = strace
        self.sink = sink
        self.folder = runner.folder
        with (self.folder / "in.jsonl").open("w") as file:
            file.writelines(f'{{"id": {n}}}\n' for n in range(COUNT))

    def words(self):
        words = ["--frontend", "jsonl", "--transport", "faulty:every_third", "--backend", self.sink]
        for option in (
            *("frontend.path=in.jsonl", "backend.path=out", "queue_size=16"),
            *("transport.on_error=dead_letter", "checkpoint_interval=0.001"),
            *(["backend.table=items"] if self.sink == "sqlite" else []),
        ):
            words += ["--set", option]
        return [*words, "--state", "state"]

    def fail_at(self, target, kind, when):
        """Run it with the calls of that *kind* on *target* failing, from the *when*-th on."""
        for stale in ("out", "out-wal", "out-shm", "out-journal", "state"):
            path = self.folder / stale
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        calls, error = CALLS[kind]
        within = [self.strace, "-f", "-qq", "-o", self.folder / "trace", "-P", self.folder / target]
        within += ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={when}"]
        ended = self.runner.run(*self.words(), within=within, timeout=50)
        is_reached = "(INJECTED)" in (self.folder / "trace").read_text()
        assert ended.code in ((FAILED, MISTAKE, 3) if is_reached else (3,)), ended.said
        assert ended.is_accounted_for(), ended.said
        return is_reached, ended.code

    def mend(self):
        """Run it without a fault; check that the result is exact."""
        ended = self.runner.run(*self.words())
        assert ended.code in (0, 3), ended.said
        assert self.ids() == [n for n in range(COUNT) if n % 3]
        assert self.letters() == [n for n in range(COUNT) if n % 3 == 0]

    def ids(self):
        if self.sink == "sqlite":
            return ids_of(self.folder / "out", "SELECT id FROM items ORDER BY id")
        return [int(line[6:-1]) for line in (self.folder / "out").read_text().splitlines()]

    def letters(self):
        from m3.engine.letters import read_dead_letters

        store = read_dead_letters(self.folder / "state" / "dead-letters.db")
        try:
            return [letter.item["id"] for letter in store.select()]
        finally:
            store.close()


def ids_of(path, query):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute(query)]


TARGETS = {
    "jsonl": (
        *("out", "state/state.db", "state/state.db-wal", "state/lock", "state/dead-letters.db"),
        *("state/state.db.new", "state/state.db.new-wal"),
    ),
    "sqlite": ("out", "out-wal", "state/dead-letters.db-wal"),
}

PLACES = [(sink, target) for sink, targets in TARGETS.items() for target in targets]


def fail_everywhere(copy, target, whens):
    reached = 0
    for kind in CALLS:
        for when in whens:
            is_reached, _ = copy.fail_at(target, kind, when)
            copy.mend()
            reached += is_reached
            if not is_reached:
                break
    return reached


@pytest.mark.parametrize(("sink", "target"), [("jsonl", "out"), ("jsonl", "state/state.db-wal")])
def test_a_write_that_fails(m3_run, strace, sink, target):
    """Whichever write fails, the run says so, and after the next run the result is exact."""
    copy = Copy(m3_run, strace, sink)
    for when in (1, 3):
        is_reached, _ = copy.fail_at(target, "write", when)
        assert is_reached
        copy.mend()


@pytest.mark.parametrize(
    ("target", "kind", "when"),
    [("state.db.new", "write", 2), ("state.db.new", "write", 3), ("state.db.new-wal", "sync", 3)],
)
def test_a_call_that_fails_while_the_state_is_made(m3_run, strace, target, kind, when):
    """Whichever call fails while a state is made, the same command then makes it anew."""
    copy = Copy(m3_run, strace, "jsonl")
    copy.fail_at(f"state/{target}", kind, when)
    copy.mend()


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("sink", "target"), PLACES)
def test_every_call_fails_once(m3_run, strace, sink, target):
    """The same for each of the first calls that write, sync and cut off, of every file."""
    reached = fail_everywhere(Copy(m3_run, strace, sink), target, [*range(1, 13), "1+", "2+", "5+"])
    print(sink, target, reached, "failed calls")
    assert reached
