"""Files written in place: what was committed stays, all else is undone, if it is ours."""

import json
import os
import signal
import stat
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3 import _plain
from m3.connectors.file import FileBackend
from m3.connectors.jsonl import JsonlBackend
from m3.connectors.stdout import StdoutBackend
from m3.errors import StateError
from m3.stages import Backend


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


@pytest.fixture
def begin():
    """Return backends as the engine prepares them in a run with state; end them all."""
    begun = []

    def start(path, mark=None, **options):
        backend = FileBackend(path=path, **options)
        begun.append(backend)
        backend.setup()
        backend.resume(_plain.loads(_plain.dumps(mark)))
        return backend

    yield start
    for backend in begun:
        backend.failed = True
        backend.cleanup()


def end(backend, *, failed=False):
    """End a run, as often as a test does so."""
    backend.failed = failed
    backend.cleanup()
    backend.cleanup = lambda: None


def test_with_state_the_file_itself_is_written(path, begin):
    """Each batch is in the file when it was processed, and nothing lies beside it."""
    path.write_bytes(b"old")
    backend = begin(path)
    assert path.read_bytes() == b""
    backend.process_batch([b"a", b"b"])
    assert path.read_bytes() == b"a\nb\n"
    assert os.listdir(path.parent) == ["file"]


def test_what_was_not_committed_is_cut_off(path, begin):
    """The next run begins with exactly what was committed, whatever came later."""
    backend = begin(path)
    backend.process_batch([b"a"])
    mark = backend.commit()
    backend.process_batch([b"b"])
    end(backend, failed=True)
    assert path.read_bytes() == b"a\nb\n"
    backend = begin(path, mark)
    assert path.read_bytes() == b"a\n"
    backend.process_batch([b"c"])
    end(backend)
    assert path.read_bytes() == b"a\nc\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.lists(st.sampled_from(["write", "write much", "commit"]))),
    append=st.booleans(),
)
def test_after_any_runs_the_file_has_what_was_committed(tmp_path, runs, append):
    """Over any number of runs that die anywhere, the file holds the committed records once each."""
    path = tmp_path / "file"
    path.write_bytes(b"old\n")
    expected, mark, number = (b"old\n" if append else b""), None, 0
    for actions in runs:
        backend = FileBackend(path=path, append=append)
        backend.setup()
        if mark is None and append:
            path.write_bytes(b"old\n")
        backend.resume(mark)
        pending = b""
        for action in actions:
            number += 1
            if action == "commit":
                mark = backend.commit()
                expected, pending = expected + pending, b""
            else:
                record = b"%d" % number * (1 if action == "write" else 3000)
                backend.process_batch([record])
                pending += record + b"\n"
        assert path.read_bytes() == expected + pending
        end(backend, failed=True)


def test_append_goes_on_behind_what_was_there(path, begin):
    """With ``append`` the first commit knows how much was there before, and that stays."""
    path.write_bytes(b"old\n")
    backend = begin(path, append=True)
    mark = backend.commit()
    backend.process_batch([b"a"])
    end(backend, failed=True)
    backend = begin(path, mark, append=True)
    assert path.read_bytes() == b"old\n"


def test_what_is_committed_is_durable_first(path, begin, monkeypatch):
    """A commit syncs the file, the first one also its directory, and a later one does no less."""
    events = []
    real = os.fsync

    def fsync(descriptor):
        status = os.fstat(descriptor)
        events.append("directory" if stat.S_ISDIR(status.st_mode) else status.st_size)
        real(descriptor)

    backend = begin(path)
    monkeypatch.setattr(os, "fsync", fsync)
    backend.process_batch([b"a"])
    backend.commit()
    backend.process_batch([b"b"])
    backend.commit()
    assert events == [2, "directory", 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "has become shorter: 8320 bytes .* now it has 8319"),
        (lambda data: b"", "shorter"),
        (lambda data: data.replace(b"7", b"8"), "do not end as they were written"),
        (lambda data: b"new line\n" + data, "do not end as they were written"),
    ],
)
def test_a_file_that_somebody_changed_is_refused(path, begin, change, message):
    """Nothing is cut off from a file that is no longer ours."""
    backend = begin(path)
    backend.process_batch([b"record %04d of many items" % n for n in range(320)])
    mark = backend.commit()
    end(backend)
    changed = change(path.read_bytes())
    path.write_bytes(changed)
    refused = FileBackend(path=path)
    refused.setup()
    with pytest.raises(StateError, match=f"(?s){message}.*--from-start"):
        refused.resume(mark)
    end(refused, failed=True)
    assert path.read_bytes() == changed


def test_a_file_that_is_gone_is_refused(path, begin):
    """It is not silently begun anew without what was committed."""
    backend = begin(path)
    mark = backend.commit()
    end(backend)
    path.unlink()
    refused = FileBackend(path=path)
    refused.setup()
    with pytest.raises(StateError, match="is gone"):
        refused.resume(mark)
    end(refused, failed=True)
    assert not path.exists()


@pytest.mark.parametrize("mark", [1, "x", [1], [-1, ""], ["1", ""], {"a": 1}, [1, 2, 3]])
def test_what_is_no_mark_is_refused(path, mark, begin):
    """Also what another version might have written."""
    path.write_bytes(b"old\n")
    refused = FileBackend(path=path)
    refused.setup()
    with pytest.raises(StateError, match="no mark"):
        refused.resume(mark)
    end(refused, failed=True)
    assert path.read_bytes() == b"old\n"


def test_somebody_else_who_writes_is_noticed(path, begin):
    """A commit does not vouch for what it has not written."""
    backend = begin(path)
    backend.process_batch([b"ours"])
    with path.open("ab") as file:
        file.write(b"theirs\n")
    with pytest.raises(StateError, match="has 12 bytes and should have 5"):
        backend.commit()


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_is_taken_away_is_noticed(path, begin, replace):
    """What is written to a file without a name, or behind another, would be lost."""
    backend = begin(path)
    path.unlink()
    if replace:
        path.touch()
    with pytest.raises(StateError, match="removed or replaced"):
        backend.commit()


def test_what_cannot_be_taken_back_says_so(tmp_path, write_all):
    """Files can be resumed; standard output, FIFOs and devices cannot, and stay as they are."""
    os.mkfifo(tmp_path / "fifo")
    assert FileBackend(path=tmp_path / "file").can_resume
    assert JsonlBackend(path=tmp_path / "file").can_resume
    assert not JsonlBackend().can_resume
    assert not FileBackend(path=tmp_path / "fifo").can_resume
    assert not FileBackend(path="/dev/stdout").can_resume
    assert StdoutBackend.resume is Backend.resume


def test_resuming_standard_output_changes_nothing(capfdbinary):
    """Should it be asked to all the same, items still go to standard output."""
    backend = JsonlBackend()
    backend.setup()
    backend.resume(None)
    backend.process_batch([1])
    assert backend.commit() is None
    backend.cleanup()
    assert capfdbinary.readouterr().out == b"1\n"


def test_a_commit_without_state_makes_an_appended_file_durable(path, monkeypatch):
    """Before a frontend is told that its items are done, they are on the disk."""
    backend = FileBackend(path=path, append=True)
    backend.setup()
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    backend.process_batch([b"a"])
    assert backend.commit() is None
    assert synced == [2]
    backend.cleanup()


def test_no_descriptor_is_left(path, descriptors):
    """Runs with state, refused ones too, close what they open."""
    before = descriptors()
    for mark in (None, [0, "x"], [3, "x"]):
        for append in (True, False):
            backend = FileBackend(path=path, append=append)
            backend.setup()
            try:
                backend.resume(mark)
            except StateError:
                backend.failed = True
            backend.cleanup()
    assert descriptors() == before


# -- errors while writing ---------------------------------------------------


LIMITED = """
import json, resource, sys
from m3.connectors.file import FileBackend
path, append, state = sys.argv[1], sys.argv[2] == "append", sys.argv[3] == "state"
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
backend = FileBackend(path=path, append=append)
backend.setup()
if state:
    backend.resume(None)
delivered = []
for number in range(100):
    try:
        backend.process_batch([b"%04d" % number + b"x" * 995])
        delivered.append(number)
    except OSError as error:
        assert "too large" in str(error), error
try:
    backend.process_batch([b"short"])
    delivered.append("short")
except OSError:
    pass
mark = backend.commit() if state else None
print(json.dumps([delivered, mark]))
try:
    backend.cleanup()
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("append", ["append", "replace"])
def test_a_full_disk_leaves_whole_records(path, python, append):
    """What counts as written is in the file, what failed is not, and no half of it either."""
    process = python(LIMITED, path, append, "state", stdout=subprocess.PIPE)
    delivered, mark = json.loads(process.communicate()[0].splitlines()[0])
    assert process.returncode == 0
    assert delivered == [*range(10)]
    assert path.read_bytes() == b"".join(
        b"%04d" % number + b"x" * 995 + b"\n" for number in range(10)
    )
    assert mark[0] == 10_000


def test_a_full_disk_leaves_whole_records_without_state(path, python):
    """Appending without state is no different."""
    process = python(LIMITED, path, "append", "-", stdout=subprocess.PIPE)
    delivered, _ = json.loads(process.communicate()[0].splitlines()[0])
    assert delivered == [*range(10)]
    assert path.stat().st_size == 10_000


def test_a_file_with_a_gap_is_not_put_in_place(path, python):
    """If a write failed, the new file is incomplete, and the old one stays."""
    path.write_bytes(b"old\n")
    process = python(LIMITED, path, "replace", "-", stdout=subprocess.PIPE)
    assert b"File too large" in process.communicate()[0]
    assert path.read_bytes() == b"old\n"
    assert os.listdir(path.parent) == ["file"]


def test_a_full_device_fails_the_batch():
    """/dev/full takes nothing, and no item counts as written."""
    backend = FileBackend(path="/dev/full")
    backend.setup()
    backend.resume(None)
    with pytest.raises(OSError, match="No space left"):
        backend.process_batch([b"a"])
    backend.cleanup()


def test_kill_leaves_what_the_next_run_cuts_off(path, python):
    """After SIGKILL in the middle of writing, a run that goes on has the committed records."""
    program = """
import json, sys
from m3.connectors.file import FileBackend
backend = FileBackend(path=sys.argv[1])
backend.setup()
backend.resume(None)
backend.process_batch([b"committed"])
print(json.dumps(backend.commit()), flush=True)
while True:
    backend.process_batch([b"x" * 100_000])
"""
    process = python(program, path, stdout=subprocess.PIPE)
    mark = json.loads(process.stdout.readline())
    while path.stat().st_size < 1_000_000:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    backend = FileBackend(path=path)
    backend.setup()
    backend.resume(mark)
    backend.cleanup()
    assert path.read_bytes() == b"committed\n"
