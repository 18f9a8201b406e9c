"""The connector ``csv``: every quoting sin, exact places, going on behind a record."""

import csv
import os
import subprocess

import pytest

from m3.connectors.csv import CsvFrontend
from m3.errors import ConfigError, MalformedRecordError, RecordTooLongError, StateError
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
    """``-`` is standard input; a checkpoint of it is refused."""
    program = """
from m3.connectors.csv import CsvFrontend
frontend = CsvFrontend(path="-")
frontend.setup()
print(list(frontend.produce()), frontend.can_resume)
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(b"a\n1\n")
    assert output == b"[{'a': '1'}] False\n"
    with pytest.raises(StateError, match="standard input"):
        CsvFrontend(path="-").resume({"file": 0})
    CsvFrontend(path="-").resume(None)


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
        checkpoint = frontend.checkpoint(tuple(item.position))
        _, rest = positions([one, two], checkpoint, limit=200)
        assert comparable(rest) == comparable(items[number + 1 :])


def test_places_are_exact(tmp_path):
    """The offset of a record is where its bytes begin."""
    path = tmp_path / "table.csv"
    data = b'a,b\r\n1,2\r\n"3\n",4\n\n5,6\n'
    path.write_bytes(data)
    _, items = positions(path)
    places = [(item.position.line, item.position.offset, item.position.end) for item in items]
    assert places == [(2, 5, 10), (3, 10, 17), (6, 18, 22)]
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
    with pytest.raises(StateError, match=r"table\.csv"):
        CsvFrontend(path=path).resume(checkpoint)


def test_a_last_line_that_has_grown_is_refused(tmp_path):
    """A last record without a line end, read as it was, is not gone on with in its middle."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n1\n2")
    frontend, items = positions(path)
    checkpoint = frontend.checkpoint(items[-1].position)
    _, rest = positions(path, checkpoint)
    assert rest == []
    path.write_bytes(b"a\n1\n22\n")
    with pytest.raises(StateError, match="no end of a line"):
        CsvFrontend(path=path).resume(checkpoint)


def test_other_files_are_refused(tmp_path):
    """The files before the checkpoint must be named as they were, further ones may follow."""
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    for path in (one, two):
        path.write_bytes(b"a\n1\n")
    frontend, items = positions([one, two])
    checkpoint = frontend.checkpoint(items[-1].position)
    assert positions([one, two, one], checkpoint)[1]
    with pytest.raises(StateError, match="given other files"):
        CsvFrontend(path=[two, one]).resume(checkpoint)


@pytest.mark.parametrize("checkpoint", [1, {}, {"file": 0}, {"file": 0, "offset": "y"}])
def test_a_damaged_checkpoint_is_refused(tmp_path, checkpoint):
    """What is no checkpoint of this frontend is an error of the state."""
    with pytest.raises(StateError, match="checkpoint"):
        CsvFrontend(path="x").resume(checkpoint)
