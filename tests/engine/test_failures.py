"""A failure reaches the caller, whole; what on_error lets pass is counted and kept."""

import subprocess
import sys
import threading
import time

import pytest
from workbench import SOON, Keep, assert_accounted, functions_in, meet

from m3 import DROP, Backend, Batch, Failure, Frontend, Item, Pipeline
from m3.errors import CleanupError, ConfigError, PipelineError, StageError


def refuse_poison(item):
    if item == "poison":
        raise ValueError("poisoned")
    return item


def poisoned(count=1000, at=500):
    return ["poison" if number == at else number for number in range(count)]


# -- the four failures of the ancestors


def test_poison_is_not_success():
    """One bad item among a thousand is a failure of the run, with the item and the traceback."""
    engine = Pipeline(poisoned()).transport(refuse_poison, workers=3).engine()
    with pytest.raises(StageError) as caught:
        engine.start()
    error = caught.value
    assert (error.stage, error.item, error.phase) == ("refuse_poison", "poison", "work")
    assert error.worker in range(3)
    assert isinstance(error.__cause__, ValueError)
    assert functions_in(error.__cause__)[-1] == "refuse_poison"
    assert "poison" in str(error)
    report = engine.report()
    assert (report.state, report.ok, report.failed) == ("failed", False, 1)
    assert report.errors == (error,)
    assert_accounted(report)


def test_source_failure_is_not_eof():
    """A frontend that raises fails the run; all that it and the others produced is delivered."""
    kept = []

    def broken():
        yield from range(10)
        raise OSError("disk on fire")

    engine = Pipeline(broken).transport(str).backend(Keep(kept)).engine()
    with pytest.raises(StageError) as caught:
        engine.start()
    assert isinstance(caught.value.__cause__, OSError)
    assert functions_in(caught.value.__cause__)[-1] == "broken"
    assert kept == [str(number) for number in range(10)]
    report = engine.report()
    assert (report.produced, report.delivered, report.state) == (10, 10, "failed")


@pytest.mark.parametrize("queue_size", [1, 2, 100])
def test_dead_consumer_unblocks_producers(queue_size):
    """A backend that dies while all queues are full ends the run instead of hanging it."""
    full = threading.Event()

    def endless():
        number = 0
        while True:
            yield number
            number += 1
            if number == 2 * queue_size + 2:
                full.set()

    def die(item):
        meet(full)
        raise RuntimeError

    began = time.monotonic()
    engine = (
        Pipeline(endless)
        .transport(lambda item: item, queue_size=queue_size)
        .backend(die, queue_size=queue_size)
        .engine()
    )
    with pytest.raises(StageError, match="RuntimeError"):
        engine.start()
    assert time.monotonic() - began < SOON
    assert_accounted(engine.report())


# -- several, and odd ones


def test_several_failures_are_one_group():
    """Workers that fail at the same time are all told, in one exception group."""
    barrier = threading.Barrier(4)

    def fail_together(item):
        barrier.wait(SOON)
        raise ValueError(item)

    with pytest.raises(PipelineError) as caught:
        Pipeline(range(4)).transport(fail_together, workers=4).run()
    assert isinstance(caught.value, ExceptionGroup)
    assert sorted(error.item for error in caught.value.exceptions) == [0, 1, 2, 3]
    assert all(isinstance(error.__cause__, ValueError) for error in caught.value.exceptions)


def test_a_failing_cleanup_does_not_hide_the_failure_before_it():
    """What fails in work and in cleanup afterwards is told together; other cleanups still run."""
    cleaned_up = []

    class Sink(Backend):
        def process(self, data):
            raise ValueError

        def cleanup(self):
            cleaned_up.append(self)
            raise OSError

    with pytest.raises(PipelineError) as caught:
        Pipeline([1]).backend(Sink, workers=2).run()
    kinds = sorted(type(error).__name__ for error in caught.value.exceptions)
    assert kinds == ["CleanupError", "CleanupError", "StageError"]
    assert len(cleaned_up) == 2
    assert all(isinstance(error, (CleanupError, StageError)) for error in caught.value.exceptions)


def test_a_frontend_that_is_no_iterable_after_all_is_a_failure():
    """produce() that returns nothing to iterate over fails the run."""

    class Bad(Frontend):
        def produce(self):
            return None

    with pytest.raises(StageError) as caught:
        Pipeline(Bad).run()
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_generator_that_yields_or_raises_while_it_is_closed_is_a_failure():
    """A frontend's generator that does not end when the run does is told; so is what it raises."""

    def stubborn():
        try:
            while True:
                yield 1
        finally:
            yield 2

    def angry():
        try:
            while True:
                yield 1
        finally:
            raise OSError

    for source, kind in ((stubborn, RuntimeError), (angry, OSError)):
        taken = threading.Event()
        engine = Pipeline(source).backend(lambda item, taken=taken: taken.set()).start()
        meet(taken)
        report = engine.stop()
        assert (report.state, report.delivered) == ("failed", report.produced)
        with pytest.raises(StageError) as caught:
            engine.wait()
        assert isinstance(caught.value.__cause__, kind)


def test_a_fan_out_that_raises_while_it_is_closed_is_told_beside_the_failure():
    """When the run ends under a generator, what closing it raises is one more failure."""

    def fan_out(item):
        try:
            while True:
                yield item
        finally:
            raise OSError("while closing")

    def refuse(item):
        raise ValueError("first")

    engine = Pipeline(range(10)).transport(fan_out).backend(refuse, queue_size=1).engine()
    with pytest.raises(PipelineError) as caught:
        engine.start()
    causes = sorted(type(error.__cause__).__name__ for error in caught.value.exceptions)
    assert causes == ["OSError", "ValueError"]
    assert_accounted(engine.report())


def test_failure_behind_a_batch_accounts_for_all_of_it():
    """When a stage behind fails at one result of a batch, the rest of it is accounted for."""

    class Batches:
        def process_batch(self, items):
            return items

    class Refuse:
        def transport(self, data):
            if data == 5:
                raise ValueError
            return data

    engine = Pipeline(range(100)).transport(Batches()).transport(Refuse(), workers=0).engine()
    with pytest.raises(StageError):
        engine.start()
    assert engine.report().failed == 1
    assert_accounted(engine.report())


def test_failure_while_the_rest_is_flushed_accounts_for_what_was_gathered_behind():
    """At the end of the input too, what stages behind a failing one have gathered is settled."""

    class Source(Frontend):
        def produce(self):
            yield from range(5)

    class First:
        def process_batch(self, items):
            if 4 in items:
                raise ValueError
            return items

    class Second:
        def process_batch(self, items):
            return items

    engine = (
        Pipeline(Source)
        .transport(First(), batch=Batch(count=2, period=1000))
        .transport(Second(), workers=0, batch=Batch(count=100, period=1000))
        .engine()
    )
    with pytest.raises(StageError):
        engine.start()
    report = engine.report()
    assert (report.failed, report.abandoned) == (1, 4)
    assert_accounted(report)


# -- policies


def test_skip_counts_the_item_and_goes_on():
    """With "skip" an Exception about an item is counted and kept; the other items go on."""
    kept = []
    engine = Pipeline(poisoned()).transport(refuse_poison, on_error="skip", workers=3)
    report = engine.backend(Keep(kept)).run()
    assert (report.state, report.ok) == ("finished", False)
    assert (report.failed, report.delivered) == (1, 999)
    assert "poison" not in kept
    (error,) = report.item_errors
    assert (error.item, error.stage) == ("poison", "refuse_poison")
    assert functions_in(error.__cause__)[-1] == "refuse_poison"


def test_only_the_first_item_errors_are_kept():
    """A million skipped items do not fill the memory: ten errors are kept, all are counted."""

    def refuse(item):
        raise ValueError

    report = Pipeline(range(1000)).backend(refuse, on_error="skip").run()
    assert report.failed == 1000
    assert len(report.item_errors) == 10


@pytest.mark.parametrize(
    ("verdict", "failed", "dropped"),
    [("skip", 1, 0), (None, 1, 0), (DROP, 0, 1)],
)
def test_a_callable_decides(verdict, failed, dropped):
    """on_error may be a callable: it gets the StageError and says what becomes of the item."""
    seen = []

    def decide(error):
        seen.append((error.stage, error.item, type(error.__cause__)))
        return verdict

    report = Pipeline(poisoned(10, 5)).transport(refuse_poison, on_error=decide).run()
    assert seen == [("refuse_poison", "poison", ValueError)]
    assert (report.failed, report.dropped, report.delivered) == (failed, dropped, 9)
    assert_accounted(report)


def test_a_callable_may_fail_the_run():
    """A callable that returns "fail" ends the run, with the error that it was asked about."""
    with pytest.raises(StageError, match="poisoned"):
        Pipeline(poisoned()).transport(refuse_poison, on_error=lambda error: "fail").run()


@pytest.mark.parametrize("kind", [KeyError, SystemExit])
def test_a_callable_that_raises_fails_the_run(kind):
    """What an on_error raises itself is told, together with the error that it was asked about."""

    def decide(error):
        raise kind

    engine = Pipeline(poisoned()).transport(refuse_poison, on_error=decide).engine()
    with pytest.raises(PipelineError) as caught:
        engine.start()
    causes = {type(error.__cause__) for error in caught.value.exceptions}
    assert causes == {kind, ValueError}
    assert_accounted(engine.report())


def test_a_callable_that_answers_nonsense_fails_the_run():
    """An answer that is none of those there are is told, with what there is."""
    with pytest.raises(PipelineError) as caught:
        Pipeline(poisoned()).transport(refuse_poison, on_error=lambda error: "retry").run()
    assert any(isinstance(error.__cause__, ConfigError) for error in caught.value.exceptions)


def test_what_cannot_be_read_is_an_item_error_of_its_frontend():
    """A frontend yields a Failure for input that it cannot read; its on_error decides."""
    broken = Failure(ValueError("no record"), b"\xff", 7)
    kept = []
    report = Pipeline([1, broken, 2], on_error="skip", name="f").backend(Keep(kept)).run()
    assert (report.produced, report.failed, kept) == (3, 1, [1, 2])
    (error,) = report.item_errors
    assert (error.item, error.position) == (b"\xff", 7)
    with pytest.raises(StageError, match="no record"):
        Pipeline([1, broken, 2]).backend(Keep([])).run()


def test_the_position_of_an_item_is_in_its_error():
    """Where an item came from, if its frontend says so, is told with what became of it."""
    source = [Item("fine", 1), Item("poison", ("file", 2))]
    with pytest.raises(StageError, match=r"position \('file', 2\)") as caught:
        Pipeline(source).transport(refuse_poison).run()
    assert caught.value.position == ("file", 2)


def test_fan_out_counts_the_source_item_by_the_worst():
    """Of an item that became many, one that fails makes it a failed one; nothing is lost."""
    kept = []

    def split(item):
        yield from range(item)

    def refuse_three(item):
        if item == 3:
            raise ValueError
        return item

    report = (
        Pipeline([0, 1, 2, 3, 4, 5])
        .transport(split)
        .transport(refuse_three, on_error="skip")
        .backend(Keep(kept))
        .run()
    )
    assert (report.dropped, report.delivered, report.failed) == (1, 3, 2)
    assert sorted(kept) == sorted([0, 0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 2, 4])


def test_an_item_that_one_of_two_backends_refuses_has_failed():
    """Each backend gets every item; an item counts as delivered when all have taken it."""
    one, two = [], []

    def refuse_odd(item):
        if item % 2:
            raise ValueError
        two.append(item)

    report = Pipeline(range(10)).backend(Keep(one)).backend(refuse_odd, on_error="skip").run()
    assert sorted(one) == list(range(10))
    assert sorted(two) == [0, 2, 4, 6, 8]
    assert (report.delivered, report.failed) == (5, 5)


@pytest.mark.parametrize(
    ("program", "is_told_by_m3"),
    [
        ("engine._waits.until(engine.stopped)", True),
        ("engine._waits.until(engine.stopped); del engine", True),
        ("engine.stop()", False),
        ("\ntry: engine.wait()\nexcept Exception: 0", False),
    ],
)
def test_a_failure_that_nobody_waits_for_is_told_at_the_end(program, is_told_by_m3):
    """A run in the background that failed is told on stderr if its caller never learns of it."""
    code = "from m3 import Pipeline\ndef bad(x): raise ValueError('unseen')\n"
    code += f"engine = Pipeline([1]).backend(bad).start(); {program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert ("ValueError: unseen" in done.stderr) == is_told_by_m3


def test_a_group_stays_what_it_is():
    """``except*`` and ``split`` make groups of the same type from a PipelineError."""
    group = PipelineError("failed", [ValueError("a"), KeyError("b")])
    ours, others = group.split(ValueError)
    assert (type(ours), type(others)) == (PipelineError, PipelineError)
