"""Redriven letters give the result of a run in which nothing had failed, once."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import closing, contextmanager

import pytest
from workbench import Keep, in_thread, meet

from m3 import DROP, Backend, Backoff, Batch, BatchError, Pipeline, Reject, Retry
from m3.connectors.file import FileBackend
from m3.engine.dead_letter import Selection
from m3.engine.engine import Engine
from m3.engine.letters import open_dead_letters
from m3.engine.letters_sqlite import SqliteDeadLetters
from m3.engine.redrive import Redriven, Returns, redrive, rounds
from m3.engine.runtime import Runtime
from m3.errors import PlanError, StageError, StateError


@pytest.fixture(params=["letters.db", "letters.jsonl"])
def path(request, tmp_path):
    return tmp_path / request.param


@contextmanager
def opened(path):
    with closing(open_dead_letters(path)) as store:
        yield store


def letters_at(path):
    with opened(path) as store:
        return [*store.select()]


def again(pipeline, path, **options):
    """Redrive what is at *path*, or some of it."""
    with opened(path) as store:
        return redrive(pipeline.plan(), store, **options)


class Code:
    """Code of a user that refuses some items until it is fixed."""

    def __init__(self, is_bad):
        self.is_bad = is_bad
        self.is_fixed = False

    def check(self, item):
        if not self.is_fixed and self.is_bad(item):
            raise ValueError(f"bad {item}")

    def __call__(self, item):
        self.check(item)
        return item


def tenth(item):
    return item % 10 == 3


def double(item):
    return item * 2


# -- the whole of it


def test_redriving_after_a_fix_gives_the_result_of_a_clean_run(path):
    """One item in ten fails; the code is fixed; redriven, everything has arrived, once."""
    kept, code = [], Code(tenth)
    pipeline = Pipeline(range(1000), dead_letters=path)
    pipeline.transport(code, name="check", on_error="dead_letter", workers=4)
    pipeline.transport(double, name="double").backend(Keep(kept))
    report = pipeline.run()
    assert (report.delivered, report.dead_lettered) == (900, 100)
    code.is_fixed = True
    outcome = again(pipeline, path)
    assert (outcome.gone, outcome.failed, outcome.remaining) == (100, 0, 0)
    assert sorted(kept) == [2 * number for number in range(1000)]
    assert letters_at(path) == []
    assert again(pipeline, path).gone == 0
    assert len(kept) == 1000


TWICE = {"attempts": 2, "backoff": Backoff(initial=0.0)}


@pytest.mark.parametrize(
    "policy",
    ["dead_letter", "skip", Retry(**TWICE, then="dead_letter"), Retry(**TWICE, then="skip")],
    ids=["dead_letter", "skip", "retry, dead_letter", "retry, skip"],
)
def test_what_fails_again_stays_once(path, policy):
    """A letter that fails again keeps its number and its first time; the rest is updated."""
    code = Code(tenth)
    pipeline = Pipeline(range(20), dead_letters=path)
    pipeline.transport(code, name="check", on_error="dead_letter").run()
    before = letters_at(path)
    assert [letter.item for letter in before] == [3, 13]
    other = Pipeline([]).transport(code, name="check", on_error=policy)
    outcome = again(other, path)
    after = letters_at(path)
    attempts = 1 if isinstance(policy, str) else 2
    assert (outcome.gone, outcome.failed, outcome.remaining) == (0, 2, 2)
    assert [(new.id, new.item, new.position) for new in after] == [
        (old.id, old.item, old.position) for old in before
    ]
    for old, new in zip(before, after, strict=True):
        assert new.attempts == old.attempts + attempts
        assert new.first_failed == old.first_failed
        assert new.last_failed > old.last_failed


def test_the_error_of_a_letter_is_the_last_one(path):
    """A letter tells why it failed last."""

    def refuse(item):
        raise KeyError(item)

    pipeline = Pipeline([1], dead_letters=path)
    pipeline.transport(Code(bool), name="check", on_error="dead_letter").run()
    again(Pipeline([]).transport(refuse, name="check", on_error="skip"), path)
    (letter,) = letters_at(path)
    assert (letter.error_type, letter.message) == ("KeyError", "1")
    assert "refuse" in letter.traceback


# -- where letters enter


def put(path, *items, stage, kind="transport", error=None):
    failure = StageError(error or ValueError("x"), stage=stage, worker=0)
    pairs = [(item, None) for item in items]
    with opened(path) as store:
        store.put(failure, items=pairs, kind=kind, pipeline="pipeline", now=1.0)


def three_stages(seen):
    """Return a pipeline whose stages write down what they get."""

    def noting(name):
        def note(item):
            seen.append((name, item))
            return item

        return note

    pipeline = Pipeline([])
    for name in ("one", "two"):
        pipeline.transport(noting(name), name=name)
    for name in ("left", "right"):
        pipeline.backend(noting(name), name=name)
    return pipeline


def test_a_letter_enters_where_it_failed(path):
    """It goes on from its stage to the end; one of a backend goes to that one only."""
    for stage, kind in (("right", "backend"), ("two", "transport"), ("one", "transport")):
        put(path, stage, stage=stage, kind=kind)
    put(path, b"raw", stage="input", kind="frontend")
    seen = []
    outcome = again(three_stages(seen), path)
    assert outcome.gone == 4
    assert sorted(seen, key=str) == sorted(
        [
            ("right", "right"),
            *[(name, "two") for name in ("two", "left", "right")],
            *[(name, "one") for name in ("one", "two", "left", "right")],
            *[(name, b"raw") for name in ("one", "two", "left", "right")],
        ],
        key=str,
    )
    assert [report.produced for report in outcome.reports] == [2, 1, 1]


def test_all_letters_enter_at_a_stage_that_is_named(path):
    """With to=, whatever the stage was; a backend's letter still goes to that backend only."""
    put(path, "a", stage="two")
    put(path, "b", stage="left", kind="backend")
    seen = []
    assert again(three_stages(seen), path, to="one").gone == 2
    assert sorted(seen) == [
        ("left", "a"),
        ("left", "b"),
        ("one", "a"),
        ("one", "b"),
        ("right", "a"),
        ("two", "a"),
        ("two", "b"),
    ]
    put(path, "c", stage="gone")
    assert again(three_stages(seen), path, to="right").gone == 1
    assert seen[-1] == ("right", "c")


def test_a_stage_that_is_not_there(path):
    """A letter of an unknown stage, or an unknown to=, is a mistake before anything runs."""
    put(path, "a", stage="one")
    put(path, "b", stage="three")
    seen = []
    with pytest.raises(PlanError, match=r"letter 2 failed at stage 'three'.*'one', 'two', 'left'"):
        again(three_stages(seen), path)
    with pytest.raises(PlanError, match=r"stage 'four'"):
        again(three_stages(seen), path, to="four")
    assert seen == []
    assert len(letters_at(path)) == 2


def test_a_mistaken_name_is_no_reason_to_do_nothing(path):
    """If no letter is selected, a stage that the pipeline has not is a mistake, and no success."""
    put(path, "a", stage="one")
    with pytest.raises(PlanError, match=r"no letter failed at stage 'on': .* 'one', 'two', 'left'"):
        again(three_stages([]), path, stage="on")
    with pytest.raises(PlanError, match=r"--to: stage 'on'"):
        again(three_stages([]), path, stage="two", to="on")
    assert again(three_stages([]), path, stage="two", to="one").gone == 0
    put(path, "b", stage="renamed")
    assert again(three_stages([]), path, stage="renamed", to="one").gone == 1


def test_only_the_selected_letters(path):
    """Those of other types and numbers stay where they are."""
    put(path, "a", stage="one")
    put(path, "b", stage="one", error=KeyError())
    put(path, "c", stage="one", error=KeyError())
    seen = []
    assert again(three_stages(seen), path, only="KeyError", ids=[1, 2]).gone == 1
    assert ("one", "b") in seen
    assert [letter.item for letter in letters_at(path)] == ["a", "c"]


def test_what_is_not_plain_is_not_tried(path):
    """A letter that is kept as text only is counted, and stays."""
    put(path, object(), stage="one")
    put(path, "b", stage="one")
    outcome = again(three_stages([]), path)
    assert (outcome.gone, outcome.not_plain, outcome.remaining) == (1, 1, 1)
    assert [letter.id for letter in letters_at(path)] == [1]


def test_a_chained_stage_can_be_entered(path):
    """A stage that runs in the thread of the one before it gets a thread for its letters."""
    kept = []

    class Store(Backend):
        batch = Batch(count=10)

        def process_batch(self, items):
            kept.extend(items)

    put(path, 1, stage="Store", kind="backend")
    put(path, 2, stage="double")
    pipeline = Pipeline([]).transport(str, name="s", workers=3)
    pipeline.transport(double, workers=0).backend(Store, workers=0)
    assert again(pipeline, path).gone == 2
    assert sorted(kept) == [1, 4]


def test_a_stage_may_have_the_name_of_the_frontend(path):
    """The letters' own frontend takes a name that no stage has."""
    put(path, 1, stage="dead-letters")
    kept = []
    pipeline = Pipeline([]).transport(double, name="dead-letters").backend(Keep(kept))
    assert again(pipeline, path).gone == 1


# -- what fails again further on


def test_a_letter_moves_on_to_where_it_fails_next(path):
    """What has passed its stage and fails later enters there next time."""
    kept, first, second = [], Code(tenth), Code(tenth)
    pipeline = Pipeline(range(5), dead_letters=path)
    pipeline.transport(first, name="first", on_error="dead_letter")
    pipeline.transport(lambda item: {"n": item}, name="wrap")
    pipeline.transport(lambda item: second.check(item["n"]) or item, name="second", on_error="skip")
    pipeline.backend(Keep(kept))
    pipeline.run()
    first.is_fixed = True
    assert again(pipeline, path).failed == 1
    (letter,) = letters_at(path)
    assert (letter.stage, letter.item, letter.attempts) == ("second", {"n": 3}, 1)
    second.is_fixed = True
    assert again(pipeline, path).gone == 1
    assert sorted(item["n"] for item in kept) == list(range(5))


def test_of_what_a_letter_becomes_only_what_failed_is_kept(path):
    """Of three things made from a letter two fail: two letters, and nothing is doubled later."""
    kept, code = [], Code(lambda item: item != "b")

    def spell(word):
        yield from word

    put(path, "abc", stage="spell")
    pipeline = Pipeline([]).transport(spell).transport(code, name="check", on_error="dead_letter")
    pipeline.backend(Keep(kept))
    outcome = again(pipeline, path)
    assert (outcome.gone, outcome.failed) == (0, 1)
    assert [(letter.item, letter.stage) for letter in letters_at(path)] == [
        ("a", "check"),
        ("c", "check"),
    ]
    code.is_fixed = True
    assert again(pipeline, path).gone == 2
    assert sorted(kept) == ["a", "b", "c"]


def test_one_backend_of_two_fails(path):
    """A letter that one backend has taken goes to the other one only, next time."""
    left, right, code = [], [], Code(tenth)
    put(path, 3, stage="double")
    pipeline = Pipeline([]).transport(double).backend(Keep(left), name="left")
    pipeline.backend(
        lambda item: code.check(item // 2) or right.append(item),
        name="right",
        on_error="dead_letter",
    )
    assert again(pipeline, path).failed == 1
    assert [letter.stage for letter in letters_at(path)] == ["right"]
    code.is_fixed = True
    assert again(pipeline, path).gone == 1
    assert (left, right) == ([6], [6])


def test_what_is_not_plain_further_on_enters_where_it_did(path):
    """A letter that cannot be kept where it fails stays where it can be redriven."""
    put(path, 3, stage="wrap")
    pipeline = Pipeline([]).transport(lambda item: {item}, name="wrap")
    pipeline.transport(Code(bool), name="check", on_error="dead_letter")
    assert again(pipeline, path).failed == 1
    (letter,) = letters_at(path)
    assert (letter.stage, letter.item, letter.is_plain) == ("wrap", 3, True)
    assert letter.message == "bad {3}"


def test_batches_fail_by_the_item_and_as_a_whole(path):
    """Each letter of a batch has its own outcome."""
    kept, broken = [], []

    class Store(Backend):
        batch = Batch(count=10, period=10.0)

        def process_batch(self, items):
            if broken:
                raise OSError("down")
            kept.extend(item for item in items if not tenth(item))
            bad = {i: ValueError("bad") for i, item in enumerate(items) if tenth(item)}
            if bad:
                raise BatchError(bad)

    pipeline = Pipeline(range(20), dead_letters=path).backend(Store, on_error="dead_letter")
    broken.append(True)
    pipeline.run()
    assert {letter.item for letter in letters_at(path)} == set(range(20))
    outcome = again(pipeline, path)
    assert (outcome.failed, outcome.gone) == (20, 0)
    assert {letter.attempts for letter in letters_at(path)} == {2}
    broken.clear()
    outcome = again(pipeline, path)
    assert (outcome.failed, outcome.gone) == (2, 18)
    assert sorted(kept) == [n for n in range(20) if not tenth(n)]
    assert sorted(letter.item for letter in letters_at(path)) == [3, 13]


# -- policies


def test_drop_is_an_end(path):
    """A letter that is filtered out, or dropped by its policy, leaves the store."""
    put(path, 1, stage="filter")
    put(path, 2, stage="check")
    pipeline = Pipeline([]).transport(lambda _: DROP, name="filter")
    pipeline.transport(Code(bool), name="check", on_error=lambda _: DROP)
    assert again(pipeline, path).gone == 2
    assert letters_at(path) == []


@pytest.mark.parametrize("answer", ["skip", None, "dead_letter"])
def test_policies_that_are_called(path, answer):
    """What a callable would skip or keep stays a letter."""
    put(path, 1, stage="check")
    pipeline = Pipeline([]).transport(Code(bool), name="check", on_error=lambda _: answer)
    assert again(pipeline, path).failed == 1
    assert [letter.attempts for letter in letters_at(path)] == [2]


def test_reject_keeps_the_letter(path):
    """Code that rejects a letter leaves it where it is, whatever the policy."""

    def refuse(item):
        raise Reject("no good")

    put(path, 1, stage="refuse")
    assert again(Pipeline([]).transport(refuse), path).failed == 1
    assert [letter.error_type for letter in letters_at(path)] == ["m3.errors.Reject"]


def test_a_run_that_fails_leaves_the_rest(path):
    """Under the policy "fail" the first failure ends the redrive; what was delivered is gone."""
    kept = []
    put(path, 1, 2, 3, 4, 5, stage="check")
    pipeline = Pipeline([]).transport(Code(lambda item: item == 3), name="check")
    pipeline.backend(Keep(kept))
    with pytest.raises(StageError, match="bad 3"):
        again(pipeline, path)
    left = {letter.item for letter in letters_at(path)}
    assert left | set(kept) == {1, 2, 3, 4, 5}
    assert 3 in left


def test_limits_of_failures_do_not_hold(path):
    """However many fail again, all letters are tried: nothing is lost by that."""
    put(path, *range(200), stage="check")
    code = Code(lambda item: item != 150)
    pipeline = Pipeline([], max_failures=5)
    pipeline.transport(code, name="check", on_error="dead_letter", max_failures=0.01)
    outcome = again(pipeline, path)
    assert (outcome.gone, outcome.failed) == (1, 199)


# -- the output


def test_a_file_is_added_to(path, tmp_path):
    """A backend that can append does so in a redrive, and the earlier output stays."""
    out, code = tmp_path / "out.txt", Code(lambda item: item == "b")
    pipeline = Pipeline(list("abc"), dead_letters=path)
    pipeline.transport(code, name="check", on_error="dead_letter").backend("file", path=out)
    pipeline.run()
    code.is_fixed = True
    assert again(pipeline, path).gone == 1
    assert out.read_text() == "a\nc\nb\n"


def test_a_file_that_is_not_added_to(path, tmp_path):
    """With append=False letters leave the store when the file is in its place, and not before."""
    out = tmp_path / "out.txt"
    put(path, *"abc", stage="check")
    refuse = Code(lambda item: item == "c")
    pipeline = Pipeline([]).transport(refuse, name="check")
    pipeline.backend(FileBackend, path=out, append=False)
    with pytest.raises(StageError, match="bad c"):
        again(pipeline, path)
    assert not out.exists()
    assert len(letters_at(path)) == 3
    refuse.is_fixed = True
    assert again(pipeline, path).gone == 3
    assert out.read_text() == "a\nb\nc\n"


def test_a_file_that_is_abandoned(path, tmp_path):
    """Where the redrive is given up, the file is not put in place, and all letters stay."""
    out = tmp_path / "out.txt"
    put(path, *"abc", stage="check")

    def check(item):
        if item == "b":
            running.abandon()
        return item

    pipeline = Pipeline([]).transport(check)
    pipeline.backend(FileBackend, path=out, append=False)
    with opened(path) as store:
        (each,) = rounds(pipeline.plan(), store, Selection(), Redriven())
        running = each.engine
        each.run(Engine.start)
    assert not out.exists()
    assert [letter.item for letter in letters_at(path)] == ["a", "b", "c"]


def test_a_file_that_would_be_lost(path, tmp_path):
    """A backend that was made to replace its output is refused: the output may be worth more."""
    out = tmp_path / "out.txt"
    out.write_text("before\n")
    put(path, "a", stage="str")
    pipeline = Pipeline([]).transport(str).backend(FileBackend(path=out), name="out")
    with pytest.raises(PlanError, match="backend 'out' was made without append=True"):
        again(pipeline, path)
    pipeline = Pipeline([]).transport(str).backend(FileBackend(path=out, append=True), name="out")
    assert again(pipeline, path).gone == 1
    assert out.read_text() == "before\na\n"


# -- when the store is written


@pytest.mark.parametrize("period", [0.0, 60.0], ids=["while it runs", "at the end"])
def test_a_store_that_cannot_be_written(path, period):
    """The redrive fails, which is told once, and the letters are still there."""
    put(path, *(letter * 50_000 for letter in "abc"), stage="str")
    program = f"""
        import resource, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_redrive import Code, Pipeline, again
        from m3.errors import M3Error
        from m3.engine import redrive as module
        module.PERIOD = {period}
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        refuse = Code(lambda item: item[0] == "b")
        try:
            again(Pipeline([]).transport(refuse, name="str", on_error="skip"), {str(path)!r})
        except M3Error as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert "letters" in done.stdout, done.stderr
    assert [letter.item for letter in letters_at(path)] == [letter * 50_000 for letter in "abc"]


def test_two_redrives_at_once(path):
    """The second is refused, so that nothing is delivered twice; also of the same process."""
    put(path, 1, stage="twice")

    def twice(item):
        with pytest.raises(StateError, match="another process"):
            again(Pipeline([]).transport(str), path, to="str")

    assert again(Pipeline([]).transport(twice), path).gone == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_letters_leave_the_store_while_the_redrive_runs(tmp_path, monkeypatch):
    """What was delivered is not redriven again, but for the last moment, if the process dies."""
    monkeypatch.setattr("m3.engine.redrive.PERIOD", 0.0)
    path = tmp_path / "letters.db"
    put(path, *range(50), stage="look")
    remaining = []
    written = threading.Event()
    settle = SqliteDeadLetters.settle

    def settle_and_tell(self, **changes):
        settle(self, **changes)
        written.set()

    monkeypatch.setattr(SqliteDeadLetters, "settle", settle_and_tell)

    def look(item):
        if item == 49:
            meet(written)
        with opened(path) as store:
            remaining.append(len([*store.select()]))

    assert again(Pipeline([]).transport(look, queue_size=1), path).gone == 50
    assert remaining[-1] < 50


def test_letters_do_not_leave_one_by_one(tmp_path, monkeypatch):
    """The store is written when a period is over, the first time, too."""
    monkeypatch.setattr("m3.engine.redrive.PERIOD", 60.0)
    path = tmp_path / "letters.db"
    put(path, *range(50), stage="look")
    remaining = set()

    def look(item):
        remaining.add(len(letters_at(path)))

    assert again(Pipeline([]).transport(look, queue_size=1), path).gone == 50
    assert remaining == {50}
    assert letters_at(path) == []


def test_killed_during_a_redrive(path, tmp_path):
    """After kill -9 every letter was delivered or is still in the store."""
    out = tmp_path / "out.txt"
    put(path, *map(str, range(300)), stage="check")
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_redrive import Pipeline, again
        from m3.engine import redrive as module
        module.PERIOD = 0.0
        def check(item):
            if item == "200":
                os.kill(os.getpid(), signal.SIGKILL)
            return item
        pipeline = Pipeline([]).transport(check, queue_size=5)
        again(pipeline.backend("file", path={str(out)!r}, queue_size=5), {str(path)!r})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    delivered = set(out.read_text().splitlines())
    left = {letter.item for letter in letters_at(path)}
    assert {str(item) for item in range(300)} == delivered | left
    assert "200" in left
    kept = Pipeline([]).transport(Code(lambda _: False), name="check").backend("file", path=out)
    assert again(kept, path).remaining == 0
    assert set(out.read_text().splitlines()) == {str(item) for item in range(300)}


def test_an_answer_at_the_end_of_a_redrive(path, monkeypatch):
    """What is settled at the end leaves the store, though an answer is just being written."""
    refuse = Code(lambda item: True)
    Pipeline(range(3), dead_letters=path).backend(refuse, on_error="dead_letter").run()
    with opened(path) as store:
        numbers = [letter.id for letter in store.select()]
        writing, may_write = threading.Event(), threading.Event()
        settle = store.settle

        def slowly(**changes):
            if not writing.is_set():
                writing.set()
                meet(may_write)
            settle(**changes)

        monkeypatch.setattr(store, "settle", slowly)
        monkeypatch.setattr("m3.engine.redrive.PERIOD", 0)
        outcome = Redriven(left=len(numbers))
        returns = Returns(store, outcome, Runtime(), at_end=False)
        answer = in_thread(lambda: returns.answer(numbers[0], is_done=True))
        meet(writing)
        returns._next_write = float("inf")
        returns.answer(numbers[1], is_done=True)
        end = in_thread(lambda: returns.end(failed=False))
        may_write.set()
        answer()
        end()
        assert [letter.id for letter in store.select()] == numbers[2:]
    assert (outcome.gone, outcome.left) == (2, 1)
