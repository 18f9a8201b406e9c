"""The connector ``jsonl``: one document per line, in files and through pipes."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3.connectors import jsonl
from m3.connectors._json import loads
from m3.connectors.jsonl import JsonlBackend, JsonlFrontend
from m3.errors import BatchError, RecordTooLongError
from m3.stages import Failure


@pytest.fixture(params=["json", "quick"])
def parser(request, monkeypatch):
    """Run the test with the standard library's parser and with the one that there is."""
    if request.param == "json":
        monkeypatch.setattr(jsonl, "quick_loads", loads)
    elif jsonl.quick_loads is loads:
        pytest.skip("msgspec is not installed")


def read(data, monkeypatch, read_all, **options):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return read_all(JsonlFrontend(**options))


@pytest.mark.usefixtures("parser")
def test_each_line_is_a_document(monkeypatch, read_all):
    """Documents of every kind come in order; the last needs no line feed."""
    data = b'{"a": [1, 2.5]}\n"x"\r\nnull\ntrue\n12345678901234567890123\n1e400\n"\\ud800"\n-1'
    items = read(data, monkeypatch, read_all)
    assert items == [
        {"a": [1, 2.5]},
        "x",
        None,
        True,
        12345678901234567890123,
        float("inf"),
        "\ud800",
        -1,
    ]


@pytest.mark.usefixtures("parser")
def test_a_bad_record_is_a_failure_and_the_rest_go_on(monkeypatch, read_all):
    """What is no document, an empty line too, fails alone with its raw bytes and position."""
    good, bad, empty, nan, deep, last = read(
        b'{"a":1}\n{"a":\xff}\n\nNaN\n' + b"[" * 100_000 + b"\n2\n", monkeypatch, read_all
    )
    assert (good, last) == ({"a": 1}, 2)
    assert [failure.value for failure in (bad, empty, nan)] == [b'{"a":\xff}', b"", b"NaN"]
    assert [failure.position.line for failure in (bad, empty, nan, deep)] == [2, 3, 4, 5]
    assert isinstance(bad.error, UnicodeDecodeError)
    assert isinstance(deep.error, RecursionError)


def test_a_record_too_long_is_a_failure(monkeypatch, read_all):
    """The limit holds before anything is parsed."""
    failure, item = read(b"[1, 2, 3, 4]\n[1]\n", monkeypatch, read_all, limit=5)
    assert isinstance(failure.error, RecordTooLongError)
    assert item == [1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(items=st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none())))
def test_what_is_written_reads_the_same(tmp_path, items, read_all, write_all):
    """Items written to a file come back equal and in order."""
    path = tmp_path / "items.jsonl"
    write_all(JsonlBackend(path=path), *([item] for item in items))
    assert read_all(JsonlFrontend(path=path)) == items


def test_a_file_is_replaced_or_extended(tmp_path, write_all):
    """A target file appears as a whole at the end; with ``append`` it grows."""
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"0\n")
    write_all(JsonlBackend(path=path), [1], failed=True)
    assert path.read_bytes() == b"0\n"
    write_all(JsonlBackend(path=path, append=True), [1])
    assert path.read_bytes() == b"0\n1\n"
    write_all(JsonlBackend(path=path), ["ä", {"b": [None]}])
    assert path.read_bytes() == '"ä"\n{"b":[null]}\n'.encode()


@pytest.mark.parametrize("item", [object(), float("nan"), b"bytes"])
def test_an_item_that_json_cannot_express_is_refused(capfdbinary, write_all, item):
    """Such an item fails by itself, and the others of its batch are written."""
    with pytest.raises(BatchError) as caught:
        write_all(JsonlBackend(), [1, item, 2])
    assert isinstance(caught.value.errors[1], TypeError | ValueError)
    assert capfdbinary.readouterr().out == b"1\n2\n"


def test_bytes_are_no_document(capfdbinary, write_all):
    """Also where all items of a batch are bytes, none of which is written as it is."""
    with pytest.raises(BatchError) as caught:
        write_all(JsonlBackend(), [b"{", b"2"])
    assert sorted(caught.value.errors) == [0, 1]
    assert capfdbinary.readouterr().out == b""


def test_the_path_of_a_hyphen_is_standard_input_and_output(python):
    """By default documents come from standard input and go to standard output."""
    program = """
from m3.connectors.jsonl import JsonlBackend, JsonlFrontend
frontend, backend = JsonlFrontend(), JsonlBackend()
frontend.setup(), backend.setup()
for item in frontend.produce():
    backend.process_batch([item])
frontend.cleanup(), backend.cleanup()
"""
    process = python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(b'{"a": 1}\n[ ]')
    assert output == b'{"a":1}\n[]\n'


def test_stop_wakes_a_blocked_read(tmp_path, reading):
    """``stop()`` ends a frontend that waits for a writer."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert reading(JsonlFrontend(path=path)).stop() == []


def test_a_missing_file_fails_before_the_run(tmp_path):
    """The file is looked for in ``setup``."""
    with pytest.raises(FileNotFoundError, match="missing"):
        JsonlFrontend(path=tmp_path / "missing").setup()


def test_failures_are_failures(monkeypatch, read_all):
    """A frontend never raises because of a record."""
    assert all(isinstance(item, Failure) for item in read(b"a\nb\n", monkeypatch, read_all))
