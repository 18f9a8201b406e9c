"""The line of each key of a TOML document."""

import string
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3.config.lines import key_lines

DOCUMENT = '''\
# a comment with [brackets] and = signs
name = "demo"  # and another = one
text = """
[not.a.table]
key = 1
"""
literal = \'\'\'
[[neither]]
\'\'\'
quotes = """two more quotes at the end"""""
array = [
    1,  # ]
    [2, "]"],
]
inline = { a = 1, b = { c = "}" } }
a.b.c = 1

[table]  # header
"quoted key" = 1
'literal key' = 2
"\\u00e9" = 3
1234 = "bare digits"

[[stage]]
use = "x"

[stage.batch]
count = 3

[[stage]]

use = "y"
[[stage.inner]]
deep = true
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("text",), 3),
        (("literal",), 7),
        (("quotes",), 10),
        (("array",), 11),
        (("inline",), 15),
        (("a", "b", "c"), 16),
        (("a", "b"), 16),
        (("table",), 18),
        (("table", "quoted key"), 19),
        (("table", "literal key"), 20),
        (("table", "é"), 21),
        (("table", "1234"), 22),
        (("stage",), 24),
        (("stage", 0), 24),
        (("stage", 0, "use"), 25),
        (("stage", 0, "batch"), 27),
        (("stage", 0, "batch", "count"), 28),
        (("stage", 1), 30),
        (("stage", 1, "use"), 32),
        (("stage", 1, "inner", 0), 33),
        (("stage", 1, "inner", 0, "deep"), 34),
    ],
)
def test_finds_the_line(path, line):
    """Keys and headers are found whatever stands in the strings and comments around them."""
    tomllib.loads(DOCUMENT)
    assert key_lines(DOCUMENT)[path] == line


def test_finds_nothing_else():
    """What looks like a key inside a string, a comment or an array is none."""
    first_parts = {path[0] for path in key_lines(DOCUMENT)}
    assert first_parts == set(tomllib.loads(DOCUMENT))


values = st.one_of(
    st.integers(-5, 5).map(str),
    st.sampled_from(["true", "[1, 2]", "[\n  1,\n]", "{ inline = 1 }", "1979-05-27", "inf"]),
    st.text(string.ascii_letters + "[]{}=# .'", max_size=12).map(lambda text: f'"{text}"'),
    st.text(string.ascii_letters + '[]{}=#\n"', max_size=12).map(lambda text: f"'''\n{text}'''"),
    st.text(string.ascii_letters + "[]{}=#\n'", max_size=12).map(lambda text: f'"""\n{text}"""'),
)
keys = st.one_of(
    st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=5),
    st.text(string.ascii_letters + " .[]=#'", max_size=5).map(lambda text: f'"{text}"'),
    st.text(string.ascii_letters + ' .[]=#"\\', max_size=5).map(lambda text: f"'{text}'"),
)
pairs = st.lists(st.tuples(keys, values), max_size=4)


def parsed_paths(value, path=()):
    """Yield the paths of all keys outside of inline tables, by the parser's own account."""
    for key, inner in value.items():
        yield (*path, key)
        # No key that is made is as long as "inline", so only inline tables have it.
        if isinstance(inner, dict) and set(inner) != {"inline"}:
            yield from parsed_paths(inner, (*path, key))
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for index, table in enumerate(inner):
                yield (*path, key, index)
                yield from parsed_paths(table, (*path, key, index))


@given(pairs, st.lists(st.tuples(st.sampled_from(["[a]", "[[b]]", "[b.c]", '[ "d e" ]']), pairs)))
def test_agrees_with_the_parser(top, tables):
    """For any document, each key that tomllib sees has a line, and that line spells its name."""
    lines, where = [], []
    for header, content in [("", top), *tables]:
        lines += [header] if header else ["# top"]
        for key, value in content:
            where.append(len(lines) + 1)
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = key_lines(text)
    assert set(parsed_paths(document)) == set(found)
    assert set(where) <= set(found.values())
