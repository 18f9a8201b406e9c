"""Paths with fields: each item in its own file, and no item leads out of the root."""

import json
import os
import random
import signal
import stat
import subprocess
import tempfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3 import _plain
from m3.connectors._output import templated
from m3.connectors._output.templates import Template, escaped, parse_path
from m3.connectors.file import FileBackend
from m3.connectors.jsonl import JsonlBackend
from m3.errors import BatchError, ConfigError, StateError


def tree(root):
    """Return the files below *root*, but for notes on them, and what is in them."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(Path(root).rglob("*"))
        if path.is_file() and ".begun" not in path.name
    }


def lines(*items):
    return "".join(
        json.dumps(item, separators=(",", ":"), ensure_ascii=False) + "\n" for item in items
    )


def begin(path, mark=None, **options):
    """Return a backend as the engine prepares it in a run with state."""
    backend = JsonlBackend(path=path, **options)
    backend.setup()
    backend.resume(_plain.loads(_plain.dumps(mark)))
    return backend


def end(backend, *, failed=False):
    backend.failed = failed
    backend.cleanup()


# -- names ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root", "names"),
    [
        ("out/{a}/{b}.jsonl", "out", ("1", "x.jsonl")),
        ("{a}", ".", ("1",)),
        ("/{a}", "/", ("1",)),
        ("/data/by-{a}/all-{b}-{a}/file", "/data", ("by-1", "all-x-1", "file")),
        ("a/{{b}}/{a}", "a/{b}", ("1",)),
        ("out/{a}{{{b}}}", "out", ("1{x}",)),
    ],
)
def test_fields_become_names_below_the_root(path, root, names):
    """The root is the directory before the first field; the rest is one name per segment."""
    template = parse_path(path)
    assert isinstance(template, Template)
    assert template.root == root
    assert template.names({"a": 1, "b": "x"}) == names


@pytest.mark.parametrize(("path", "meant"), [("a/b", "a/b"), ("{{a}}", "{a}"), ("a{{", "a{")])
def test_a_path_without_fields_is_a_path(path, meant):
    """A brace is written twice."""
    assert parse_path(path) == meant


@pytest.mark.parametrize(
    "path",
    ["{", "a}", "{}", "{a!r}", "{a:>10}", "{a}/../b", "{a}//b", "{a}/", "{a}/.", "{a}" + "b" * 240,
     "{a}{b}{c}{d}{e}{f}{g}{h}", "{a}/" + "b" * 300],
)  # fmt: skip
def test_templates_that_cannot_be_filled_in_are_refused(path):
    """Said when the stage is made, with the path."""
    with pytest.raises(ConfigError, match="path="):
        JsonlBackend(path=path)


def test_items_without_fields_cannot_have_such_a_path():
    """The backend ``file`` takes bytes and text; it says which stage would do."""
    with pytest.raises(ConfigError, match="jsonl"):
        FileBackend(path="out/{a}")


def test_braces_of_a_file_are_written_twice(tmp_path, write_all):
    """A literal name with a brace still can be written to."""
    write_all(FileBackend(path=tmp_path / "{{a}}"), [b"x"])
    assert tree(tmp_path) == {"{a}": "x\n"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Österreich", "Österreich"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".", "%2E"),
        (".hidden", "%2Ehidden"),
        ("", "%"),
        ("50%", "50%25"),
        ("a\0b\n", "a%00b%0A"),
        ("\ud800", "%ED%A0%80"),
        ("a\\b", "a%5Cb"),
        ("x" * 101, "x" * 82 + "%~"),
        ("/" * 40, "%2F" * 27 + "%~"),
    ],
)
def test_what_is_no_good_in_a_name_is_escaped(value, name):
    """Separators, dots in front, control characters; too long ones end with a digest."""
    got = escaped(value, 100)
    assert got.startswith(name) if name.endswith("%~") else got == name


@given(values=st.sets(st.text(max_size=60) | st.text("./%~", max_size=60), max_size=10))
def test_different_values_have_different_names(values):
    """No two values are written to one file, and every name is a good one."""
    names = [escaped(value, 40) for value in values]
    assert len(set(names)) == len(values)
    for name in names:
        assert 0 < len(name.encode()) <= 40
        assert not name.startswith(".")
        assert not set(name) & {"/", "\0", "\n"}


def hostile_names():
    """Return 200 values that were made to lead elsewhere."""
    parts = [
        "..",
        "/",
        "\\",
        "\0",
        ".",
        "~",
        "etc/passwd",
        "%2e%2e",
        "%2f",
        "C:",
        "\n",
        "-rf",
        "$HOME",
    ]
    parts += ["\u202e", "\uff0f", "\u2025", "\ud800", "é" * 200, "a" * 5000, " ", "*", "{a}", "{{"]
    source = random.Random(7)
    fixed = [
        "../../../x",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/../../b",
        "....//....//x",
        "\0",
        "/",
        "//",
    ]
    return fixed + ["".join(source.choices(parts, k=source.randint(1, 5))) for _ in range(190)]


def test_hostile_values_stay_below_the_root(tmp_path):
    """Of 200 hostile values none makes a file elsewhere, and each item is written once."""
    root = tmp_path / "deep" / "root"
    values = hostile_names()
    backend = JsonlBackend(path=f"{root}/{{a}}/{{b}}.jsonl")
    backend.setup()
    backend.process_batch([{"a": value, "b": value} for value in values])
    end(backend)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(
        path.is_relative_to(root) and len(path.relative_to(root).parts) == 2 for path in everything
    )
    assert len(everything) == len(set(values))
    assert sum(len(path.read_text().splitlines()) for path in everything) == len(values)


# -- files ------------------------------------------------------------------


ITEMS = [
    {"c": "at", "d": date(2024, 1, 2).isoformat()},
    {"c": "de", "d": "x"},
    {"c": "at", "d": "2024-01-02", "n": 2},
]


def test_each_item_goes_to_its_file_when_the_run_ends_well(tmp_path, write_all):
    """In the order of the items; before the end nothing is to be seen, then all is."""
    path = f"{tmp_path}/out/{{c}}/{{d}}.jsonl"
    backend = JsonlBackend(path=path)
    backend.setup()
    backend.process_batch(ITEMS[:2])
    backend.process_batch(ITEMS[2:])
    assert {Path(name).suffix for name in tree(tmp_path)} == {".tmp"}
    end(backend)
    expected = {
        "at/2024-01-02.jsonl": lines(ITEMS[0], ITEMS[2]),
        "de/x.jsonl": lines(ITEMS[1]),
    }
    assert tree(tmp_path / "out") == expected
    write_all(JsonlBackend(path=path), [{"c": "de", "d": "x", "new": 1}])
    changed = {"de/x.jsonl": lines({"c": "de", "d": "x", "new": 1})}
    assert tree(tmp_path / "out") == expected | changed


def test_a_failed_run_leaves_what_was_there(tmp_path, write_all):
    """As with one file: no new content, and nothing beside the old."""
    path = f"{tmp_path}/{{c}}"
    write_all(JsonlBackend(path=path), [{"c": "a"}])
    write_all(JsonlBackend(path=path), [{"c": "a", "n": 1}, {"c": "b"}], failed=True)
    assert tree(tmp_path) == {"a": lines({"c": "a"})}


def test_append_adds_to_each_file_as_the_items_come(tmp_path):
    """With ``append`` what is there stays, and so does what was written when a run fails."""
    (tmp_path / "a").write_text("old\n")
    backend = JsonlBackend(path=f"{tmp_path}/{{c}}", append=True)
    backend.setup()
    backend.process_batch([{"c": "a"}, {"c": "b"}])
    assert tree(tmp_path) == {"a": "old\n" + lines({"c": "a"}), "b": lines({"c": "b"})}
    end(backend, failed=True)


def test_few_files_are_open_at_once(tmp_path, monkeypatch, descriptors):
    """However many files there are, a bounded number is open; each gets all of its items."""
    monkeypatch.setattr(templated, "MOST_OPEN", 5)
    before = len(descriptors())
    backend = JsonlBackend(path=f"{tmp_path}/{{n}}")
    backend.setup()
    for turn in range(3):
        for number in range(40):
            backend.process_batch([{"n": number, "turn": turn}])
            assert len(descriptors()) <= before + 5 + 1
    end(backend)
    assert len(descriptors()) == before
    assert tree(tmp_path) == {
        str(number): lines(*({"n": number, "turn": turn} for turn in range(3)))
        for number in range(40)
    }


def test_files_have_the_mode_of_the_umask(tmp_path):
    """New files and directories may be read by whom the umask lets, replaced ones as before."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/x").touch()
    (tmp_path / "kept/x").chmod(0o604)
    old = os.umask(0o027)
    try:
        backend = JsonlBackend(path=f"{tmp_path}/{{c}}/x")
        backend.setup()
        backend.process_batch([{"c": "new"}, {"c": "kept"}])
        end(backend)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "new/x", "kept/x")]
    assert modes == [0o750, 0o640, 0o604]


@pytest.mark.parametrize("state", [True, False])
def test_links_below_the_root_are_not_followed(tmp_path, state):
    """A link to elsewhere, as a directory or as the file, makes the item fail; the rest go on."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "a").mkdir()
    (root / "a" / "file").symlink_to(outside / "target")
    os.mkfifo(root / "a" / "fifo")
    backend = JsonlBackend(path=f"{root}/{{a}}/{{b}}", append=True)
    backend.setup()
    if state:
        end(backend)
        backend = begin(f"{root}/{{a}}/{{b}}")
    items = [{"a": "folder", "b": "x"}, {"a": "a", "b": "file"}, {"a": "a", "b": "fifo"}]
    with pytest.raises(BatchError) as caught:
        backend.process_batch([*items, {"a": "a", "b": "good"}])
    assert [*caught.value.errors] == [0, 1, 2]
    assert all(isinstance(error, OSError) for error in caught.value.errors.values())
    end(backend)
    assert os.listdir(outside) == []
    assert tree(root)["a/good"] == lines({"a": "a", "b": "good"})


@pytest.mark.parametrize(
    "item",
    [{"b": 1}, [1], 3, {"a": None}, {"a": [1]}, {"a": {"b": 1}}, {"a": "good", "x": object()}],
)
def test_an_item_that_cannot_be_placed_fails_alone(tmp_path, item):
    """A missing field, one that is no name, an item without fields."""
    backend = JsonlBackend(path=f"{tmp_path}/{{a}}")
    backend.setup()
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"a": 1}, item, {"a": 1.5}])
    assert [*caught.value.errors] == [1]
    end(backend)
    assert tree(tmp_path) == {"1": lines({"a": 1}), "1.5": lines({"a": 1.5})}


# -- with state -------------------------------------------------------------


def test_each_file_goes_back_to_its_mark(tmp_path, monkeypatch):
    """What was not committed is cut off in all files, also those that were closed meanwhile."""
    monkeypatch.setattr(templated, "MOST_OPEN", 2)
    path = f"{tmp_path}/{{c}}/{{n}}"
    backend = begin(path)
    backend.process_batch([{"c": "a", "n": number} for number in range(6)])
    mark = backend.commit()
    committed = tree(tmp_path)
    backend.process_batch([{"c": "a", "n": number, "again": True} for number in range(6)])
    end(backend, failed=True)
    assert tree(tmp_path) != committed
    backend = begin(path, mark)
    assert tree(tmp_path) == committed
    backend.process_batch([{"c": "a", "n": 3, "new": 1}])
    again = backend.commit()
    end(backend)
    assert tree(tmp_path)["a/3"] == committed["a/3"] + lines({"c": "a", "n": 3, "new": 1})
    assert again["files"].keys() == mark["files"].keys()


@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_files_that_came_after_the_mark_are_removed(tmp_path, commits):
    """Their items come again, perhaps into other files; those before, and those of others, stay."""
    (tmp_path / "theirs").write_text("theirs\n")
    path = f"{tmp_path}/{{n}}/{{m}}"
    backend = begin(path)
    for number in range(commits):
        backend.process_batch([{"n": 0, "m": number}])
        backend.commit()
    mark = backend.commit()
    backend.process_batch([{"n": 0, "m": 9}, {"n": 1, "m": 1}])
    backend.commit()  # of this the checkpoint was not written any more
    backend.process_batch([{"n": 0, "m": 8}])
    end(backend, failed=True)
    backend = begin(path, mark)
    kept = {f"0/{number}": lines({"n": 0, "m": number}) for number in range(commits)}
    assert tree(tmp_path) == {**kept, "theirs": "theirs\n"}
    backend.commit()
    backend.process_batch([{"n": 2, "m": 9}])
    backend.commit()
    end(backend)
    assert tree(tmp_path) == {**kept, "2/9": lines({"n": 2, "m": 9}), "theirs": "theirs\n"}
    assert list(tmp_path.glob(".m3-*")) == []


def test_what_was_noted_half_was_not_begun(tmp_path):
    """A note that a dying process has not completed is passed over."""
    path = f"{tmp_path}/{{n}}"
    backend = begin(path)
    mark = backend.commit()
    backend.process_batch([{"n": 1}])
    end(backend, failed=True)
    (note,) = tmp_path.glob(".m3-*")
    note.write_bytes(note.read_bytes() + b'["2')
    end(begin(path, mark), failed=True)
    assert tree(tmp_path) == {}


def test_no_link_leads_a_removal_out_of_the_root(tmp_path):
    """A directory that somebody has replaced by a link meanwhile is not gone into."""
    path = f"{tmp_path}/out/{{n}}/{{m}}"
    backend = begin(path)
    mark = backend.commit()
    backend.process_batch([{"n": 1, "m": 1}])
    end(backend, failed=True)
    (tmp_path / "out" / "1").rename(tmp_path / "moved")
    (tmp_path / "out" / "1").symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        begin(path, mark)
    assert os.listdir(tmp_path / "moved") == ["1"]


@pytest.mark.parametrize("change", ["shorter", "gone", "link", "other"])
def test_changed_files_are_refused(tmp_path, change):
    """As with a single file; the message names it."""
    path = f"{tmp_path}/{{n}}"
    backend = begin(path)
    backend.process_batch([{"n": 1, "text": "some"}])
    mark = backend.commit()
    end(backend)
    file = tmp_path / "1"
    if change == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif change == "other":
        file.write_bytes(file.read_bytes().replace(b"some", b"more"))
    else:
        file.rename(tmp_path / "moved")
        if change == "link":
            file.symlink_to(tmp_path / "moved")
    with pytest.raises(StateError, match=f"{file} .*--from-start"):
        begin(path, mark)


@pytest.mark.parametrize(
    "files", [[], "x", {"../x": [0, ""]}, {"a//b": [0, ""]}, {1: [0, ""]}, {"a": 1}]
)
def test_what_is_no_mark_is_refused(tmp_path, files):
    """No mark leads out of the root either."""
    (tmp_path / "a").touch()
    for mark in (files, {"begun": "0" * 16, "files": files}, {"begun": "../x", "files": {}}):
        with pytest.raises(StateError, match=r"no mark|no checkpoint"):
            begin(f"{tmp_path}/{{n}}", mark)


def test_somebody_else_who_writes_is_noticed(tmp_path):
    """At the commit, at the latest."""
    backend = begin(f"{tmp_path}/{{n}}")
    backend.process_batch([{"n": 1}])
    with (tmp_path / "1").open("a") as file:
        file.write("theirs\n")
    with pytest.raises(StateError, match="somebody else"):
        backend.commit()
    end(backend, failed=True)


def test_files_that_are_only_known_later_cannot_be_appended_to_with_state(tmp_path):
    """What was in them before the first item is not known when the run begins, so it says so."""
    assert JsonlBackend(path=f"{tmp_path}/{{n}}").can_resume
    assert not JsonlBackend(path=f"{tmp_path}/{{n}}", append=True).can_resume


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(runs=st.lists(st.lists(st.integers(0, 5) | st.none()), max_size=5))
def test_after_any_runs_the_files_have_what_was_committed(tmp_path, runs):
    """Over runs that die anywhere, with one file open at a time, each committed item stays once."""
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    committed, mark, number = [], None, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templated, "MOST_OPEN", 1)
        for actions in runs:
            backend = begin(f"{root}/{{f}}", mark)
            mark = backend.commit()  # as the engine does before the first item
            pending = []
            for file in actions:
                number += 1
                if file is None:
                    mark = backend.commit()
                    committed += pending
                    pending = []
                else:
                    pending.append({"f": file, "n": number})
                    backend.process_batch(pending[-1:])
            end(backend, failed=True)
        if mark is not None:
            end(begin(f"{root}/{{f}}", mark), failed=True)
            for file in mark["files"]:
                expected = lines(*(item for item in committed if str(item["f"]) == file))
                assert (root / file).read_text() == expected
            assert {str(item["f"]) for item in committed} == set(mark["files"]) == set(tree(root))


def test_what_is_committed_is_durable(tmp_path, monkeypatch):
    """A commit syncs each file written since the last one, each new directory, and notes before."""
    monkeypatch.setattr(templated, "MOST_OPEN", 1)
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    root = tmp_path / "root"
    backend = begin(f"{root}/{{a}}/{{b}}")
    monkeypatch.setattr(os, "fsync", fsync)
    backend.process_batch([{"a": "d", "b": "x"}, {"a": "d", "b": "y"}])
    backend.commit()
    notes = [name for name in synced if ".begun" in name]
    assert synced[:2] == ["root", notes[0]]
    assert len(notes) == 2
    assert sorted(synced[1:]) == sorted(["d", "root", "x", "y", *notes])
    synced.clear()
    backend.process_batch([{"a": "d", "b": "x"}])
    backend.commit()
    assert synced == ["x"]
    end(backend)


def test_kill_leaves_what_the_next_run_cuts_off(tmp_path, python):
    """After SIGKILL in the middle of writing, the committed items are there and nothing else."""
    program = """
import json, sys
from m3.connectors.jsonl import JsonlBackend
backend = JsonlBackend(path=sys.argv[1] + "/{n}")
backend.setup()
backend.resume(None)
backend.process_batch([{"n": n} for n in range(100)])
print(json.dumps(backend.commit()), flush=True)
while True:
    backend.process_batch([{"n": n, "x": "y" * 10000} for n in range(100)])
"""
    process = python(program, tmp_path, stdout=subprocess.PIPE)
    mark = json.loads(process.stdout.readline())
    while (tmp_path / "99").stat().st_size < 50_000:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    end(begin(f"{tmp_path}/{{n}}", mark))
    assert tree(tmp_path) == {str(n): lines({"n": n}) for n in range(100)}
