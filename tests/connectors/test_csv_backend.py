"""The backend of ``csv``: what is written is read back the same; what is not kept is cut off."""

import csv
import io
import os
import signal
import subprocess
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3.connectors.csv import CsvBackend, CsvFrontend
from m3.errors import BatchError, ConfigError, StateError

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
awkward = st.text(st.sampled_from("\",\r\n;\t'a =\ufeff"), max_size=4)
cells = text | awkward


@st.composite
def tables(draw):
    """Return mappings with the same keys."""
    columns = draw(st.lists(cells, min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(cells, min_size=len(columns), max_size=len(columns))))
    return [dict(zip(columns, row, strict=True)) for row in rows]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=tables(), delimiter=st.sampled_from(",;\t|"), header=st.booleans())
def test_what_is_written_is_read_back_the_same(
    tmp_path, read_all, write_all, items, delimiter, header
):
    """Any text but NUL, in columns of any names, survives the way there and back."""
    path = tmp_path / "table.csv"
    write_all(CsvBackend(path=path, delimiter=delimiter, header=header), items[:2], items[2:])
    names = True if header else list(items[0]) if items else ["x"]
    assert read_all(CsvFrontend(path=path, delimiter=delimiter, header=names)) == items
    if not path.read_bytes().startswith(b"\xef\xbb\xbf"):
        rows = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), delimiter=delimiter)
        assert list(rows)[header:] == [list(item.values()) for item in items]


@pytest.fixture
def written(tmp_path, write_all):
    """Return what writes batches and returns the bytes of the file."""

    def written(*batches, **options):
        path = tmp_path / "table.csv"
        write_all(CsvBackend(path=path, **options), *batches)
        return path.read_bytes()

    return written


def test_values_are_written_as_text(written):
    """Numbers, dates and the like are written as ``str`` has them, None is empty."""
    item = {"a": 1, "b": 2.5, "c": None, "d": date(2024, 2, 29), "e": Decimal("1.10"), "f": True}
    assert written([item]) == b"a,b,c,d,e,f\n1,2.5,,2024-02-29,1.10,True\n"


def test_columns_come_from_the_first_item_or_are_named(written):
    """A missing key is an empty field; named columns have their order, and need no items."""
    assert written([{"b": 1, "a": 2}, {"a": 3}]) == b"b,a\n1,2\n,3\n"
    assert written([{"b": 1, "a": 2}], columns=["a", "b", "c"]) == b"a,b,c\n2,1,\n"
    assert written(columns=["a", "b"]) == b"a,b\n"
    assert written([{"a": 1}], header=False) == b"1\n"
    assert written() == b""


def test_items_that_do_not_fit_fail_by_themselves(tmp_path):
    """Each bad item is an error with its index; the first good one gives the columns."""
    path = tmp_path / "table.csv"
    backend = CsvBackend(path=path)
    backend.setup()
    bad = [1, {}, {1: 2}, {"z": b"bytes"}, {"z\0": 1}]
    good = [{"a": 1}, {"b": 2}, {"a": [3]}, {"a": "\0"}, {"a": "\ud800"}, {"a": 4}]
    with pytest.raises(BatchError) as caught:
        backend.process_batch(bad + good)
    assert sorted(caught.value.errors) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert "no column is called" in str(caught.value.errors[6])
    backend.process_batch([{"a": 5}])
    backend.cleanup()
    assert path.read_bytes() == b"a\n1\n4\n5\n"


def test_formulas_are_escaped_if_wished(written):
    """Text that a spreadsheet would run gets a quote before it; numbers do not."""
    item = {"=a": "=1", "b": "+1", "c": "-1", "d": "@x", "e": "\tx", "f": -1, "g": "x=1"}
    assert (
        written([item], escape_formulas=True) == b"'=a,b,c,d,e,f,g\n'=1,'+1,'-1,'@x,'\tx,-1,x=1\n"
    )
    assert written([{"a": "=1"}]) == b"a\n=1\n"


def test_encodings(written):
    """Text is written in the encoding; UTF-8 gets a byte order mark where it is asked for."""
    assert written([{"ü": "ß"}], encoding="latin-1") == b"\xfc\n\xdf\n"
    assert written([{"a": 1}], [{"a": 2}], encoding="utf-8-sig") == b"\xef\xbb\xbfa\n1\n2\n"
    with pytest.raises(ConfigError, match="utf-16"):
        CsvBackend(encoding="utf-16")


@pytest.mark.parametrize("options", [{"columns": []}, {"columns": ["a", "a"]}, {"delimiter": '"'}])
def test_impossible_options_are_refused(options):
    """What cannot work is an error when the stage is made."""
    with pytest.raises(ConfigError):
        CsvBackend(path="x", **options)


def test_without_state_the_file_appears_as_a_whole_or_not_at_all(tmp_path, write_all):
    """A failed run leaves the old content, a good one replaces all of it."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"old\n")
    write_all(CsvBackend(path=path), [{"a": 1}], failed=True)
    assert path.read_bytes() == b"old\n"
    write_all(CsvBackend(path=path), [{"a": 1}])
    assert path.read_bytes() == b"a\n1\n"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_bytes_are_no_record(tmp_path):
    """An item that is bytes has no fields, also where all of a batch are such."""
    backend = CsvBackend(path=tmp_path / "table.csv")
    backend.setup()
    with pytest.raises(BatchError, match="a mapping can be written"):
        backend.process_batch([b"1,2"])
    backend.cleanup()
    assert (tmp_path / "table.csv").read_bytes() == b""


def test_append_adds_to_what_is_there(tmp_path, write_all):
    """The header stays the only one, its columns are kept, an unended line is ended first."""
    path = tmp_path / "table.csv"
    write_all(CsvBackend(path=path, append=True), [{"a": 1, "b": 2}])
    path.write_bytes(path.read_bytes()[:-1])
    write_all(CsvBackend(path=path, append=True), [{"b": 3}])
    assert path.read_bytes() == b"a,b\n1,2\n,3\n"
    with pytest.raises(ConfigError, match="a, b"):
        CsvBackend(path=path, append=True, columns=["b", "a"]).setup()


def test_standard_output(python):
    """``-`` is standard output."""
    program = """
from m3.connectors.csv import CsvBackend
backend = CsvBackend(path="-")
backend.setup()
backend.process_batch([{"a": 1}])
backend.cleanup()
"""
    process = python(program, stdout=subprocess.PIPE)
    assert process.communicate()[0] == b"a\n1\n"
    assert not CsvBackend(path="-").can_resume


# -- with state -------------------------------------------------------------


def begun(path, mark, **options):
    backend = CsvBackend(path=path, **options)
    backend.setup()
    try:
        backend.resume(mark)
    except BaseException:
        backend.failed = True
        backend.cleanup()
        raise
    return backend


def test_a_run_goes_on_where_it_committed(tmp_path):
    """What was written behind the mark is cut off; the columns are those of the file."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"of another run\n")
    backend = begun(path, None)
    backend.process_batch([{"a": 1, "b": 2}])
    mark = backend.commit()
    assert path.read_bytes() == b"a,b\n1,2\n"
    backend.process_batch([{"a": 3}])
    backend.failed = True
    backend.cleanup()
    assert path.read_bytes() == b"a,b\n1,2\n3,\n"
    backend = begun(path, mark)
    backend.process_batch([{"b": 4}])
    backend.commit()
    backend.cleanup()
    assert path.read_bytes() == b"a,b\n1,2\n,4\n"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_what_was_there_before_stays_with_append(tmp_path):
    """With ``append`` a run with state begins behind the rows of others, and cuts none of them."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n1,2\n")
    backend = begun(path, None, append=True)
    mark = backend.commit()
    backend.process_batch([{"b": 3}])
    backend.failed = True
    backend.cleanup()
    backend = begun(path, mark, append=True)
    assert path.read_bytes() == b"a,b\n1,2\n"
    backend.process_batch([{"b": 4}])
    backend.commit()
    backend.cleanup()
    assert path.read_bytes() == b"a,b\n1,2\n,4\n"


def test_a_mark_of_an_empty_file_begins_it_anew(tmp_path):
    """A commit before the first item can be gone on from; the header comes once."""
    path = tmp_path / "table.csv"
    backend = begun(path, None)
    mark = backend.commit()
    backend.process_batch([{"a": 1}])
    backend.cleanup()
    backend = begun(path, mark, columns=None)
    backend.process_batch([{"b": 1}])
    backend.cleanup()
    assert path.read_bytes() == b"b\n1\n"


@pytest.mark.parametrize("content", [None, b"", b"a\n2\n", b"a\n"])
def test_a_changed_file_is_refused(tmp_path, content):
    """Output that somebody has changed since is neither cut nor written to."""
    path = tmp_path / "table.csv"
    backend = begun(path, None)
    backend.process_batch([{"a": 1}])
    mark = backend.commit()
    backend.cleanup()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StateError, match=r"table\.csv"):
        begun(path, mark)
    assert content is None or path.read_bytes() == content


def test_other_columns_are_refused(tmp_path):
    """The columns of a file cannot change in its middle."""
    path = tmp_path / "table.csv"
    backend = begun(path, None, columns=["a"])
    mark = backend.commit()
    backend.cleanup()
    assert path.read_bytes() == b"a\n"
    with pytest.raises(StateError, match="columns"):
        begun(path, mark, columns=["b"])


def test_what_is_no_mark_is_refused(tmp_path):
    """Also the mark of another connector."""
    for mark in (1, [3, "x"], {"columns": ["a"]}, {"columns": ["a"], "written": {}}):
        with pytest.raises(StateError):
            begun(tmp_path / "table.csv", mark)


# -- a path with fields -----------------------------------------------------


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


ROWS = [{"day": "mon", "n": 1}, {"day": "tue", "n": 2}, {"day": "mon", "n": 3}, {"day": "../x"}]


@pytest.mark.parametrize("columns", [None, ["day", "n"]])
def test_each_file_has_a_header_and_all_the_same_columns(tmp_path, write_all, columns):
    """Items go to the file that their fields name, which is below the root whatever they say."""
    path = f"{tmp_path}/out/{{day}}/rows.csv"
    write_all(CsvBackend(path=path, columns=columns), ROWS[:2], ROWS[2:])
    assert contents(tmp_path / "out") == {
        "%2E.%2Fx/rows.csv": "day,n\n../x,\n",
        "mon/rows.csv": "day,n\nmon,1\nmon,3\n",
        "tue/rows.csv": "day,n\ntue,2\n",
    }


def test_items_that_do_not_fit_into_files_fail_by_themselves(tmp_path):
    """Also if they have not the fields of the path; such an item gives no columns."""
    backend = CsvBackend(path=f"{tmp_path}/{{day}}.csv")
    backend.setup()
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"z": 1}, 2, ROWS[0], {"day": "mon", "z": 1}])
    assert sorted(caught.value.errors) == [0, 1, 3]
    backend.cleanup()
    assert contents(tmp_path) == {"mon.csv": "day,n\nmon,1\n"}


def test_files_are_gone_on_with(tmp_path):
    """Each file is cut back to the mark; the columns stay, and the header is not repeated."""
    path = f"{tmp_path}/{{day}}.csv"
    backend = begun(path, None)
    backend.process_batch(ROWS[:1])
    mark = backend.commit()
    backend.process_batch(ROWS[1:3])
    backend.failed = True
    backend.cleanup()
    backend = begun(path, mark)
    assert contents(tmp_path)["mon.csv"] == "day,n\nmon,1\n"
    backend.process_batch([{"n": 5, "day": "mon"}, {"n": 6, "day": "tue"}])
    backend.commit()
    backend.cleanup()
    assert contents(tmp_path) == {"mon.csv": "day,n\nmon,1\nmon,5\n", "tue.csv": "day,n\ntue,6\n"}
    with pytest.raises(StateError, match="columns"):
        begun(path, mark, columns=["n", "day"])


def test_fields_and_append_are_refused_together():
    """What columns a file has would have to be looked for in each that is there."""
    with pytest.raises(ConfigError, match="append"):
        CsvBackend(path="out/{day}.csv", append=True)


def test_a_full_disk_leaves_no_half_line(tmp_path, python):
    """A batch that cannot be written as a whole is not there at all; smaller ones follow it."""
    program = """
import resource, signal, sys
from m3.connectors.csv import CsvBackend
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
backend = CsvBackend(path=sys.argv[1])
backend.setup()
backend.resume(None)
backend.process_batch([{"a": 1}])
try:
    backend.process_batch([{"a": "x" * 30}] * 9)
except OSError as error:
    print(error.strerror)
backend.process_batch([{"a": 2}])
backend.commit()
"""
    path = tmp_path / "table.csv"
    process = python(program, path, stdout=subprocess.PIPE)
    assert process.communicate()[0] == b"File too large\n"
    assert path.read_bytes() == b"a\n1\n2\n"


KILLED = """
import sys
from m3.connectors.csv import CsvBackend, CsvFrontend
source, target, state = sys.argv[1:]
import json, os
checkpoint = mark = None
if os.path.exists(state):
    checkpoint, mark = json.load(open(state))
frontend, backend = CsvFrontend(path=source), CsvBackend(path=target)
frontend.wants_positions = True
frontend.setup(), backend.setup()
frontend.resume(checkpoint), backend.resume(mark)
def keep(position):
    pair = [frontend.checkpoint(position), backend.commit()]
    with open(state + ".new", "w") as file:
        json.dump(pair, file)
    os.replace(state + ".new", state)
for number, item in enumerate(frontend.produce(), 1):
    backend.process_batch([item.value])
    if number % 50 == 0:
        keep(item.position)
    if number % 137 == 0:
        print(number, flush=True)
        sys.stdin.readline()
keep(item.position)
backend.cleanup()
print("end", flush=True)
"""


def test_kills_lose_and_repeat_nothing(tmp_path, python, write_all):
    """Killed with SIGKILL again and again between its checkpoints, a copy is exact in the end."""
    source, target = tmp_path / "source.csv", tmp_path / "target.csv"
    items = [{"number": number, "text": f'"{number}"\n,'} for number in range(1000)]
    write_all(CsvBackend(path=source), items)
    for _ in range(20):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = python(KILLED, source, target, tmp_path / "state", **pipes)
        if process.stdout.readline() == b"end\n":
            break
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
    assert target.read_bytes() == source.read_bytes()
