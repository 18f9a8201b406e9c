"""The limits that keep the sources readable."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "m3").rglob("*.py"))
COMPILED = sorted((ROOT / "m3").glob("*.pyx"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

LONGEST_FUNCTION = 40
LONGEST_MODULE = {".py": 500, ".pyx": 1000}  # C needs its declarations
EMPTY_NAMES = {"utils", "util", "common", "helpers", "misc", "base", "manager"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[Function]:
    """Return the functions and methods that the file defines."""
    tree = ast.parse(path.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def length(function: Function) -> int:
    """Return the number of lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


@pytest.mark.parametrize("path", MODULES + COMPILED, ids=lambda path: path.name)
def test_modules_are_short(path):
    """A module can be read in one sitting."""
    assert len(path.read_text("utf-8").splitlines()) < LONGEST_MODULE[path.suffix]


def test_functions_are_short():
    """A function fits on a screen; most fit on a quarter of one."""
    lengths = sorted(
        (length(function), f"{path.relative_to(ROOT)}:{function.lineno} {function.name}")
        for path in MODULES
        for function in functions(path)
    )
    assert [name for lines, name in lengths if lines > LONGEST_FUNCTION] == []
    assert lengths[len(lengths) // 2][0] < 10


def test_names_say_something():
    """No module has a name that any code would fit."""
    assert [path for path in MODULES + COMPILED if path.stem in EMPTY_NAMES] == []


def test_tests_state_their_rule():
    """Each test says in its docstring which rule it proves."""
    silent = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in TESTS
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_tests_do_not_sleep_to_wait():
    """A test waits for an event, never for a time to pass; stages under test may sleep."""
    sleeping = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in TESTS
        for function in functions(path)
        if function.name.startswith("test_")
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "sleep"}
        and not isinstance(statement, ast.FunctionDef | ast.ClassDef)
    ]
    assert sleeping == []
