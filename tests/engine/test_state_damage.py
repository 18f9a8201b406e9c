"""A damaged state is refused, or read rightly; it never brings an older checkpoint."""

import os
import shutil
import sqlite3
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from m3.engine.state import Checkpoint, StateStore, look_at, reset
from m3.errors import StateError

ROOT = Path(__file__).parents[2]
NAMES = ("lock", "state.db", "state.db-wal", "state.db-shm")
LAST = Checkpoint(4, {"file/0": {"offset": 400}}, {"out/0": b"4" * 20}, {"produced": 400})

LEAVE = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from m3.engine.state import Checkpoint, StateStore
store = StateStore(sys.argv[1])
for n in range(1, 5):
    marks = {"file/0": {"offset": 100 * n}}, {"out/0": b"%d" % n * 20}, {"produced": 100 * n}
    store.write(Checkpoint(n, *marks))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A folder as a killed process left it: with commits in the write-ahead log."""
    folder = tmp_path_factory.mktemp("left") / "state"
    done = subprocess.run([sys.executable, "-c", LEAVE, str(folder), str(ROOT)], timeout=50)
    assert done.returncode == -9
    assert sorted(os.listdir(folder)) == ["lock", "state.db", "state.db-shm", "state.db-wal"]
    return folder


@pytest.fixture(scope="module")
def key(left):
    return look_at(left).key


@pytest.fixture(scope="module")
def closed(left, tmp_path_factory):
    """The same after the next run has ended in good order."""
    folder = tmp_path_factory.mktemp("closed") / "state"
    shutil.copytree(left, folder)
    StateStore(folder).close()
    assert sorted(os.listdir(folder)) == ["lock", "state.db"]
    return folder


class Trial:
    """Copies of a folder, each damaged in one way and opened."""

    def __init__(self, original: Path, key: str, folder: Path) -> None:
        self.key = key
        self.files = {path.name: path.read_bytes() for path in original.iterdir()}
        self.folder = folder
        self.right = self.refused = 0
        self.wrong: list[object] = []

    def open_with(self, what: object, **changed: bytes | None) -> None:
        """Open the state with some files changed or missing, and note what happens."""
        for path in list(self.folder.iterdir()):
            path.unlink()
        for name, data in {**self.files, **changed}.items():
            if data is not None:
                (self.folder / name).write_bytes(data)
        try:
            store = StateStore(self.folder)
        except StateError:
            self.refused += 1
        except BaseException as error:
            self.wrong.append((what, repr(error)))
        else:
            is_right = store.checkpoint == LAST and store.key == self.key and not store.is_new
            store.close()
            self.right += is_right
            if not is_right:
                self.wrong.append((what, store.checkpoint))

    def flip_and_cut(self, name: str, step: int) -> None:
        """Change each byte of a file in two ways, and cut it off there."""
        data = self.files[name]
        for at in range(0, len(data), step):
            for mask in (0xFF, 1 << at % 8):
                flipped = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
                self.open_with((name, at, mask), **{name: flipped})
            self.open_with((name, "cut", at), **{name: data[:at]})


@pytest.fixture
def trial(tmp_path):
    return lambda original, key: Trial(original, key, tmp_path)


def test_what_a_killed_process_left_is_whole(trial, left, key):
    """After kill -9 the last checkpoint that was written is read."""
    one = trial(left, key)
    one.open_with("nothing")
    assert (one.right, one.wrong) == (1, [])


@pytest.mark.parametrize("name", NAMES)
def test_damage(trial, left, key, name):
    """Bytes changed, or a file cut off: the right checkpoint or none, for a sample of them."""
    one = trial(left, key)
    one.flip_and_cut(name, {"lock": 1, "state.db-shm": 131}.get(name, 61))
    assert one.wrong == []
    assert bool(one.refused) is (name != "state.db-shm")  # which SQLite makes anew
    assert bool(one.right) is (name != "state.db-wal")  # where each byte counts


@pytest.mark.parametrize("missing", [m for n in (1, 2, 3) for m in combinations(NAMES, n)])
def test_missing_files(trial, left, key, missing):
    """Files removed: only the one that SQLite makes anew is not missed."""
    one = trial(left, key)
    one.open_with(missing, **dict.fromkeys(missing))
    assert one.wrong == []
    assert one.right == (missing == ("state.db-shm",))


def test_missing_files_after_a_good_end(trial, closed, key):
    """Without the lock nobody knows whether the database is the last one."""
    one = trial(closed, key)
    for name in ("lock", "state.db"):
        one.open_with(name, **{name: None})
    assert (one.refused, one.wrong) == (2, [])


def test_files_of_different_times(trial, left, closed, key, tmp_path_factory):
    """Older files beside younger ones, and those of another state, are refused."""
    other = tmp_path_factory.mktemp("other") / "state"
    store = StateStore(other)
    store.write(Checkpoint(4))
    store.close()
    later = tmp_path_factory.mktemp("later") / "state"
    shutil.copytree(closed, later)
    store = StateStore(later)
    store.write(Checkpoint(5))
    store.close()
    one = trial(later, key)
    for folder in (other, closed, left):
        one.open_with(folder, **{"state.db": (folder / "state.db").read_bytes()})
    one.open_with("lock", lock=(other / "lock").read_bytes())
    wal = (left / "state.db-wal").read_bytes()
    one.open_with("both", **{"state.db-wal": wal, "state.db": (left / "state.db").read_bytes()})
    assert (one.refused, one.wrong) == (5, [])


@pytest.mark.parametrize("name", ["lock", "state.db", "state.db-wal"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"something else\n" * 99, "folder", "pipe"])
def test_other_things_in_their_place(left, tmp_path, name, content):
    """Empty files, other files, folders and pipes under the names of m3's files are refused."""
    folder = tmp_path / "state"
    shutil.copytree(left, folder)
    path = folder / name
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    for opening in (StateStore, look_at):
        with pytest.raises(StateError, match="state"):
            opening(folder)


def test_what_is_refused_is_left_alone(left, tmp_path):
    """A refused state keeps all its bytes, for whoever wants to mend it; a reset removes it."""
    folder = tmp_path / "state"
    shutil.copytree(left, folder)
    wal = bytearray((folder / "state.db-wal").read_bytes())
    wal[5000] ^= 1
    (folder / "state.db-wal").write_bytes(wal)
    before = (folder / "state.db").read_bytes()
    with pytest.raises(
        StateError, match=r"ends at checkpoint \d, but 4 was written.*m3 state reset"
    ):
        StateStore(folder)
    assert (folder / "state.db-wal").read_bytes() == wal
    assert (folder / "state.db").read_bytes() == before
    reset(folder)
    assert os.listdir(folder) == []


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_damage_of_every_byte(trial, left, key, name):
    """The same for every byte."""
    one = trial(left, key)
    one.flip_and_cut(name, 1)
    print(name, len(one.files[name]), "bytes", one.right, "right", one.refused, "refused")
    assert one.wrong == []


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["lock", "state.db"])
def test_damage_of_every_byte_after_a_good_end(trial, closed, key, name):
    """And without a write-ahead log."""
    one = trial(closed, key)
    one.flip_and_cut(name, 1)
    print(name, len(one.files[name]), "bytes", one.right, "right", one.refused, "refused")
    assert one.wrong == []


def test_damage_beside_a_record_of_crashes(tmp_path):
    """With what was noted of crashes in it, a damaged database is refused or right, too."""
    crashes = {"deaths": 2, "marks": {"file/0": {"offset": 300}}}
    store = StateStore(tmp_path / "state")
    store.write(Checkpoint(1), crashes)
    store.close()
    path = tmp_path / "state" / "state.db"
    data = path.read_bytes()
    outcomes = set()
    for at in range(0, len(data), 61):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            view = look_at(tmp_path / "state")
            outcomes.add((view.checkpoint.number, view.crashes == crashes))
        except StateError:
            outcomes.add("refused")
    assert outcomes == {(1, True), "refused"}


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE crashes RENAME TO crushes",
        "DELETE FROM crashes",
        "UPDATE crashes SET record = 5",
        "UPDATE crashes SET record = replace(record, '2', '3')",
    ],
)
def test_a_record_of_crashes_that_is_not_ours(change, tmp_path):
    """What m3 has not written there is not gone on from."""
    store = StateStore(tmp_path / "state")
    store.write_crashes({"deaths": 2})
    store.close()
    connection = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
    connection.execute(change)
    connection.close()
    with pytest.raises(StateError, match=r"state\.db: "):
        look_at(tmp_path / "state")
