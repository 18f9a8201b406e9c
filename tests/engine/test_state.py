"""The store of checkpoints: what is kept, who may use it, and what happens on the way."""

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3.engine import state, state_lock
from m3.engine.state import Checkpoint, StateStore, look_at, reset
from m3.errors import NotPlainError, StateError

ROOT = Path(__file__).parents[2]

PRELUDE = f"""
import os, signal, sys, urllib.parse
sys.path.insert(0, {str(ROOT)!r})
import m3.engine.state_db
from m3.engine.state import Checkpoint, StateStore, look_at, reset
from m3.errors import StateError

folder = sys.argv[1]

def forked(work):
    "Run work in a child and return its process number."
    number = os.fork()
    if number == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return number

def ended(number):
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
"""


@pytest.fixture
def folder(tmp_path):
    """A folder that is not there yet."""
    return tmp_path / "state"


def run(program, *arguments):
    """Run a program in a process of its own and return it, ended."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )


def run_well(program, *arguments):
    """Run a program that must end well, and return the words it prints."""
    done = run(program, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def refusal(folder, **options):
    """Return why a state is refused."""
    with pytest.raises(StateError) as caught:
        StateStore(folder, **options)
    return str(caught.value)


def is_whole(folder):
    with closing(sqlite3.connect(folder / "state.db")) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_new_state(folder):
    """A new state is at the beginning, and belongs to its owner alone."""
    store = StateStore(folder)
    assert (store.is_new, store.checkpoint) == (True, Checkpoint(0, {}, {}, {}))
    store.write(Checkpoint(1))
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == ["lock", "state.db", "state.db-shm", "state.db-wal"]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 4
    assert folder.stat().st_mode & 0o777 == 0o700
    store.close()
    store.close()
    assert sorted(os.listdir(folder)) == ["lock", "state.db"]


def test_going_on(folder):
    """The next run gets the last checkpoint and the same key."""
    store = StateStore(str(folder), name="a")
    marks = {"file/0": {"offset": 7}, "file/1": None}, {"out/0": (b"x", 1.5)}, {"produced": 3}
    for number in (1, 2, 5):
        last = Checkpoint(number, *marks, finished=number == 5)
        store.write(last)
        assert store.checkpoint == last
    store.close()
    again = StateStore(folder, name="a")
    assert (again.checkpoint, again.key, again.is_new) == (last, store.key, False)
    again.close()


def test_durable_settings(folder):
    """The database has a write-ahead log, and each commit waits for the disk."""
    store = StateStore(folder)
    pragma = store._database._connection.execute
    assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
    assert pragma("PRAGMA synchronous").fetchone() == (2,)
    assert pragma("PRAGMA user_version").fetchone() == (1,)
    store.close()


def test_crashes_are_kept_beside_the_checkpoint(folder):
    """They are written alone or together with a checkpoint, and stay when one is written alone."""
    store = StateStore(folder)
    assert store.crashes is None
    store.write_crashes({"deaths": 1})
    assert (look_at(folder).crashes, look_at(folder).checkpoint) == ({"deaths": 1}, Checkpoint())
    store.write(Checkpoint(1), {"deaths": 2})
    assert (look_at(folder).crashes, look_at(folder).checkpoint) == ({"deaths": 2}, Checkpoint(1))
    store.write(Checkpoint(2))
    store.close()
    with pytest.raises(StateError, match="is closed"):
        store.write_crashes({"deaths": 3})
    store = StateStore(folder)
    assert (store.crashes, store.checkpoint) == ({"deaths": 2}, Checkpoint(2))
    store.close()


def test_numbers_only_rise(folder):
    """A checkpoint that is not higher than the last one is a mistake."""
    store = StateStore(folder)
    store.write(Checkpoint(3))
    for number in (2, 3):
        with pytest.raises(StateError, match=f"checkpoint {number} after 3"):
            store.write(Checkpoint(number))
    store.close()


def test_what_cannot_be_kept(folder):
    """A mark that is not plain is refused with the stage's name; the checkpoint before it stays."""
    store = StateStore(folder)
    store.write(Checkpoint(1))
    with pytest.raises(NotPlainError, match="the mark of 'sql/1' in a checkpoint: a Fraction"):
        store.write(Checkpoint(2, {"file/0": 1}, {"sql/1": Fraction(1, 2)}))
    assert store.checkpoint == Checkpoint(1)
    store.write(Checkpoint(2))
    store.close()


def test_any_thread_may_write(folder):
    """The thread that writes and the one that closes need not be the one that opened."""
    store = StateStore(folder)
    for number in range(1, 4):
        thread = threading.Thread(target=store.write, args=[Checkpoint(number)])
        thread.start()
        thread.join()
    thread = threading.Thread(target=store.close)
    thread.start()
    thread.join()
    assert look_at(folder).checkpoint == Checkpoint(3)
    with pytest.raises(StateError, match="is closed"):
        store.write(Checkpoint(4))


def test_large_checkpoints(folder):
    """Marks of megabytes, for thousands of shards, come back."""
    store = StateStore(folder)
    last = Checkpoint(1, {f"file/{n}": {"path": "x" * 500} for n in range(5000)})
    store.write(last)
    store.close()
    store = StateStore(folder)
    assert store.checkpoint == last
    store.close()


MARKS = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.binary(), max_size=3)


@given(
    st.builds(Checkpoint, st.integers(0), MARKS, MARKS, st.just({"produced": 1}), st.booleans()),
    st.data(),
)
def test_text(checkpoint, data):
    """The text of a checkpoint reads as the same one; with any character changed, as none."""
    text = checkpoint.to_text()
    assert "\n" not in text
    assert Checkpoint.from_text(text) == checkpoint
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda char: char != text[at]))
    for damaged in (text[:at] + other + text[at + 1 :], text[:at], text[:at] + text[at + 1 :]):
        with pytest.raises(StateError, match="damaged"):
            Checkpoint.from_text(damaged)


@pytest.mark.parametrize("fields", ["[]", "{}", "5", '{"schema":null}', '{"schema":1,"x":1}'])
def test_text_of_something_else(fields):
    """A text with a right checksum that is no checkpoint is refused, too."""
    from m3.engine.state import _checksum

    with pytest.raises(StateError, match="damaged"):
        Checkpoint.from_text(f"{_checksum(fields)} {fields}")


def test_text_of_an_older_m3():
    """A text of the schema that knew marks only is read, and does not know the stages."""
    from m3.engine.state import _checksum

    fields = '{"schema":1,"number":3,"sources":{"a/0":5},"sinks":{},"counts":{},"finished":true}'
    checkpoint = Checkpoint.from_text(f"{_checksum(fields)} {fields}")
    assert checkpoint == Checkpoint(3, {"a/0": 5}, finished=True)
    assert checkpoint.stages is None


def test_text_of_a_newer_m3():
    """A text of a later schema says so."""
    from m3.engine.state import _checksum

    fields = '{"schema":3,"marks":[]}'
    with pytest.raises(StateError, match="written by a newer m3"):
        Checkpoint.from_text(f"{_checksum(fields)} {fields}")


def test_state_of_a_newer_m3(folder):
    """A database of a later schema says so."""
    StateStore(folder).close()
    with closing(sqlite3.connect(folder / "state.db")) as connection:
        connection.execute("PRAGMA user_version = 2")
    assert "written by a newer m3" in refusal(folder)


def test_state_of_another_pipeline(folder):
    """The state of one pipeline is not gone on from by another, and stays as it is."""
    StateStore(folder, name="a").close()
    assert "is the state of the pipeline 'a', not of 'b'" in refusal(folder, name="b")
    StateStore(folder, name="a").close()


def test_two_runs(folder):
    """A second run is refused, with the process of the first; then it may."""
    store = StateStore(folder)
    message = refusal(folder)
    assert f"used by another run, process {os.getpid()};" in message
    with pytest.raises(StateError, match="used by another run"):
        reset(folder)
    store.write(Checkpoint(1))
    store.close()
    StateStore(folder).close()


def test_a_removed_lock_lets_nobody_in(folder):
    """Somebody who removes the lock of a running pipeline does not make room for a second one."""
    store = StateStore(folder)
    (folder / "lock").unlink()
    assert "lock: it was removed" in refusal(folder)
    store.close()


def test_a_folder_that_is_taken_away(folder, tmp_path):
    """A run whose state was removed or replaced does not write into nowhere."""
    store = StateStore(folder)
    store.write(Checkpoint(1))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="was removed or replaced"):
        store.write(Checkpoint(2))
    StateStore(folder).close()
    with pytest.raises(StateError, match="was removed or replaced"):
        store.write(Checkpoint(3))
    store.close()


def test_the_lock_goes_with_its_process(folder):
    """After kill -9 the state is free at once, with the last checkpoint."""
    program = """
        store = StateStore(folder)
        for number in range(1, 8):
            store.write(Checkpoint(number, {"file/0": number}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(program, folder).returncode == -9
    assert look_at(folder).user == ""
    store = StateStore(folder)
    assert store.checkpoint == Checkpoint(7, {"file/0": 7})
    store.close()


def test_programs_do_not_inherit_the_lock(folder):
    """A program that a run has started does not keep the state when the run is killed."""
    program = """
        import subprocess
        store = StateStore(folder)
        store.write(Checkpoint(1))
        left = subprocess.Popen(["sleep", "40"], close_fds=False, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        print(left.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    left = int(run(program, folder).stdout)
    try:
        store = StateStore(folder)
        assert store.checkpoint == Checkpoint(1)
        store.close()
    finally:
        os.kill(left, 9)


def test_the_child_of_a_fork(folder):
    """In a child the store is closed; whatever it does, the parent's state stays whole."""
    program = """
        import gc
        store = StateStore(folder)
        store.write(Checkpoint(1))

        def child():
            global store
            try:
                store.write(Checkpoint(2))
            except StateError as error:
                assert "before a fork" in str(error)
            store.close()
            try:
                StateStore(folder)
            except StateError as error:
                assert "used by another run" in str(error)
            else:
                raise AssertionError("the child got the lock")
            del store
            gc.collect()
            sys.exit()

        number = os.fork()
        if number == 0:
            child()
        assert ended(number) == 0
        store.write(Checkpoint(2))
        store.close()
    """
    run_well(program, folder)
    assert look_at(folder).checkpoint == Checkpoint(2)


def test_a_child_that_lives_on(folder):
    """A child that outlives the killed run keeps the next one from nothing."""
    program = """
        ready, ready_in = os.pipe()
        end, end_in = os.pipe()

        def child():
            os.close(end_in)
            os.write(ready_in, b"x")
            os.read(end, 1)

        def first_run():
            store = StateStore(folder)
            store.write(Checkpoint(1))
            forked(child)
            os.read(ready, 1)
            os.kill(os.getpid(), signal.SIGKILL)

        assert ended(forked(first_run)) == -signal.SIGKILL
        store = StateStore(folder)
        assert store.checkpoint == Checkpoint(1)
        os.close(end_in)
        store.write(Checkpoint(2))
        store.close()
    """
    run_well(program, folder)
    assert look_at(folder).checkpoint == Checkpoint(2)


RACE = """
    from itertools import count
    has_state = sys.argv[2] == "old"
    for turn in range(int(sys.argv[3])):
        folder = f"{sys.argv[1]}/{turn}"
        if has_state:
            before = StateStore(folder)
            before.write(Checkpoint(1))
            before.close()
        gate, gate_in = os.pipe()
        results, results_in = os.pipe()
        end, end_in = os.pipe()

        def start():
            os.close(gate_in), os.close(end_in)
            os.read(gate, 1)
            try:
                store = StateStore(folder)
                os.write(results_in, b"w")
                os.read(end, 1)
            except StateError as error:
                assert "used by another run" in str(error), error
                os.write(results_in, b"l")

        def look():
            os.close(gate_in), os.close(end_in)
            os.read(gate, 1)
            for _ in range(20):
                try:
                    look_at(folder)
                except StateError as error:
                    assert "there is no state" in str(error), error

        children = [forked(look if n % 4 == 3 else start) for n in range(16)]
        for descriptor in (gate, gate_in, results_in):
            os.close(descriptor)
        told = b""
        while len(told) < 12:
            told += os.read(results, 12) or b"?"
        assert sorted(told) == sorted(b"w" + b"l" * 11), told
        os.close(end_in)
        assert [ended(child) for child in children] == [0] * 16
        for descriptor in (results, end):
            os.close(descriptor)
        assert look_at(folder).checkpoint.number == has_state
"""


@pytest.mark.parametrize("age", ["new", "old"])
def test_racing_starts(tmp_path, age):
    """Of many runs that start at once on one state, exactly one gets it, whoever looks at it."""
    run_well(RACE, tmp_path, age, 15)


def test_a_look_while_a_state_is_made(folder, monkeypatch):
    """A state of which the lock did not tell yet is none, though its database is there by now."""
    stores = []

    def read_just_before(path):
        read = state_lock.user_of(path)
        stores.append(StateStore(folder))
        return read

    monkeypatch.setattr(state, "user_of", read_just_before)
    with pytest.raises(StateError, match="there is no state"):
        look_at(folder)
    monkeypatch.undo()
    assert look_at(folder).checkpoint.number == 0
    stores[0].close()


KILLS = """
    import subprocess

    def steps(work, prepare, check):
        "Kill work before each of its lines in turn; check what is left each time."
        number = 0
        while True:
            number += 1
            place = f"{folder}/{number}"
            prepare(place)

            def child():
                left = number
                def trace(frame, event, _):
                    nonlocal left
                    if "m3/engine/state" not in frame.f_code.co_filename:
                        return None
                    if event == "line":
                        left -= 1
                        if left == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                    return trace
                sys.settrace(trace)
                work(place)

            code = ended(forked(child))
            assert code in (0, -9), code
            check(place, code == 0)
            if code == 0:
                return print(number)

    def make(place):
        store = StateStore(place, name="new")
        os._exit(0)

    def check_made(place, is_done):
        store = StateStore(place, name="new")
        assert (store.checkpoint.number, len(store.key)) == (0, 36)
        assert sorted(os.listdir(place)) == ["lock", "state.db", "state.db-shm", "state.db-wal"]
        store.close()

    steps(make, lambda place: None, check_made)

    def begin(place):
        store = StateStore(place)
        store.write(Checkpoint(1))
        store.close()

    def write(place):
        store = StateStore(place)
        store.write(Checkpoint(2))
        open(place + ".done", "w").close()
        store.close()

    def check_written(place, is_done):
        store = StateStore(place)
        least = 2 if os.path.exists(place + ".done") else 1
        assert least <= store.checkpoint.number <= 2, store.checkpoint
        number = store.checkpoint.number
        store.write(Checkpoint(number + 1))
        store.close()
        assert look_at(place).checkpoint.number == number + 1

    folder += "/w"
    steps(write, begin, check_written)

    def check_reset(place, is_done):
        if is_done:
            assert os.listdir(place) == []
        try:
            store = StateStore(place)
            assert store.checkpoint.number == (0 if store.is_new else 1)
            store.close()
        except StateError as error:
            assert "m3 state reset" in str(error)
            reset(place)
            assert os.listdir(place) == []

    folder += "/r"
    steps(reset, begin, check_reset)
"""


def test_killed_at_every_step(tmp_path):
    """Killed before any line of creation, writing, closing or reset: all or nothing is there."""
    made, written, removed = map(int, run_well(KILLS, tmp_path))
    assert (made > 50, written > 50, removed > 20) == (True, True, True)


def test_disk_full(folder):
    """No room for a checkpoint: an error, the one before it stays, and later it may work again."""
    program = """
        import resource
        store = StateStore(folder)
        store.write(Checkpoint(1, {"file/0": 1}))
        size = os.path.getsize(folder + "/state.db-wal")
        for room in (0, 10, 2000, 5000, 9000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
            try:
                store.write(Checkpoint(2, {"file/0": "x" * 50_000}))
            except StateError as error:
                assert error.__cause__ is not None
                assert "no checkpoint can be written" in str(error)
            else:
                raise AssertionError(room)
            assert look_at(folder).checkpoint.number == store.checkpoint.number == 1
        if sys.argv[2] == "again":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            store.write(Checkpoint(2, {"file/0": 2}))
        else:
            store.close() if sys.argv[2] == "close" else os.kill(os.getpid(), signal.SIGKILL)
    """
    for end in ("kill", "close", "again"):
        reset(folder)
        run(program, folder, end)
        last = Checkpoint(2, {"file/0": 2}) if end == "again" else Checkpoint(1, {"file/0": 1})
        store = StateStore(folder)
        assert store.checkpoint == last
        store.close()
        assert is_whole(folder)


def test_disk_full_at_the_beginning(folder):
    """No room for the state itself: an error, and what was begun is cleaned up by the next run."""
    program = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        try:
            StateStore(folder)
        except StateError as error:
            print("refused")
    """
    for room in (0, 30, 100, 150, 3000, 5000):
        assert run_well(program, folder, room) == ["refused"]
    store = StateStore(folder)
    assert store.is_new
    store.close()
    assert sorted(os.listdir(folder)) == ["lock", "state.db"]


@pytest.fixture
def public():
    """A folder that another user can get to."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    for folder in path.rglob("*"):
        if folder.is_dir():
            folder.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_no_permission(public, mode):
    """A folder that may not be written, or not even read, is a clear error."""
    program = """
        if os.geteuid() == 0:
            for name in ("", *os.listdir(folder)):
                os.chown(os.path.join(folder, name), 65534, 65534)
            os.seteuid(65534)
        os.chmod(folder, int(sys.argv[2]))
        for use, place in ((StateStore, folder), (reset, folder), (StateStore, folder + "/new")):
            try:
                use(place)
            except StateError as error:
                assert folder in str(error), error
                assert "state reset" not in str(error), error
                print("refused")
    """
    folder = public / "state"
    StateStore(folder).close()
    assert run_well(program, folder, mode) == ["refused"] * 3
    folder.chmod(0o755)
    assert look_at(folder).checkpoint == Checkpoint()


def test_a_file_where_the_folder_should_be(tmp_path):
    """A file, or a path through one, is a clear error."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        for use in (StateStore, look_at):
            with pytest.raises(StateError, match=r"file.*(File exists|Not a directory)"):
                use(path)


def test_no_locks_here(folder, monkeypatch):
    """Where files cannot be locked, that is said; it is not taken for a state in use."""

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert "cannot be locked here (No locks available)" in refusal(folder)


def test_odd_names(tmp_path):
    """Folders may be called as they like, also with what means something in a URI."""
    for name in ("a b", "%41", "a?mode=memory", "a#b", "é", os.fsdecode(b"\xff")):
        folder = tmp_path / name
        store = StateStore(folder)
        store.write(Checkpoint(1))
        assert look_at(folder).checkpoint == Checkpoint(1)
        store.close()
        StateStore(folder).close()
        assert look_at(folder).checkpoint == Checkpoint(1)
    assert len(os.listdir(tmp_path)) == 6


def test_other_files_of_the_folder(folder):
    """An existing folder keeps its other files and its permissions."""
    folder.mkdir(mode=0o755)
    (folder / "dead-letters.db").write_text("x")
    StateStore(folder).close()
    assert reset(folder) == [folder / "state.db", folder / "lock"]
    assert os.listdir(folder) == ["dead-letters.db"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_foreign_lock(folder):
    """A file that happens to be called lock is neither written nor removed."""
    folder.mkdir()
    (folder / "lock").write_text("mine\n")
    assert "lock is not of m3; use another folder" in refusal(folder)
    with pytest.raises(StateError, match="is not of m3"):
        reset(folder)
    assert (folder / "lock").read_text() == "mine\n"


def test_reset(folder):
    """After a reset there is nothing, and a new state has another key."""
    assert reset(folder) == []
    store = StateStore(folder)
    store.write(Checkpoint(1))
    store.close()
    assert reset(folder) == [folder / "state.db", folder / "lock"]
    assert (os.listdir(folder), reset(folder), os.listdir(folder)) == ([], [], [])
    again = StateStore(folder)
    assert (again.is_new, again.checkpoint) == (True, Checkpoint())
    assert again.key != store.key
    again.close()


def test_looking(folder):
    """A state can be looked at while a run uses it, and leaves no trace."""
    with pytest.raises(StateError, match="there is no state in"):
        look_at(folder)
    folder.mkdir()
    with pytest.raises(StateError, match="there is no state in"):
        look_at(folder)
    assert os.listdir(folder) == []
    store = StateStore(folder, name="clean")
    store.write(Checkpoint(1, {"a": 1}))
    view = look_at(folder)
    assert (view.name, view.key, view.user) == ("clean", store.key, str(os.getpid()))
    assert view.checkpoint == Checkpoint(1, {"a": 1})
    assert view.created <= view.written
    store.write(Checkpoint(2))
    store.close()
    assert (look_at(folder).user, look_at(folder).checkpoint) == ("", Checkpoint(2))
    assert sorted(os.listdir(folder)) == ["lock", "state.db"]


def test_no_memory_of_old_checkpoints(folder):
    """The files do not grow with the number of checkpoints."""
    store = StateStore(folder)
    for number in range(1, 1500):
        store.write(Checkpoint(number, {"file/0": number}))
    assert (folder / "state.db-wal").stat().st_size < 5_000_000
    store.close()
    assert (folder / "state.db").stat().st_size < 20_000


def test_killed_while_writing(folder):
    """Killed at any moment, the state has the last checkpoint whose write returned, or the next."""
    program = """
        store = StateStore(folder)
        while True:
            number = store.checkpoint.number + 1
            store.write(Checkpoint(number, {"file/0": number}, {"out/0": "x" * 9000}))
            os.write(1, b"%d\\n" % number)
    """
    words = [sys.executable, "-c", PRELUDE + textwrap.dedent(program), str(folder)]
    last = 0
    for turn in range(12):
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(1 + 7 * turn):
                process.stdout.readline()
            process.kill()
            told = process.stdout.read().splitlines()
        least = max(last, *map(int, told[-1:]), 0)
        store = StateStore(folder)
        last = store.checkpoint.number
        assert least <= last
        assert store.checkpoint.sources == {"file/0": last}
        assert is_whole(folder)
        store.close()
    assert last > 400


def test_looking_at_a_busy_state(folder):
    """Whoever looks never disturbs a run, and sees checkpoints that only rise."""
    program = """
        begun = StateStore(folder)
        begun.write(Checkpoint(1))
        begun.close()

        def runs():
            for _ in range(60):
                store = StateStore(folder)
                for _ in range(3):
                    store.write(Checkpoint(store.checkpoint.number + 1, {"a": "x" * 3000}))
                store.close()

        child = forked(runs)
        last = looks = 0
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            number = look_at(folder).checkpoint.number
            assert number >= last
            last, looks = number, looks + 1
        assert look_at(folder).checkpoint.number == 181
        print(looks)
    """
    assert int(*run_well(program, folder)) > 10
