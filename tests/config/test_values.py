"""Values written as text."""

import pytest

from m3.config.values import Expanded, expand, parse_value, plain, shown
from m3.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("0.5", 0.5),
        ("true", True),
        ('"16"', "16"),
        ("[1, 2]", [1, 2]),
        ("{ count = 3 }", {"count": 3}),
        ("big.log", "big.log"),
        ("/a b/c", "/a b/c"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_parse_value(text, value):
    """What is a TOML value is that value; everything else is the string as it stands."""
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "1"),
        ("x${A}y${B:2}z", "x1y2z"),
        ("${B:}", ""),
        ("${EMPTY:full}", ""),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$A costs 3$", "$A costs 3$"),
        ("nothing", "nothing"),
    ],
)
def test_expand(text, expanded):
    """``${VAR}``, ``${VAR:default}`` and ``$$`` are replaced, and nothing else is."""
    assert expand(text, {"A": "1", "EMPTY": ""}) == expanded


def test_expand_is_not_repeated():
    """What a variable holds is taken as it is."""
    assert expand("${A}", {"A": "${B}"}) == "${B}"


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A B}", "${A"])
def test_expand_refuses_what_is_malformed(text):
    """A reference without a name or an end is a mistake and not text."""
    with pytest.raises(ConfigError, match=r"write '\$\$\{'"):
        expand(text, {"A": "1"})


def test_expand_names_the_missing_variable():
    """A variable without value and default is named, with what to do."""
    with pytest.raises(ConfigError, match=r"NOPE is not set .* \$\{NOPE:default\}"):
        expand("${NOPE}", {})


def test_shown_keeps_secrets():
    """What came from a variable is shown by the variable's name, also deep inside."""
    value = {"url": ["http://", expand("${PASSWORD}", {"PASSWORD": "hunter2"})]}
    assert shown(value) == '{"url": ["http://", "${PASSWORD}"]}'


def test_plain_forgets_the_template():
    """Stages get ordinary strings."""
    value = plain([expand("${A}", {"A": "1"})])
    assert value == ["1"]
    assert type(value[0]) is str
    assert isinstance(expand("${A}", {"A": "1"}), Expanded)
