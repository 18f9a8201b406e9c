"""The connector ``csv``: every quoting sin, exact places, going on behind a record."""

import bz2
import csv
import gzip
import lzma
import os
import subprocess

import pytest

from m3.connectors.csv import CsvFrontend
from m3.errors import (
    CompressedInputError,
    ConfigError,
    MalformedRecordError,
    RecordTooLongError,
    StateError,
)
from m3.stages import Failure, Item


@pytest.fixture
def read(tmp_path, read_all):
    """Return what reads bytes as a file."""

    def read(data, **options):
        path = tmp_path / "table.csv"
        path.write_bytes(data)
        return read_all(CsvFrontend(path=path, **options))

    return read


def failures(items):
    return [
        (item.position.line, item.value, type(item.error))
        for item in items
        if isinstance(item, Failure)
    ]


# -- what is read -----------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a,b", []),
        (b"a,b\n", []),
        (b"a,b\n1,2\n", [("1", "2")]),
        (b"a,b\n1,2", [("1", "2")]),
        (b"a,b\r\n1,2\r\n3,4\r\n", [("1", "2"), ("3", "4")]),
        (b"a,b\r1,2\r3,4\r", [("1", "2"), ("3", "4")]),
        (b"a,b\n\n1,2\r\n\r\n\n3,4", [("1", "2"), ("3", "4")]),
        (b"\n\na,b\n1,2", [("1", "2")]),
        (b"a,b\n,\n", [("", "")]),
        (b'a,b\n"",""\n', [("", "")]),
        (b"a,b\n 1 ,007\n", [(" 1 ", "007")]),
        (b'a,b\n"x\ny","1\r\n2\r3"\n', [("x\ny", "1\r\n2\r3")]),
        (b'a,b\n"say ""no""",""""\n', [('say "no"', '"')]),
        (b'a,b\n"1,5",2\n', [("1,5", "2")]),
        (b'a,b\n1,"2"', [("1", "2")]),
        (b'\xef\xbb\xbf"a",b\n1,2\n', [("1", "2")]),
        (b"a,b\n\xef\xbb\xbf1,2\n", [("\ufeff1", "2")]),
        ("a,b\nä,\u2028\n".encode(), [("ä", "\u2028")]),
        (b"a,b\n#1,'2'\n", [("#1", "'2'")]),
    ],
)
def test_good_files(read, data, rows):
    """Fields are text exactly as it stands there, whatever the lines end with."""
    assert read(data) == [dict(zip("ab", row, strict=True)) for row in rows]


SINS = b"""id,name
1,good
2
3,too,many
"4,never closed
5,good
"6"x,closed too early
7,qu"ote
8,"good ""and"" quoted"
"9","two
lines"
10,\xff
11,\0
"12
13",14,15
16,good
17,"the end"""


def test_a_file_with_every_quoting_sin(read):
    """Each bad record is one failure, with the line it begins on; each good one is read."""
    items = read(SINS)
    assert [item["id"] for item in items if isinstance(item, dict)] == ["1", "5", "8", "9", "16"]
    assert [item["name"] for item in items if isinstance(item, dict)][2:4] == [
        'good "and" quoted',
        "two\nlines",
    ]
    assert failures(items) == [
        (3, b"2", MalformedRecordError),
        (4, b"3,too,many", MalformedRecordError),
        (5, b'"4,never closed', MalformedRecordError),
        (7, b'"6"x,closed too early', MalformedRecordError),
        (8, b'7,qu"ote', MalformedRecordError),
        (12, b"10,\xff", UnicodeDecodeError),
        (13, b"11,\0", MalformedRecordError),
        (14, b'"12\n13",14,15', MalformedRecordError),
        (17, b'17,"the end', MalformedRecordError),
    ]


def test_one_quote_too_many_costs_one_line(read):
    """A quote that is never closed does not swallow the rest of the file."""
    items = read(b'a,b\n"1,2\n' + b"3,4\n" * 10_000)
    assert failures(items) == [(2, b'"1,2', MalformedRecordError)]
    assert len(items) == 10_001


def test_every_pair_of_bytes_can_stand_in_a_file(read):
    """Whatever two bytes stand between good lines: those are read, and nothing raises."""
    for first in range(256):
        data = b"".join(b"%c%c\nz\n" % (first, second) for second in range(256))
        items = read(b"a\n" + data)
        assert sum(item == {"a": "z"} for item in items) >= 250


def test_a_record_over_the_limit_is_a_failure(read):
    """A long record fails with its beginning, and the next line is read."""
    items = read(b"a,b\n1," + b"x" * 5000 + b'\n2,3\n"4\n5\n",6\n', limit=10)
    assert failures(items) == [(2, b"1,xxxxxxxx", RecordTooLongError)]
    assert items[1:] == [{"a": "2", "b": "3"}, {"a": "4\n5\n", "b": "6"}]


def test_large_fields_need_no_other_limit_of_the_csv_module(read):
    """Fields beyond ``csv.field_size_limit`` are read, and that setting stays as it was."""
    before = csv.field_size_limit()
    large = b"x" * (before + 1)
    rows = read(b'a,b\n1,%b\n2,"%b""\n"\n' % (large, large))
    assert [len(row["b"]) for row in rows] == [before + 1, before + 3]
    assert csv.field_size_limit() == before


def test_delimiters_quotes_and_encodings(read):
    """Other dialects are read; without a quotechar, quotes are characters like others."""
    assert read("a;b\n'x;1';ü\n".encode("latin-1"), delimiter=";", quotechar="'", encoding="latin1")
    assert read(b"a|b\n1|2\n", delimiter="|") == [{"a": "1", "b": "2"}]
    assert read(b'a\tb\n5"\t"x\n', delimiter="\t", quotechar=None) == [{"a": '5"', "b": '"x'}]


# -- headers ----------------------------------------------------------------


def test_columns_can_be_named(read):
    """With a list of names the first line is a record."""
    assert read(b"1,2\n", header=["x", "y"]) == [{"x": "1", "y": "2"}]


@pytest.mark.parametrize("data", [b"a,b,a\n1,2,3\n", b"a,,\n1,2,3\n"])
def test_columns_of_the_same_name_are_refused_before_the_run(read, data):
    """A dictionary would lose one of the two fields."""
    with pytest.raises(ConfigError, match=r"there is twice: '(a|)'"):
        read(data)


@pytest.mark.parametrize("data", [b'"a,b\n1,2\n', b"\xff,b\n", b"a\0,b\n"])
def test_a_header_that_cannot_be_read_is_refused_before_the_run(tmp_path, data):
    """Without a header no record means anything."""
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="the header"):
        CsvFrontend(path=path).setup()


@pytest.mark.parametrize(
    "options",
    [{"header": False}, {"header": "a,b"}, {"header": []}, {"limit": 0}, {"path": []}],
)
def test_impossible_options_are_refused(options):
    """What cannot work is an error when the stage is made."""
    with pytest.raises(ConfigError):
        CsvFrontend(**{"path": "table.csv", **options})


def test_each_file_has_its_own_header(tmp_path, read_all):
    """Files are read in their order, and a column is found by its name."""
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_bytes(b"a,b\n1,2")
    second.write_bytes(b"b,a\n3,4")
    items = read_all(CsvFrontend(path=[first, second]))
    assert items == [{"a": "1", "b": "2"}, {"b": "3", "a": "4"}]


# -- pipes ------------------------------------------------------------------


def test_a_fifo_is_read_as_it_comes(tmp_path, reading):
    """A record is an item as soon as its line has ended; its header may come late."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = reading(CsvFrontend(path=path))
    with path.open("wb", buffering=0) as writer:
        writer.write(b'a,b\n1,"2')
        writer.write(b'"\n3,')
        reader.wait_for_items(1)
        writer.write(b"4")
    assert reader.join() == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_stop_wakes_a_blocking_read(tmp_path, reading):
    """A silent pipe that stays open does not hold up a stop; no half record is an item."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = reading(CsvFrontend(path=path))
    with path.open("wb", buffering=0) as writer:
        writer.write(b"a\n1\n2")
        reader.wait_for_items(1)
        assert reader.stop() == [{"a": "1"}]


def test_standard_input_is_read_and_cannot_be_gone_on_with(python, tmp_path):
    """``-`` is standard input; that is known before."""
    program = """
from m3.connectors.csv import CsvFrontend
frontend = CsvFrontend(path="-")
frontend.setup()
print(list(frontend.produce()), frontend.can_resume)
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(b"a\n1\n")
    assert output == b"[{'a': '1'}] False\n"


# -- going on ---------------------------------------------------------------


def positions(path, checkpoint=None, **options):
    """Return the frontend, and all it produces with positions, from *checkpoint* on."""
    frontend = CsvFrontend(path=path, **options)
    frontend.wants_positions = True
    frontend.setup()
    frontend.resume(checkpoint)
    try:
        return frontend, list(frontend.produce())
    finally:
        frontend.cleanup()


def comparable(items):
    return [(item.value, item.position, type(getattr(item, "error", None))) for item in items]


def test_a_run_goes_on_behind_any_record(tmp_path):
    """From each item and failure on, the rest is what it was, with the same places."""
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    one.write_bytes(b"\xef\xbb\xbf" + SINS + b"\r\n")
    two.write_bytes(b'id,name\r\n1,2\r\n\r\n"x\r\n",' + b"y" * 300 + b"\n3,4\r5,6")
    frontend, items = positions([one, two], limit=200)
    assert sum(isinstance(item, Item) for item in items) == 8
    for number, item in enumerate(items):
        checkpoint = frontend.checkpoint(item.position)
        _, rest = positions([one, two], checkpoint, limit=200)
        assert comparable(rest) == comparable(items[number + 1 :])


def test_places_are_exact(tmp_path):
    """The offset of a record is where its bytes begin."""
    path = tmp_path / "table.csv"
    data = b'a,b\r\n1,2\r\n"3\n",4\n\n5,6\n'
    path.write_bytes(data)
    _, items = positions(path)
    places = [(item.position.line, item.position.offset) for item in items]
    assert places == [(2, 5), (3, 10), (6, 18)]
    assert all(item.position.source == str(path) for item in items)


def test_what_was_added_since_is_read(tmp_path):
    """A file that has grown by whole lines is gone on with."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n1\n2\n")
    frontend, items = positions(path)
    checkpoint = frontend.checkpoint(items[-1].position)
    with path.open("ab") as file:
        file.write(b"3\n")
    _, rest = positions(path, checkpoint)
    assert [(item.value, item.position.line) for item in rest] == [({"a": "3"}, 4)]


@pytest.mark.parametrize(
    "changed",
    [b"a\n1\n", b"b\n1\n2\n3\n", b"a\n1\n5\n3\n", b"\na\n1\n2\n3\n", b"", None],
    ids=["truncated", "other header", "other record", "prepended", "emptied", "removed"],
)
def test_changed_input_is_refused(tmp_path, changed):
    """A file that is not what it was up to the checkpoint is an error that says so."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n1\n2\n3\n")
    frontend, items = positions(path)
    checkpoint = frontend.checkpoint(items[1].position)
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    with pytest.raises((StateError, FileNotFoundError), match=r"table\.csv"):
        positions(path, checkpoint)


def gzipped(data):
    """Return what the same data are packed as at any time."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize("pack", [bytes, gzipped])
@pytest.mark.parametrize("last", [b"2,3", b'2,"3\n\n"', b"2", b'"2'])
def test_a_last_record_that_goes_on_is_refused(tmp_path, last, pack):
    """What was delivered without its line end may get that, and nothing else, before more comes."""
    path = tmp_path / "table.csv"
    data = b"a,b\n1,2\n" + last
    path.write_bytes(pack(data))
    frontend, items = positions(path)
    assert len(items) == 2
    checkpoint = frontend.checkpoint(items[-1].position)
    for more in (b"", b"\n", b"\r", b"\r\n"):
        path.write_bytes(pack(data) + pack(more) + pack(b"5,6\n" if more else b""))
        new = [(item.value, item.position.line) for item in positions(path, checkpoint)[1]]
        line = 3 + last.count(b"\n") + 1
        assert new == ([({"a": "5", "b": "6"}, line)] if more else [])
    path.write_bytes(pack(data) + pack(b"3\n"))
    message = f"was the last one and had no line end.* at byte {len(data)};"
    with pytest.raises(StateError, match=message):
        positions(path, checkpoint)


def test_a_line_that_was_too_long_and_goes_on_is_refused(tmp_path):
    """Also where its end was not looked for any more: what comes is a part of that line."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n1\n" + b"x" * 50)
    frontend, items = positions(path, limit=9)
    checkpoint = frontend.checkpoint(items[-1].position)
    path.write_bytes(path.read_bytes() + b"\n2\n")
    _, (item,) = positions(path, checkpoint, limit=9)
    assert (item.value, item.position.line) == ({"a": "2"}, 4)
    path.write_bytes(b"a\n1\n" + b"x" * 51 + b"\n")
    with pytest.raises(StateError, match="had no line end"):
        positions(path, checkpoint, limit=9)


@pytest.mark.parametrize("before", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_header_that_comes_later_is_taken_for_one(tmp_path, before):
    """A file that had no record yet begins with its header, whenever that comes."""
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    one.write_bytes(before)
    two.write_bytes(b"a\n1\n")
    frontend, items = positions([one, two])
    checkpoint = frontend.checkpoint(items[-1].position)
    one.write_bytes(before + b"b\n2\n")
    assert [item.value for item in positions([one, two], checkpoint)[1]] == [{"b": "2"}]


def test_a_damaged_checkpoint_is_refused(tmp_path):
    """What is no checkpoint of this frontend is an error of the state."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n")
    for checkpoint in (1, {}, {"version": 1}, {"version": 1, "files": [f"x 4 - {path}"]}):
        with pytest.raises(StateError, match="checkpoint"):
            positions(path, checkpoint)


# -- many files, compressed ones --------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_directory_of_files_is_gone_on_with_behind_any_record(tmp_path, pack):
    """Compressed or not, with a header in each: from any record on, the rest is what it was."""
    rows = [b'%d,"%s\n"\r\n' % (number, b"x" * number) for number in range(60)]
    for number in range(3):
        data = b"id,text\n" + b"".join(rows[20 * number : 20 * number + 20])
        (tmp_path / f"{number}.csv").write_bytes(pack(data))
    frontend, items = positions(tmp_path)
    assert [item.value["id"] for item in items] == [str(number) for number in range(60)]
    for number in range(0, 60, 7):
        _, rest = positions(tmp_path, frontend.checkpoint(items[number].position))
        assert comparable(rest) == comparable(items[number + 1 :])


def test_a_new_file_is_read_wherever_it_comes(tmp_path):
    """A file that is there for the first time, before or behind the others, is read by itself."""
    (tmp_path / "b.csv").write_bytes(b"a\n1\n")
    frontend, items = positions(tmp_path)
    checkpoint = frontend.checkpoint(items[-1].position)
    (tmp_path / "a.csv").write_bytes(b"a\n2\n")
    (tmp_path / "c.csv").write_bytes(b"a\n3")
    assert [item.value["a"] for item in positions(tmp_path, checkpoint)[1]] == ["2", "3"]


def test_a_pattern_is_read_in_the_order_of_the_names(tmp_path, read_all):
    """``path`` may be a pattern, and each file that matches it comes once."""
    for name in "ba":
        (tmp_path / f"{name}.csv").write_bytes(b"a\n%s\n" % name.encode())
    (tmp_path / "c.txt").write_bytes(b"?")
    assert read_all(CsvFrontend(path=f"{tmp_path}/*.csv")) == [{"a": "a"}, {"a": "b"}]


def test_what_a_compressed_file_may_become_is_bounded(tmp_path, read_all):
    """Output beyond the cap ends the run, also one that a header alone would make."""
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"1\n" * 2**21))
    with pytest.raises(CompressedInputError, match="max_ratio=200"):
        read_all(CsvFrontend(path=path))
    assert len(read_all(CsvFrontend(path=path, max_ratio=1e6))) == 2**21
    path.write_bytes(gzip.compress(b"a" * 2**22))
    with pytest.raises(CompressedInputError, match="max_output=1000000 "):
        CsvFrontend(path=path, max_output=1_000_000).setup()


def test_compressed_standard_input_is_read(python):
    """A pipe is decompressed as a file is."""
    program = """
from m3.connectors.csv import CsvFrontend
frontend = CsvFrontend()
frontend.setup()
print(list(frontend.produce()))
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.communicate(gzip.compress(b"a\n1\n"))[0] == b"[{'a': '1'}]\n"
