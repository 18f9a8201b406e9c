"""JSON: strict, and the same whoever parses."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from m3.connectors import _json
from m3.connectors._json import dumps, loads, quick_loads

scalars = st.none() | st.booleans() | st.integers() | st.text()
scalars |= st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
fragments = st.sampled_from([*' \t\r{}[]:,"0123456789-+.eE\\u', "true", "NaN", "\\ud800"])
documents = st.lists(fragments, max_size=15).map("".join).map(str.encode) | st.binary(max_size=15)


@pytest.fixture(params=[loads, quick_loads], ids=["json", "quick"])
def parse(request):
    if request.param is quick_loads and quick_loads is loads:
        pytest.skip("msgspec is not installed")
    return request.param


@given(value=values)
def test_what_is_written_reads_the_same(value):
    """Any JSON value survives, and is one line of UTF-8."""
    document = dumps(value)
    assert b"\n" not in document
    assert loads(document) == value
    assert document == dumps(loads(document))


@given(value=values)
def test_the_quick_parser_reads_what_is_written(value):
    """What is written is not refused by the quick parser, and reads the same."""
    assert repr(quick_loads(dumps(value))) == repr(loads(dumps(value)))


@given(document=documents)
@example(document=b"123456789012345678901234567890")
@example(document=b"-0.0")
@example(document=b'{"a":1,"a":2}')
@example(document=b"1e-400")
def test_what_the_quick_parser_takes_it_reads_the_same(document):
    """Whatever the quick parser does not refuse is, to the type, what the other reads."""
    try:
        quick = quick_loads(document)
    except Exception:
        return
    assert repr(quick) == repr(loads(document))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b"01",
        b"1.",
        b"NaN",
        b"-Infinity",
        b"1 2",
        b'"\t"',
        b"\xff",
        b'"\xed\xa0\x80"',
        b"nul",
        b"9" * 5000,
        b"\xef\xbb\xbf\xef\xbb\xbf1",
    ],
)
def test_what_is_no_json_is_refused(parse, document):
    """Documents that are no JSON raise a ValueError, those of JavaScript too."""
    with pytest.raises(ValueError):
        parse(document)


def test_nesting_is_bounded(parse):
    """A document nested a hundred thousand deep is an error, not a crash."""
    with pytest.raises(RecursionError):
        parse(b"[" * 100_000)


def test_a_byte_order_mark_is_ignored():
    """A mark before a document, as editors leave it, is no part of it."""
    assert loads(b"\xef\xbb\xbf[1]") == [1]


def test_numbers_beyond_a_double_are_read_as_python_reads_them():
    """A number too large is infinite, as ``float`` has it."""
    assert loads(b"1e400") == math.inf


@pytest.mark.parametrize("item", [b"bytes", {1, 2}, object(), {(1, 2): 3}])
def test_what_json_cannot_express_is_refused(item):
    """Other objects raise a TypeError."""
    with pytest.raises(TypeError):
        dumps(item)


@pytest.mark.parametrize("item", [math.nan, [math.inf], {"a": -math.inf}])
def test_numbers_that_json_has_not_are_refused(item):
    """NaN and infinities raise a ValueError, wherever they are."""
    with pytest.raises(ValueError):
        dumps(item)


def test_an_item_with_itself_inside_is_refused():
    """A circle raises a ValueError."""
    circle: list = []
    circle.append(circle)
    with pytest.raises(ValueError):
        dumps(circle)


def test_half_a_surrogate_pair_survives():
    """What only an escape can say is escaped."""
    assert dumps("\ud800ä") == b'"\\ud800\\u00e4"'
    assert loads(dumps("\ud800ä")) == "\ud800ä"
    assert dumps("ä") == '"ä"'.encode()


def test_the_standard_parser_is_there_without_msgspec(python):
    """Where msgspec is not installed, the standard library parses."""
    program = """
import sys
sys.modules["msgspec"] = None
from m3.connectors._json import loads, quick_loads
assert quick_loads is loads
"""
    assert python(program).wait(timeout=30) == 0


def test_python_reads_what_is_written():
    """What is written is JSON to others too."""
    item = {"a": [1, 2.5, None, True, "ü\n\x00"]}
    assert json.loads(dumps(item)) == item
    assert _json.dumps(item) == '{"a":[1,2.5,null,true,"ü\\n\\u0000"]}'.encode()
