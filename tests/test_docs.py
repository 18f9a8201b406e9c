"""
The documentation says everything, and what it shows works.

In README.md and docs/, the blocks marked ``python`` and ``sh`` are run, in the
order of their page and in one folder per page.  A comment right above a block
says what else it is: ``<!-- output -->`` what the block before it prints,
``<!-- file: NAME -->`` a file that later blocks use, and
``<!-- not run here: WHY -->`` why it is not run.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import m3
import m3.errors
import m3.services
from m3.registry import BUILTIN

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
INTERPRETERS = {"python": (sys.executable, "-c"), "sh": ("bash", "-euo", "pipefail", "-c")}
BLOCK = re.compile(r"^(?:<!-- ([^>]*) -->\n)?```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block, its language, and the comment above it."""

    note: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(note or "", *rest) for note, *rest in BLOCK.findall(page.read_text("utf-8"))]


def documentation() -> str:
    """Return the text of all pages."""
    return "\n".join(page.read_text("utf-8") for page in PAGES)


def all_commands(group: click.Command, name: str = "m3") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below *group* with its full name."""
    yield name, group
    for below, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, f"{name} {below}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_in_the_documentation_runs(page, run_program, tmp_path, request, monkeypatch):
    """A reader who copies a block gets what the page says."""
    if "from m3.aws" in page.read_text("utf-8"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("aws"))
    if page.name == "rabbitmq.md":
        request.getfixturevalue("rabbitmq")
    done = None
    for note, language, text in blocks(page):
        if note.startswith("not run here: "):
            continue
        if note.startswith("file: "):
            (tmp_path / note.removeprefix("file: ")).write_text(text)
        elif note == "output":
            assert done is not None
            assert done.stdout == text
        elif language in INTERPRETERS:
            done = run_program(*INTERPRETERS[language], text)
            assert done.returncode == 0, f"{text}\n{done.stderr}"


def test_every_public_name_is_documented():
    """Every name of m3 and every exception appears in the documentation."""
    text = documentation()
    names = (*m3.__all__, *m3.errors.__all__)
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_every_name_of_services_is_documented():
    """Every name of m3.services appears in the documentation."""
    text = documentation()
    assert [name for name in m3.services.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_every_ready_made_stage_is_documented():
    """Every name of the registry's table appears in the documentation, as code."""
    text = documentation()
    names = {name for table in BUILTIN.values() for name in table}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_command_and_option_is_documented():
    """Every command and every option of the command line appears on its page."""
    from m3.cli.commands import commands

    text = (DOCS / "command-line.md").read_text("utf-8")
    missing = []
    for name, command in all_commands(commands):
        options = [
            option
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.hidden
            for option in parameter.opts
        ]
        missing += [word for word in (name, *options) if word not in text]
    assert missing == []


def test_every_key_of_a_report_is_documented():
    """Every key of the report, and of a stage in it, appears on the page of the command line."""
    section = (DOCS / "command-line.md").read_text("utf-8").partition("### The report")[2]
    report = m3.Pipeline([1]).backend(str).run().as_dict()
    keys = (*report, *report["stages"][0])
    assert [key for key in keys if f'"{key}"' not in section and f"`{key}`" not in section] == []


def test_every_module_has_a_caption():
    """ARCHITECTURE.md says of every file of m3 what it is for."""
    architecture = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w./]+)` \| (.*\S) \|$", architecture, re.MULTILINE))
    files = {
        str(path.relative_to(ROOT / "m3"))
        for suffix in ("py", "pyx", "h")
        for path in (ROOT / "m3").rglob(f"*.{suffix}")
        if path.name != "__init__.py" or len(path.read_text("utf-8").splitlines()) > 1
    }
    assert (sorted(files - rows.keys()), sorted(rows.keys() - files)) == ([], [])


def test_links_lead_somewhere():
    """A relative link in a page points to a file that is there."""
    pages = [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []
