"""Which queues a message goes to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3.messaging.routing import matches, routed

words = st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=5)
patterns = st.lists(st.sampled_from(["a", "b", "*", "#", ""]), min_size=1, max_size=5)


def by_regex(pattern, key):
    """Match words as AMQP 0-9-1 has it, in the obvious and slow way."""
    text = "".join(
        r"(?:[^.]*\.)*" if word == "#" else (r"[^.]*\." if word == "*" else re.escape(word) + r"\.")
        for word in (pattern.split(".") if pattern else [])
    )
    return re.fullmatch(text, key + "." if key else "") is not None


@given(patterns, words)
def test_topics_match_as_they_are_defined(pattern, key):
    """A topic pattern matches exactly what its definition says, with any words."""
    pattern, key = ".".join(pattern), ".".join(key)
    assert matches("topic", pattern, key) == (pattern == key or by_regex(pattern, key))


def test_no_pattern_takes_long():
    """Many ``#`` in a pattern, and a long key that does not match, are no work for ages."""
    assert not matches("topic", ".".join(["#", "a"] * 50), ".".join(["a"] * 5000 + ["b"]))


@pytest.mark.parametrize(
    ("kind", "wanted"), [("direct", ["one"]), ("topic", ["one", "two"]), ("fanout", ["one", "two"])]
)
def test_each_queue_is_named_once(kind, wanted):
    """However many bindings of a queue match, it gets one copy."""
    bindings = [("a", "one"), ("*", "two"), ("#", "two"), ("a", "one")]
    assert routed(kind, bindings, "a") == wanted
