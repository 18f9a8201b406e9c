"""What is shown of texts from elsewhere."""

import json
import time
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3._shown import escaped, escaped_json, indented, masked, one_line, safe
from m3.errors import RecordTooLongError, StageError, abridged, describe
from m3.secret import MOST, Secret


@pytest.fixture(autouse=True)
def _unknown(monkeypatch):
    """Let each test begin without secrets, and leave none."""
    monkeypatch.setattr("m3.secret._known", deque(maxlen=MOST))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa55@db/x", "postgresql://me:***@db/x"),
        ("redis://:pa55@db:6379/0", "redis://:***@db:6379/0"),
        ("amqp://me@corp.example:pa55@mq//", "amqp://me@corp.example:***@mq//"),
        ("x://u:pa@55@h/p?to=a@b", "x://u:***@h/p?to=a@b"),
        ("x://u:pa/55@h/p", "x://u:***@h/p"),
        ("x://u:pa?5#5@h", "x://u:***@h"),
        ("x://u:p'a\"55@h", "x://u:***@h"),
        ("x://u:p@h?to=a@b", "x://u:***@h?to=a@b"),
        ("x://u:pa55@h,y://v:pa66@i", "x://u:***@h,y://v:***@i"),
        ("mongodb://u:pa55@h1:1,h2:2/d", "mongodb://u:***@h1:1,h2:2/d"),
        ("b'ftp://u:pa55@h' and 'ftp://u:pa55@h'", "b'ftp://u:***@h' and 'ftp://u:***@h'"),
    ],
)
def test_passwords_in_urls(text, shown):
    """The password of a URL is masked, and the rest of the URL is left."""
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8080/a@b",
        "http://me@localhost:8080/x",
        "http://[::1]:80/a@b",
        '{"url":"http://localhost:8080","mail":"a@b"}',
        "http://h: a@b",
        "me:you@there",
        "https://h/a:b@c",
    ],
)
def test_what_is_no_password(text):
    """Ports, paths and mail addresses are left alone."""
    assert masked(text) == text


@pytest.mark.parametrize("piece", ["://", "://u:", "://u:p", "a", "x://u:1/", "@"])
def test_masking_is_quick(piece):
    """A text that somebody made to be slow is not: 200 KB take less than 5 s."""
    text = piece * (200_000 // len(piece))
    begin = time.perf_counter()
    masked(text)
    assert time.perf_counter() - begin < 5


HOSTILE = "\x1b]0;title\x07\x1b[2J\r\x00\x7f\x9b31m\u202e\u2028\udc80\ufeff"


def test_control_characters_are_escaped():
    """What a terminal obeys, and what reorders a text, is written as Python writes it."""
    text = escaped(HOSTILE + "é 漢\u3000字\n\tend")
    assert text == (
        r"\x1b]0;title\x07\x1b[2J\r\x00\x7f\x9b31m\u202e\u2028\udc80\ufeff" + "é 漢\u3000字\n\tend"
    )


@given(st.text())
def test_what_is_shown_is_harmless(text):
    """Whatever the text, what is shown has no control character, and is not escaped twice."""
    shown = safe(text)
    assert all(c in "\n\t" or ord(c) >= 32 for c in shown)
    assert safe(shown) == shown
    assert not set(one_line(text)) & set("\n\t")
    assert escaped_json(json.dumps(text, ensure_ascii=False)).encode()
    assert json.loads(escaped_json(json.dumps(text, ensure_ascii=False))) == text


def test_further_lines_are_indented():
    """Only the first line of a message begins at the margin."""
    assert indented("a\nb\n\nc") == "a\n  b\n  \n  c"


class Evil:
    def __repr__(self):
        return f"<{HOSTILE}\nm3: all is well>"


def test_errors_are_described_without_control_characters():
    """An error's own text cannot move the cursor; its lines stay lines."""
    assert describe(ValueError("a\x1b[2Jb\nc")) == "ValueError: a\\x1b[2Jb\nc"
    assert describe(ValueError("no x://u:pa55@h")) == "ValueError: no x://u:***@h"
    assert str(RecordTooLongError("x")) == "x"


def test_types_may_have_any_name():
    """The name of a type cannot do more than its values."""
    hostile = type("\x1b[2J\n", (Exception,), {"__repr__": lambda _: 1 / 0})
    assert describe(hostile("x")) == "\\x1b[2J\\n: x"
    assert abridged(hostile()).isprintable()


def test_values_are_abridged_to_one_line():
    """The repr of a value stays in its line, whatever it has in it."""
    assert "\n" not in abridged(Evil())
    assert "\x1b" not in abridged(Evil())
    message = str(StageError(ValueError(), stage="s\n", worker=0, item=Evil(), position="\x1b"))
    assert message.isprintable()


@pytest.mark.parametrize("kind", [str, str.encode, lambda text: bytearray(text, "ascii")])
@pytest.mark.parametrize("before", [0, 150, 190, 195, 198])
def test_what_is_cut_is_masked_before(kind, before):
    """No beginning of a secret is left where a long value is cut."""
    Secret("swordfish-of-old")
    text = abridged(kind("-" * before + "swordfish-of-old x://u:pa55word@h" + "-" * 5000))
    assert "sword" not in text
    assert "pa55" not in text
    assert text.endswith("...")
    assert len(text) < 230


def test_long_values_are_cut():
    """A long value is shown by its first 200 characters."""
    assert abridged("x" * 300) == repr("x" * 200) + "..."
    assert abridged(bytearray(300)) == repr(bytearray(200)) + "..."
    assert abridged([0] * 300) == repr([0] * 300)[:200] + "..."
