"""Imports inside m3 go down only, and ``import m3`` loads no more than it needs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "m3"

FLOORS = (
    {
        "errors",
        "_types",
        "_durable",
        "_plain",
        "_scopes",
        "_shown",
        "_messages",
        "_root_errors",
        "_resource_errors",
        "secret",
    },
    {
        "_sync",
        "_frames",
        "_stacks",
        "_threads",
        "_parking",
        "_edge",
        "_budget",
        "_queue",
        "_records",
        "_tokens",
        "_waiting",
        "_wire",
        "_steps",
        "_order",
        "_flights",
        "_loops",
    },
    {"stages", "policies", "registry"},
    {"components"},
    {"pools"},
    {"engine"},
    {"aws", "messaging", "observe"},
    {"connectors"},
    {"services"},
    {"pipeline", "launcher", "core", "ootb", "config", "runners", "testing"},
    {"cli", "pytest_plugin"},
    {"__init__", "__main__"},
)
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}

HEAVY = {"asyncio", "attr", "boto3", "cattrs", "click", "kombu", "numpy", "ray", "rich", "sqlite3"}

CIMPORT = re.compile(r"^\s*from\s+([\w.]+)\s+c?import\b|^\s*c?import\s+([\w.]+)", re.MULTILINE)
SOURCES = sorted(
    path for suffix in ("py", "pyx", "pxd", "pyi") for path in PACKAGE.rglob(f"*.{suffix}")
)


def part(path: Path) -> str:
    """Return the folder or file of m3 that *path* belongs to."""
    return path.relative_to(PACKAGE).parts[0].split(".")[0]


class Hidden(ast.NodeTransformer):
    """Removes what only type checkers see."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        return node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else node


def imported(path: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """Yield the full name of every module that the file imports, anywhere in it."""
    text = path.read_text("utf-8")
    if path.suffix in (".pyx", ".pxd"):
        yield from (match[1] or match[2] for match in CIMPORT.finditer(text))
        return
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    tree = ast.parse(text)
    for node in ast.walk(Hidden().visit(tree) if at_run_time else tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from {below(source, alias.name) for alias in node.names}


def below(source: str, name: str) -> str:
    """Return the module that ``from source import name`` names: *source*, or one in it."""
    is_module = source != "m3" and (ROOT / source.replace(".", "/") / f"{name}.py").exists()
    return f"{source}.{name}" if is_module else source


def within_m3() -> list[tuple[Path, str]]:
    """Return every import of m3 inside m3, as the file and the module."""
    return [
        (path, module)
        for path in SOURCES
        for module in imported(path)
        if module.split(".")[0] == "m3"
    ]


def test_every_part_has_a_floor():
    """A new file or folder of m3 is given its floor before anything can import it."""
    assert {part(path) for path in SOURCES} <= FLOOR_OF.keys()


def test_imports_go_down_only():
    """A module imports from lower floors, from its own folder, or a file of its own floor."""
    wrong = []
    for path, module in within_m3():
        if module == "m3":
            continue
        importer, target = part(path), module.split(".")[1]
        down = FLOOR_OF[target] < FLOOR_OF[importer]
        neighbour = FLOOR_OF[target] == FLOOR_OF[importer] and not (PACKAGE / target).is_dir()
        if not (down or neighbour or target == importer):
            wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_nothing_imports_the_package_itself():
    """``import m3`` inside m3 would make one circle of all its modules."""
    assert [str(path.relative_to(ROOT)) for path, module in within_m3() if module == "m3"] == []


def test_no_circles_between_files():
    """At run time, the files of one floor or one folder import each other in no circle."""
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        if path.suffix == ".py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            graph[name.removesuffix(".__init__")] = set(imported(path, at_run_time=True))
    done: set[str] = set()
    while free := {name for name in graph.keys() - done if not graph[name] & graph.keys() - done}:
        done |= free
    assert sorted(graph.keys() - done) == []


@pytest.mark.parametrize(
    ("library", "folder"),
    [
        ("boto3", "aws"),
        ("kombu", "messaging"),
        ("click", "cli"),
        ("ray", "runners"),
        ("werkzeug", "services"),
        ("cheroot", "services"),
        ("pytest", "pytest_plugin"),
    ],
)
def test_one_place_knows_each_library(library, folder):
    """A library of the outside world is imported by one folder only."""
    elsewhere = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if part(path) != folder
        for module in imported(path)
        if module.split(".")[0] == library
    ]
    assert elsewhere == []


@pytest.mark.parametrize("imports", ["import m3", "from m3 import Component"])
def test_import_m3_is_light(imports):
    """Neither ``import m3`` nor saying what a component is loads what only some programs need."""
    program = f"{imports}; import sys; print(*sorted(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([], "")
