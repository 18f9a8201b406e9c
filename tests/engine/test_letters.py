"""Dead letters are kept: durable after commit, found again, and each once."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from workbench import SOON, in_thread

from m3.engine.dead_letter import DeadLetter, Selection, row_of
from m3.engine.letters import open_dead_letters, read_dead_letters
from m3.errors import DeadLetterError, ItemTimeoutError, StageError, StateError

NAMES = ("letters.db", "letters.jsonl")


@pytest.fixture(params=NAMES)
def path(request, tmp_path):
    return tmp_path / request.param


@pytest.fixture
def store(path):
    opened = open_dead_letters(path)
    yield opened
    opened.close()


def failure(error=None, *, stage="parse", item="item", attempts=1):
    """Return what a stage fails with, with a traceback through this function."""
    try:
        raise error or ValueError("not good")
    except Exception as caught:
        return StageError(
            caught, stage=stage, worker=2, item=item, position=None, attempts=attempts
        )


def put(store, *items, now=1000.0, **options):
    """Put a letter for each of *items*, at the positions from 0 on."""
    places = [(item, number) for number, item in enumerate(items)]
    store.put(failure(**options), items=places, kind="transport", pipeline="test", now=now)


def kept_at(path):
    """Return the items of the letters that another reader finds at *path*."""
    with closing(read_dead_letters(path)) as store:
        return items_in(store)


def items_in(store, selection=None):
    letters = store.select(selection) if selection else store.select()
    return [letter.item for letter in letters]


# -- what is kept


def test_a_letter_says_everything(store):
    """Item, position, stage, worker, pipeline, error, traceback, attempts and times."""
    store.put(
        failure(KeyError("k"), attempts=3),
        items=[({"a": [b"\x00", 1.5]}, ("file", 7))],
        kind="backend",
        pipeline="orders",
        now=1234.5,
    )
    (letter,) = store.select()
    assert letter.traceback.startswith("Traceback (most recent call last):\n")
    assert letter.traceback.endswith("KeyError: 'k'\n")
    assert ", in failure\n" in letter.traceback
    assert letter == DeadLetter(
        id=1,
        item={"a": [b"\x00", 1.5]},
        text="{'a': [b'\\x00', 1.5]}",
        is_plain=True,
        position=("file", 7),
        stage="parse",
        kind="backend",
        worker=2,
        pipeline="orders",
        error_type="KeyError",
        message="'k'",
        traceback=letter.traceback,
        attempts=3,
        first_failed=1234.5,
        last_failed=1234.5,
    )


def test_each_item_of_a_batch_is_a_letter(store):
    """A batch that failed becomes as many letters as it had items, each with its position."""
    store.put(failure(), items=[("a", 1), ("b", None)], kind="backend", pipeline="p", now=1.0)
    assert [(letter.id, letter.item, letter.position) for letter in store.select()] == [
        (1, "a", 1),
        (2, "b", None),
    ]


def test_what_is_not_plain_is_kept_as_text(store):
    """An object, or a position, that cannot be written down is kept for people to read."""
    thing = threading.Lock()
    store.put(failure(), items=[(thing, thing)], kind="backend", pipeline="p", now=1.0)
    (letter,) = store.select()
    assert (letter.item, letter.is_plain) == (None, False)
    assert letter.text == letter.position == repr(thing)


def test_none_is_an_item(store):
    """The item None is plain, and told apart from an item that is not."""
    put(store, None)
    (letter,) = store.select()
    assert (letter.item, letter.is_plain) == (None, True)


def test_the_item_is_kept_as_it_was(store):
    """What user code does to an item after it has failed does not reach its letter."""
    item = {"n": 1}
    put(store, item)
    item["n"] = 2
    store.commit()
    assert items_in(store) == [{"n": 1}]


class Nasty(Exception):
    """An exception whose methods raise."""

    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class NastyItem(dict):
    """An item whose methods raise."""

    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        Nasty(),
        ValueError("\x1b[31mred\n\x00 \ud800"),
        ValueError("x" * 1_000_000),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    ],
    ids=["nasty", "control characters", "long", "unicode", "group"],
)
def test_any_error_can_be_kept(path, error):
    """Whatever was raised, its letter is written, and within bounds."""
    store = open_dead_letters(path)
    put(store, NastyItem(), error=error)
    store.close()
    with closing(read_dead_letters(path)) as store:
        (letter,) = store.select()
    assert letter.error_type.endswith(type(error).__name__)
    assert len(letter.message) < 11_000
    assert len(letter.traceback) < 65_000
    assert letter.text == "<NastyItem whose __repr__ raised>"


def test_control_characters_stay_in_the_data(store):
    """They are kept as they are, for whoever reads the data; lone surrogates are written out."""
    put(store, "\x1b[2J\x00\ud800", error=ValueError("\x1b[31m\ud800"))
    (letter,) = store.select()
    assert (letter.item, letter.message) == ("\x1b[2J\x00\ud800", "\x1b[31m\\ud800")


def test_the_type_of_an_error_has_its_module(store):
    """But for builtins, so that types of the same name can be told apart."""
    put(store, 1, error=json.JSONDecodeError("bad", "doc", 0))
    put(store, 2, error=ValueError())
    assert [letter.error_type for letter in store.select()] == [
        "json.decoder.JSONDecodeError",
        "ValueError",
    ]
    assert items_in(store, Selection(only="JSONDecodeError")) == [1]
    assert items_in(store, Selection(only="json.decoder.JSONDecodeError")) == [1]
    assert items_in(store, Selection(only="Error")) == []


def test_the_traceback_is_that_of_the_user(store):
    """It has no frames of m3 and no local variables."""
    from m3 import Pipeline

    caught = []

    def parse(item):
        secret = "hunter2"  # noqa: F841
        return json.loads(item)

    Pipeline(["{"]).transport(parse, on_error=caught.append).run()
    store.put(caught[0], items=[("{", 0)], kind="transport", pipeline="p", now=1.0)
    (letter,) = store.select()
    assert "in parse" in letter.traceback
    assert "in loads" in letter.traceback
    assert "m3/" not in letter.traceback
    assert ".pyx" not in letter.traceback
    assert "hunter2" not in letter.traceback.replace('secret = "hunter2"', "")


def test_a_timeout_is_kept_with_its_stack(store):
    """The stack of the call that was given up is the traceback, and not in the message."""
    put(store, 1, error=ItemTimeoutError(seconds=3, stack='  File "u.py", line 1, in stuck\n'))
    (letter,) = store.select()
    assert letter.traceback == '  File "u.py", line 1, in stuck\n'
    assert letter.message == "took longer than timeout=3 s and was given up"


# -- when it is kept


def test_commit_makes_durable(path):
    """After commit() others find the letters; close() commits, too, and may be repeated."""
    store = open_dead_letters(path)
    put(store, "a")
    store.commit()
    store.commit()
    assert kept_at(path) == ["a"]
    put(store, "b")
    store.close()
    store.close()
    assert kept_at(path) == ["a", "b"]
    with pytest.raises(DeadLetterError, match=r"closed|not open"):
        put(store, "c")
        store.commit()


def test_many_letters_do_not_gather_in_memory(tmp_path, monkeypatch):
    """What is put is written when there is much of it, without a commit()."""
    monkeypatch.setattr("m3.engine.letters_sqlite.MOST_PENDING", 10)
    monkeypatch.setattr("m3.engine.letters_sqlite.MOST_PENDING_BYTES", 100_000)
    store = open_dead_letters(tmp_path / "letters.db")
    put(store, *range(10))
    assert len(kept_at(tmp_path / "letters.db")) == 10
    put(store, "x" * 100_000)
    assert len(kept_at(tmp_path / "letters.db")) == 11
    store.close()


def test_any_thread_may_put(store, hurried):
    """Letters put by several threads are all kept, each with a number of its own."""

    def put_many(name):
        for number in range(100):
            put(store, (name, number))

    results = [in_thread(lambda name=name: put_many(name)) for name in "abcd"]
    for result in results:
        result()
    letters = [*store.select()]
    assert sorted(letter.id for letter in letters) == list(range(1, 401))
    assert len({letter.item for letter in letters}) == 400


def test_a_store_is_for_its_owner_only(tmp_path):
    """Items may be secret: the files can be read by their owner only; folders are made."""
    for name in NAMES:
        path = tmp_path / "new" / "folder" / name
        store = open_dead_letters(path)
        put(store, 1)
        store.commit()
        files = list(path.parent.glob(f"{name}*"))
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        store.settle(gone=[1])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        store.close()


def test_a_store_can_be_handed_over(tmp_path):
    """What is no path is a store already."""
    store = open_dead_letters(tmp_path / "a.db")
    assert open_dead_letters(store) is store
    store.close()


# -- going back


def test_resume_removes_what_came_after_the_mark(path):
    """What this run has put since its mark is gone; what was there before, and others', stay."""
    store = open_dead_letters(path)
    put(store, "before")
    store.close()
    store = open_dead_letters(path)
    put(store, "kept")
    mark = store.mark()
    put(store, "repeated")
    store.close()
    other = open_dead_letters(path)
    put(other, "of another run")
    other.close()
    again = open_dead_letters(path)
    again.resume(json.loads(json.dumps(mark)))
    assert items_in(again) == ["before", "kept", "of another run"]
    put(again, "second attempt")
    again.close()
    third = open_dead_letters(path)
    third.resume(mark)
    assert items_in(third) == ["before", "kept", "of another run"]
    third.close()


def test_numbers_are_not_used_twice(path):
    """After all letters are gone, a mark still tells older from newer ones."""
    store = open_dead_letters(path)
    put(store, "a", "b")
    mark = store.mark()
    put(store, "c")
    store.settle(gone=[1, 2, 3])
    store.close()
    again = open_dead_letters(path)
    again.resume(mark)
    put(again, "c")
    assert [letter.id for letter in again.select()] >= [3]
    again.close()
    third = open_dead_letters(path)
    third.resume(mark)
    assert items_in(third) == []
    third.close()


def test_resume_without_a_mark_removes_nothing(store):
    """None stands for no mark at all."""
    put(store, "a")
    store.resume(None)
    assert items_in(store) == ["a"]


@pytest.mark.parametrize("mark", ["x", 3, {}, {"writer": 1, "last": 2}])
def test_a_mark_of_something_else_is_refused(store, mark):
    """Nothing is removed for it."""
    put(store, "a")
    with pytest.raises(StateError, match="is no mark"):
        store.resume(mark)
    assert items_in(store) == ["a"]


def test_killed_between_two_commits(path):
    """After kill -9 everything committed is there, and the store can be opened and gone on with."""
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_letters import open_dead_letters, put
        store = open_dead_letters({str(path)!r})
        put(store, "committed")
        print(__import__("json").dumps(store.mark()))
        sys.stdout.flush()
        put(store, "perhaps")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = open_dead_letters(path)
    assert items_in(store)[:1] == ["committed"]
    store.resume(json.loads(done.stdout))
    assert items_in(store) == ["committed"]
    store.close()


# -- taking letters out


def test_settle_removes_and_changes(path):
    """Both in one step; numbers that are not there any more are no error."""
    store = open_dead_letters(path)
    put(store, "a", "b", "c")
    first, second, _ = store.select()
    changed = replace(second, attempts=5, message="worse")
    gone, new = replace(first, id=99), replace(first, id=0)
    store.settle(gone=[3, 77], changed=iter([changed, gone, new]))
    assert [
        (letter.id, letter.item, letter.attempts, letter.message) for letter in store.select()
    ] == [(1, "a", 1, "not good"), (2, "b", 5, "worse"), (4, "a", 1, "not good")]
    store.close()
    assert kept_at(path) == ["a", "b", "a"]


def test_selections(store):
    """By type, stage, time and number, and by all of them together."""
    put(store, "a", now=10.0)
    put(store, "b", stage="store", now=20.0)
    put(store, "c", error=KeyError(), now=30.0)
    assert items_in(store, Selection(stage="store")) == ["b"]
    assert items_in(store, Selection(only="KeyError")) == ["c"]
    assert items_in(store, Selection(before=20.0)) == ["a"]
    assert items_in(store, Selection(ids=[3, 1])) == ["a", "c"]
    assert items_in(store, Selection(ids=[])) == []
    assert items_in(store, Selection(only="ValueError", before=15.0, ids={1, 2})) == ["a"]


def test_iterating_while_letters_go_and_come(store, monkeypatch):
    """An iteration is over the letters that were there when it began."""
    monkeypatch.setattr("m3.engine.letters_sqlite.PAGE", 2)
    put(store, *range(7))
    seen = []
    for letter in store.select():
        seen.append(letter.item)
        store.settle(gone=[letter.id])
        put(store, "new")
        store.commit()
    assert seen == list(range(7))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(item=PLAIN, position=PLAIN)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_plain_item_comes_back(path, item, position):
    """Item and position are read back as the same values, and written again the same."""
    store = open_dead_letters(path)
    before = len([*store.select()])
    store.put(failure(), items=[(item, position)], kind="backend", pipeline="p", now=1.0)
    *_, letter = store.select()
    store.settle(changed=[letter])
    *_, again = store.select()
    assert len([*store.select()]) == before + 1
    assert again == letter
    assert row_of(letter) == row_of(again)
    assert (letter.item, letter.position, letter.is_plain) == (item, position, True)
    store.settle(gone=[letter.id])
    store.close()


# -- faults


def test_a_full_disk(path):
    """A letter that cannot be written raises; those from before are there, and whole."""
    program = f"""
        import resource, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_letters import DeadLetterError, open_dead_letters, put
        store = open_dead_letters({str(path)!r})
        put(store, "kept")
        store.commit()
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            for number in range(10):
                put(store, "x" * 50_000)
                store.commit()
        except DeadLetterError as error:
            assert error.__cause__ is not None
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert f"{path}: the dead letters cannot be written: " in done.stdout, done.stderr
    kept = kept_at(path)
    assert kept[0] == "kept"
    assert set(kept[1:]) <= {"x" * 50_000}


def test_a_torn_line_is_cut_off(tmp_path):
    """At every byte at which a process may be killed, the letters before are kept, and no more."""
    path = tmp_path / "letters.jsonl"
    store = open_dead_letters(path)
    short = StageError(ValueError(), stage="s", worker=0)
    store.put(short, items=[("a", 0), ("ü", 1)], kind="backend", pipeline="p", now=1.0)
    store.close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        is_whole = end == len(whole) - 1  # but for the end of its line
        expected = ["a", "ü"] if is_whole else ["a"]
        reader = read_dead_letters(path)
        assert items_in(reader) == expected
        assert bool(reader.note) == (first < end and not is_whole)
        assert path.stat().st_size == end
        store = open_dead_letters(path)
        put(store, "c")
        store.close()
        assert kept_at(path) == [*expected, "c"]


@pytest.mark.parametrize(
    "damage", [b"garbage\n", b"{}\n", b"\n", b'{"id": 1}\n', b"\xff\xfe\n", b"\x00\x00\n", b"[1]\n"]
)
def test_a_damaged_line_is_named(tmp_path, damage):
    """A line in the middle that is no letter is refused with its number; nothing is changed."""
    path = tmp_path / "letters.jsonl"
    store = open_dead_letters(path)
    put(store, "a")
    store.close()
    content = path.read_bytes() + damage + path.read_bytes()
    path.write_bytes(content)
    for function in (open_dead_letters, read_dead_letters):
        with pytest.raises(StateError, match=r"letters\.jsonl, line 2: is no dead letter"):
            function(path)
    assert path.read_bytes() == content


def test_values_of_another_type_are_damage(tmp_path):
    """A letter whose fields have other types than letters have is refused."""
    path = tmp_path / "letters.jsonl"
    store = open_dead_letters(path)
    put(store, "a")
    store.close()
    text = path.read_text()
    for old, new in (('"id":1', '"id":"1"'), ('"worker":2', '"worker":null'), ("1000.0", '"x"')):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(StateError, match="line 1"):
            read_dead_letters(path)


def test_json_lines_have_one_writer(tmp_path):
    """A second writer is refused, one that only reads is not; also after the file was replaced."""
    path = tmp_path / "letters.jsonl"
    first = open_dead_letters(path)
    put(first, 1, 2)
    for _ in range(2):
        with pytest.raises(StateError, match="another process writes"):
            open_dead_letters(path)
        assert kept_at(path)[-1:] == [2]
        first.settle(gone=[1])
    first.close()
    open_dead_letters(path).close()


def test_sqlite_takes_several_writers(tmp_path):
    """Two runs may keep their letters in one file at the same time."""
    path = tmp_path / "letters.db"
    first, second = open_dead_letters(path), open_dead_letters(path)
    put(first, 1)
    put(second, 2)
    first.commit()
    second.commit()
    mark = first.mark()
    put(first, 3)
    put(second, 4)
    first.commit()
    second.commit()
    first.resume(mark)
    assert items_in(second) == [1, 2, 4]
    first.close()
    second.close()


def test_another_database_is_refused(tmp_path):
    """A database that is not of dead letters is not touched."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE letters (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="something else"):
        open_dead_letters(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    """What a newer m3 wrote is left to it."""
    path = tmp_path / "letters.db"
    open_dead_letters(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StateError, match="newer m3"):
        open_dead_letters(path)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_store_is_refused(tmp_path, name):
    """A file of something else, a folder, a place that cannot be written: said so, untouched."""
    path = tmp_path / name
    path.write_bytes(b"not a store of letters\n" * 100)
    with pytest.raises(StateError, match=name):
        open_dead_letters(path)
    assert path.read_bytes() == b"not a store of letters\n" * 100
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).mkdir()
    for bad in (tmp_path / "folder" / name, path / name):
        with pytest.raises(StateError):
            open_dead_letters(bad)
    with pytest.raises(StateError, match="no such store"):
        read_dead_letters(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()


def test_a_database_that_is_cut_off(tmp_path):
    """A damaged file raises a StateError that names it, wherever it is noticed."""
    path = tmp_path / "letters.db"
    store = open_dead_letters(path)
    put(store, *("x" * 3000 for _ in range(20)))
    store.close()
    whole = path.read_bytes()
    for end in (1, 100, 4096, 5000, len(whole) - 4096):
        path.write_bytes(whole[:end])
        with pytest.raises(StateError, match=r"letters\.db"):
            kept_at(path)


def test_a_letter_is_kept_while_another_process_writes(tmp_path):
    """A writer waits for another's transaction to end."""
    path = tmp_path / "letters.db"
    store = open_dead_letters(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    begun = threading.Event()

    def commit():
        put(store, 1)
        begun.set()
        store.commit()

    result = in_thread(commit)
    assert begun.wait(SOON)
    other.execute("COMMIT")
    other.close()
    result()
    assert items_in(store) == [1]
    store.close()


# -- any order of calls


class Stores(RuleBasedStateMachine):
    """Both kinds of store do what a dictionary of letters does, in any order of calls."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.stores = {name: open_dead_letters(Path(self.folder.name, name)) for name in NAMES}
        self.letters = {}
        self.run = self.runs = 0
        self.next = 0
        self.marks = []

    @rule(count=st.integers(1, 3))
    def put(self, count):
        items = [*range(self.next, self.next + count)]
        self.next += count
        for store in self.stores.values():
            put(store, *items)
        self.letters |= dict.fromkeys(items, self.run)

    @rule()
    def commit(self):
        for store in self.stores.values():
            store.commit()

    @rule()
    def mark(self):
        marks = {name: store.mark() for name, store in self.stores.items()}
        self.marks.append((marks, self.run, self.next))

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def reopen_and_resume(self, data):
        index = data.draw(st.integers(0, len(self.marks) - 1))
        marks, self.run, last = self.marks[index]
        self.marks = [
            mark for number, mark in enumerate(self.marks) if number <= index or mark[1] != self.run
        ]
        self.reopen_stores()
        for name, store in self.stores.items():
            store.resume(marks[name])
        self.letters = {
            item: run for item, run in self.letters.items() if run != self.run or item < last
        }

    @rule()
    def reopen(self):
        self.reopen_stores()
        self.runs += 1
        self.run = self.runs

    @precondition(lambda self: self.letters)
    @rule(data=st.data())
    def remove(self, data):
        item = data.draw(st.sampled_from(sorted(self.letters)))
        del self.letters[item]
        for store in self.stores.values():
            store.settle(gone=[letter.id for letter in store.select() if letter.item == item])

    @invariant()
    def all_agree(self):
        for store in self.stores.values():
            assert items_in(store) == sorted(self.letters)

    def reopen_stores(self):
        for name, store in self.stores.items():
            store.close()
            self.stores[name] = open_dead_letters(Path(self.folder.name, name))

    def teardown(self):
        for store in self.stores.values():
            store.close()
        self.folder.cleanup()


Stores.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestStores = Stores.TestCase
