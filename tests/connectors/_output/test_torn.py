"""What is added to a file whose last write was torn: only the torn record is a bad one."""

import csv
import io
import json
import os
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3.connectors._csv import torn
from m3.connectors._csv.dialect import Dialect
from m3.connectors._output import sinks
from m3.connectors.csv import CsvBackend, CsvFrontend
from m3.connectors.file import FileBackend
from m3.connectors.jsonl import JsonlBackend
from m3.stages import Failure

RFC = Dialect(delimiter=",", quotechar='"', encoding="utf-8")


def begin(backend, mark=...):
    """Return a backend as the engine prepares it; with a mark, in a run with state."""
    backend.setup()
    if mark is not ...:
        backend.resume(mark)
    return backend


@pytest.mark.parametrize("resumed", [(), (None,)], ids=["without state", "with state"])
def test_a_line_is_never_joined_to_a_torn_one(tmp_path, resumed):
    """What has no line end gets one before anything is added, with state or without."""
    path = tmp_path / "file"
    path.write_bytes(b'{"id":1}\n{"id":2')
    backend = begin(JsonlBackend(path=path, append=True), *resumed)
    backend.process_batch([{"id": 3}])
    backend.process_batch([{"id": 4}])
    backend.cleanup()
    assert path.read_bytes() == b'{"id":1}\n{"id":2\n{"id":3}\n{"id":4}\n'


@pytest.mark.parametrize("old", [b"", b"a\n", b"\n"])
def test_a_whole_file_is_added_to_as_it_is(tmp_path, write_all, old):
    """No empty line comes before what is added to an empty file, or to one that has ended."""
    path = tmp_path / "file"
    path.write_bytes(old)
    write_all(FileBackend(path=path, append=True), [b"b"])
    assert path.read_bytes() == old + b"b\n"


def test_a_run_without_items_adds_nothing(tmp_path, write_all):
    """A file that nothing is added to stays as it is."""
    path = tmp_path / "file"
    path.write_bytes(b"a\nb")
    write_all(FileBackend(path=path, append=True))
    assert path.read_bytes() == b"a\nb"


def test_each_of_many_files_is_ended(tmp_path, write_all):
    """A path with fields does so in every file that it adds to."""
    for name, old in (("x", b'{"f":"x"}\n{"f'), ("y", b'{"f":"y"}\n'), ("z", b"")):
        (tmp_path / name).write_bytes(old)
    items = [{"f": name} for name in "xyzxyz"]
    write_all(JsonlBackend(path=f"{tmp_path}/{{f}}", append=True), items[:3], items[3:])
    assert (tmp_path / "x").read_bytes() == b'{"f":"x"}\n{"f\n{"f":"x"}\n{"f":"x"}\n'
    assert (tmp_path / "y").read_bytes() == b'{"f":"y"}\n' * 3
    assert (tmp_path / "z").read_bytes() == b'{"f":"z"}\n' * 2


def test_going_on_behind_a_mark_is_exact(tmp_path):
    """A run with state cuts off the torn part, and what it adds ends where it is committed."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    backend = begin(FileBackend(path=path, append=True), None)
    marks = [backend.commit()]
    backend.process_batch([b"a"])
    marks.append(backend.commit())
    backend.failed = True
    backend.cleanup()
    for mark, kept in zip(reversed(marks), (b"old\na\n", b"old\n"), strict=True):
        with path.open("ab") as file:
            file.write(b"to")
        backend = begin(FileBackend(path=path, append=True), mark)
        assert path.read_bytes() == kept
        backend.process_batch([b"b"])
        backend.cleanup()
        assert path.read_bytes() == kept + b"b\n"


@pytest.mark.parametrize("path", ["{folder}/file", "{folder}/{{f}}"], ids=["one file", "many"])
def test_a_write_that_fails_and_cannot_be_undone(tmp_path, monkeypatch, path):
    """The rest of it stays in a file that can only grow; the next record begins a line."""
    backend = begin(JsonlBackend(path=path.format(folder=tmp_path), append=True))
    backend.process_batch([{"f": "file"}])

    def tear(descriptor, data):
        os.write(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    def refuse(descriptor, length):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patches:
        patches.setattr(sinks, "write_all", tear)
        patches.setattr(os, "ftruncate", refuse)
        with pytest.raises(Exception, match=r"No space|1 of the"):
            backend.process_batch([{"f": "file"}])
    backend.process_batch([{"f": "file"}])
    backend.cleanup()
    whole = b'{"f":"file"}\n'
    assert (tmp_path / "file").read_bytes() == whole + b'{"f":\n' + whole


def test_a_file_that_may_only_be_written_is_added_to(tmp_path, write_all, monkeypatch):
    """Nobody can say how such a file ends, so it is taken as it is."""
    real = os.open

    def unreadable(path, flags, *rest, **more):
        if os.fspath(path) == str(tmp_path / "file") and flags & os.O_ACCMODE != os.O_WRONLY:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", unreadable)
    (tmp_path / "file").write_bytes(b"a")
    write_all(FileBackend(path=tmp_path / "file", append=True), [b"b"])
    assert (tmp_path / "file").read_bytes() == b"ab\n"


def test_a_killed_run_leaves_one_bad_line(tmp_path, python):
    """``kill -9`` in a large write: the next run's record is a line of its own."""
    path = tmp_path / "items.jsonl"
    program = f"""
import sys
from m3.connectors.jsonl import JsonlBackend
backend = JsonlBackend(path={str(path)!r}, append=True)
backend.setup()
backend.process_batch([{{"id": 1}}])
print("begun", flush=True)
for _ in range(50):
    backend.process_batch([{{"id": 2, "t": "x" * 30_000_000}}])
"""
    process = python(program, stdout=subprocess.PIPE)
    process.stdout.readline()
    while (size := path.stat().st_size) < 1_000_000 or size % 30_000_016 < 1000:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    backend = begin(JsonlBackend(path=path, append=True))
    backend.process_batch([{"id": 3}])
    backend.cleanup()
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[0]) == {"id": 1}
    assert json.loads(lines[-1]) == {"id": 3}
    assert len([line for line in lines if not line.endswith(b"}")]) <= 1


# -- csv --------------------------------------------------------------------


@pytest.mark.parametrize("resumed", [(), (None,)], ids=["without state", "with state"])
@pytest.mark.parametrize(
    ("torn_part", "record"),
    [
        (b'3,"x', b'3,"x"'),
        (b'3,"x\n', b'3,"x\n"'),
        (b'3,"x""', b'3,"x"""'),
        (b'3,"x"', b'3,"x"'),
        (b"3", b"3"),
        (b'"', b'""'),
    ],
)
def test_quotes_that_a_torn_record_has_opened_are_closed(tmp_path, torn_part, record, resumed):
    """Or all that comes behind would be part of its field, for every reader."""
    path = tmp_path / "table.csv"
    path.write_bytes(b'a,b\n1,"2, ""\n"\n' + torn_part)
    backend = begin(CsvBackend(path=path, append=True), *resumed)
    backend.process_batch([{"a": 4, "b": 'say "so"'}])
    backend.cleanup()
    assert path.read_bytes() == b'a,b\n1,"2, ""\n"\n' + record + b'\n4,"say ""so"""\n'


def test_only_the_torn_record_is_bad_wherever_it_was_torn(tmp_path, read_all, write_all):
    """Cut at any byte, the records before it and behind it are read as they are."""
    path, rows = tmp_path / "table.csv", [{"a": "1", "b": 'x,"\ny"'}, {"a": "ä", "b": 'z "'}]
    write_all(CsvBackend(path=path), [rows[0]])
    start = path.stat().st_size
    write_all(CsvBackend(path=path, append=True), [rows[1]])
    whole = path.read_bytes()
    for length in range(start, len(whole) + 1):
        path.write_bytes(whole[:length])
        write_all(CsvBackend(path=path, append=True), [rows[0]])
        found = [item for item in read_all(CsvFrontend(path=path)) if not isinstance(item, Failure)]
        assert found[0] == found[-1] == rows[0]
        assert len(found) <= 3
        text = path.read_bytes().decode(errors="replace")
        assert list(csv.DictReader(io.StringIO(text, newline="")))[-1] == rows[0]


def test_quotes_of_others_are_left_alone(tmp_path, write_all):
    """A quote within a field that does not begin with one opens nothing."""
    path = tmp_path / "table.csv"
    path.write_bytes(b'a,b\n1,5" pipe\r')
    write_all(CsvBackend(path=path, append=True), [{"a": 2, "b": 3}])
    assert path.read_bytes() == b'a,b\n1,5" pipe\r2,3\n'


def opens(text):
    """Say in a simple way whether *text* ends within quotes."""
    is_open, at_start, was_closed = False, True, False
    for letter in text:
        if is_open:
            is_open, was_closed = letter != '"', letter == '"'
        elif letter == '"' and (at_start or was_closed):
            is_open, was_closed = True, False
        else:
            was_closed = False
        at_start = not is_open and letter in ",\r\n"
    return is_open


@given(
    text=st.text(st.sampled_from('",\r\na')), sizes=st.lists(st.integers(1, 3)), bom=st.booleans()
)
def test_where_a_file_ends_is_seen_over_any_blocks(text, sizes, bom):
    """It does not matter how the file is cut into blocks."""
    data, blocks = text.encode(), []
    for size in sizes:
        blocks.append(data[:size])
        data = data[size:]
    blocks = [block for block in [*blocks, data] if block]
    if bom and blocks:
        blocks[0] = RFC.bom + blocks[0]
    assert torn.is_within_quotes(blocks, RFC) is opens(text)
