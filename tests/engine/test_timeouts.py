"""Calls that take too long are given up, and everything else goes on."""

import subprocess
import sys
import threading
import time
from contextlib import closing
from textwrap import dedent

import pytest
from workbench import assert_accounted, join_threads

from m3 import (
    Backend,
    Batch,
    Frontend,
    Item,
    Pipeline,
    PipelineError,
    Retry,
    StageError,
    Transport,
)
from m3.engine.letters import read_dead_letters
from m3.errors import HungWorkerError, ItemTimeoutError
from m3.policies import Backoff

SHORT = 0.1


@pytest.fixture
def stuck():
    """Return what a stuck call waits for; at the end it is let go."""
    event = threading.Event()
    yield event
    event.set()
    join_threads()


class Sticky(Transport):
    """Is stuck on some items until the event is set."""

    def __init__(self, stuck, on):
        self.stuck = stuck
        self.on = on

    def transport(self, data):
        if data in self.on:
            self.stuck.wait()
        return data


LAYOUTS = [
    {"workers": 1},
    {"workers": 8},
    {"workers": 1, "ordering": "input"},
    {"workers": 3, "ordering": "input"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_call_that_takes_too_long_is_given_up(layout, stuck):
    """Its item fails with the stack of the call; all others are delivered; the run ends."""
    seen = []
    options = {"timeout": SHORT, "on_error": "skip"} | layout
    described = Pipeline(range(100)).transport(Sticky, stuck=stuck, on={17, 50}, **options)
    report = described.backend(seen.append).run()
    assert sorted(seen) == [item for item in range(100) if item not in (17, 50)]
    if "ordering" in layout:
        assert seen == sorted(seen)
    assert (report.delivered, report.failed) == (98, 2)
    assert_accounted(report)
    error = report.item_errors[0].error
    assert isinstance(error, ItemTimeoutError)
    assert "self.stuck.wait()" in error.stack
    assert not stuck.is_set()


def test_the_process_ends_though_a_call_never_returns(tmp_path):
    """1 of 100 items sleeps for ever, 8 workers: 99 delivered, 1 letter with a stack, the end."""
    program = f"""
        import threading
        from m3 import Pipeline

        def look_up(item):
            if item == 50:
                threading.Event().wait()
            return item

        seen = []
        described = Pipeline(range(100), dead_letters={str(tmp_path / "letters.db")!r})
        described.transport(look_up, workers=8, timeout={SHORT}, on_error="dead_letter")
        report = described.backend(seen.append).run()
        print(sorted(seen) == [item for item in range(100) if item != 50])
        print(report.delivered, report.dead_lettered)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n99 1\n", "")
    with closing(read_dead_letters(tmp_path / "letters.db")) as letters:
        (letter,) = letters.select()
    assert (letter.item, letter.error_type) == (50, "m3.errors.ItemTimeoutError")
    assert "in look_up" in letter.traceback
    assert "in wait" in letter.traceback


def test_its_item_is_tried_again_if_the_policy_says_so(stuck):
    """A call that was given up counts as one attempt of a Retry."""
    tries, seen = [], []

    def transport(item):
        tries.append(item)
        if item == 3 and tries.count(3) < 3:
            stuck.wait()
        return item

    policy = Retry(3, Backoff(initial=0))
    described = Pipeline(range(5)).transport(transport, timeout=SHORT, on_error=policy)
    report = described.backend(seen.append).run()
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert report.ok
    assert report.stages[1].retries == 2


def test_what_waited_in_its_worker_is_not_lost(stuck):
    """Items that wait for another attempt in a worker that is given up are tried again."""
    tries, seen = [], []

    def transport(item):
        tries.append(item)
        if item == "flaky" and tries.count(item) == 1:
            raise OSError
        if item == "stuck":
            stuck.wait()
        return item

    policy = Retry(2, Backoff(initial=3 * SHORT, jitter=False), then="skip")
    described = Pipeline(["flaky", "stuck", "fine"]).transport(
        transport, timeout=SHORT, on_error=policy
    )
    report = described.backend(seen.append).run()
    assert sorted(seen) == ["fine", "flaky"]
    assert_accounted(report)


def test_an_ordered_item_in_hand_is_not_lost(stuck):
    """An item that waits until it is its turn goes on with the worker's successor."""
    tries, seen = [], []

    def transport(item):
        tries.append(item)
        if item == 0 and tries.count(0) == 1:
            raise OSError
        if item == 0 and tries.count(0) == 2:
            stuck.wait()
        return item

    policy = Retry(3, Backoff(initial=3 * SHORT, jitter=False), then="skip")
    described = Pipeline(range(10)).transport(
        transport, timeout=SHORT, ordering="input", queue_size=2, on_error=policy
    )
    report = described.backend(seen.append).run()
    assert seen == [*range(10)]
    assert_accounted(report)


def test_a_batch_that_is_being_gathered_is_not_lost(stuck):
    """What a worker has gathered when another attempt of its is given up, its successor has."""
    calls, seen, is_stuck = [], [], threading.Event()

    def numbers():
        yield from range(7)
        assert is_stuck.wait(20)
        yield from range(7, 10)

    class Store(Backend):
        batch = Batch(count=5, period=60)

        def process_batch(self, items):
            calls.append(items)
            if len(calls) == 1:
                raise OSError
            if len(calls) == 2:
                is_stuck.set()
                stuck.wait()
            seen.extend(items)

    policy = Retry(5, Backoff(initial=2 * SHORT, jitter=False))
    report = Pipeline(numbers()).backend(Store, timeout=SHORT, on_error=policy).run()
    assert sorted(seen) == [*range(10)]
    assert_accounted(report)


def test_the_item_that_did_not_fit_into_a_batch_is_not_lost(stuck):
    """It is in the next batch, also if the call with the full one is given up."""
    seen = []

    class Store(Backend):
        batch = Batch(count=10, bytes=10, period=60)

        def process_batch(self, items):
            if b"A" * 8 in items:
                stuck.wait()
            seen.extend(items)

    items = [letter * 8 for letter in (b"A", b"B", b"C")]
    report = Pipeline(items).backend(Store, timeout=SHORT, on_error="skip").run()
    assert seen == items[1:]
    assert (report.delivered, report.failed) == (2, 1)


@pytest.mark.parametrize("policy", ["skip", Retry(3, Backoff(initial=0), then="skip")])
def test_ordered_batches_are_given_up_in_their_places(stuck, policy):
    """What comes behind a batch that takes too long is delivered, in order."""
    calls, seen = [], []

    class Parse(Transport):
        batch = Batch(count=5)

        def process_batch(self, items):
            calls.append(items)
            if len(calls) == 2:
                stuck.wait()
            return items

    described = Pipeline(range(20)).transport(
        Parse, timeout=SHORT, ordering="input", on_error=policy
    )
    report = described.backend(seen.append).run()
    is_tried_again = isinstance(policy, Retry)
    assert seen == [item for item in range(20) if is_tried_again or item // 5 != 1]
    assert_accounted(report)


def test_under_the_policy_fail_the_run_ends(stuck):
    """A call that was given up ends the run like any other failure."""
    described = Pipeline(range(5)).transport(Sticky, stuck=stuck, on={3}, timeout=SHORT)
    with pytest.raises(StageError, match=r"took longer than timeout=0\.1 s"):
        described.backend(print).run()


def test_a_late_result_is_discarded(stuck):
    """What a call that was given up returns in the end goes nowhere; its worker cleans up."""
    seen, cleaned, returned = [], threading.Event(), threading.Event()

    class Late(Sticky):
        def transport(self, data):
            self.was_stuck = data in self.on
            result = super().transport(data)
            if data in self.on:
                returned.set()
            return result

        def cleanup(self):
            if self.was_stuck:
                cleaned.set()

    def wait_for_it(item):
        if item == 2:
            stuck.set()
            assert returned.wait(30)
            assert cleaned.wait(30)
        seen.append(item)

    described = Pipeline(range(3)).transport(
        Late, stuck=stuck, on={1}, timeout=SHORT, on_error="skip"
    )
    report = described.backend(wait_for_it).run()
    assert seen == [0, 2]
    assert_accounted(report)


def test_batches_are_given_up_as_a_whole(stuck):
    """A batch that takes too long fails with all of its items."""
    seen = []

    class Store(Backend):
        batch = Batch(count=10, period=10)

        def process_batch(self, items):
            if 15 in items:
                stuck.wait()
            seen.extend(items)

    report = Pipeline(range(30)).backend(Store, timeout=SHORT, on_error="skip").run()
    assert seen == [*range(10), *range(20, 30)]
    assert (report.delivered, report.failed) == (20, 10)


def test_generators_are_given_up_as_a_whole(stuck):
    """Nothing of what a generator yielded for an item goes on if it takes too long."""
    seen = []

    def spread(item):
        yield item
        if item == 1:
            stuck.wait()
        yield item

    described = Pipeline(range(3)).transport(spread, timeout=SHORT, on_error="skip")
    report = described.backend(seen.append).run()
    assert seen == [0, 0, 2, 2]
    assert (report.delivered, report.failed) == (2, 1)


@pytest.mark.parametrize("options", [{}, {"ordering": "input"}])
def test_coroutines_are_cancelled(options):
    """A coroutine that takes too long is cancelled, and its item fails with where it was."""
    import asyncio

    seen = []

    async def transport(item):
        if item == 3:
            await asyncio.sleep(1000)
        return item

    described = Pipeline(range(10)).transport(transport, timeout=SHORT, on_error="skip", **options)
    report = described.backend(seen.append).run()
    assert sorted(seen) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert "asyncio.sleep(1000)" in report.item_errors[0].error.stack


def test_a_timeout_error_of_the_users_own_is_one(stuck):
    """A TimeoutError that the stage's code raises itself is an ordinary error."""

    async def transport(item):
        raise TimeoutError("mine")

    report = Pipeline([1]).transport(transport, timeout=10, on_error="skip").backend(print).run()
    assert type(report.item_errors[0].error) is TimeoutError


def test_calls_that_are_in_time_are_left_alone():
    """Calls shorter than the timeout are not given up, however many they are."""
    end = time.monotonic() + 3 * SHORT

    def source():
        while time.monotonic() < end:
            yield 1

    report = Pipeline(source).transport(lambda item: item, workers=4, timeout=SHORT).run()
    assert report.failed == 0
    assert report.ok


def test_a_bounded_number_is_left_behind(stuck, monkeypatch):
    """When too many calls are stuck at a time, the run fails instead of taking more threads."""
    monkeypatch.setattr("m3.engine.timeouts.MOST_LEFT_BEHIND", 3)
    described = Pipeline(range(100), stop_timeout=0.5).transport(
        Sticky, stuck=stuck, on=range(100), timeout=0.01, on_error="skip"
    )
    engine = described.backend(print).engine()
    with pytest.raises(PipelineError) as caught:
        engine.start()
    assert caught.group_contains(StageError, match="took longer")
    assert caught.group_contains(HungWorkerError)
    assert engine.report().failed == 4


def test_a_backend_that_commits_is_not_replaced(stuck):
    """What a sink has not committed cannot be taken over: the run fails, and says why."""

    class Sink(Backend):
        def process(self, data):
            stuck.wait()

        def commit(self): ...

    described = Pipeline([1], stop_timeout=0.5).backend(Sink, timeout=SHORT, on_error="skip")
    with pytest.raises(PipelineError) as caught:
        described.run()
    assert caught.group_contains(StageError, match="took longer")


def test_the_setup_of_a_successor_that_fails_fails_the_run(stuck):
    """If no other worker can be set up, the run ends with that error; nothing is lost."""
    setups = []

    class Once(Sticky):
        def setup(self):
            setups.append(1)
            if len(setups) > 1:
                raise OSError("no further connection")

    described = Pipeline(range(5)).transport(
        Once, stuck=stuck, on={2}, timeout=SHORT, on_error="skip"
    )
    engine = described.backend(print).engine()
    with pytest.raises(StageError, match="no further connection"):
        engine.start()
    assert_accounted(engine.report())


def test_what_waits_behind_a_successor_that_fails_is_told(stuck):
    """Items that wait for another attempt are settled if no other worker can be set up."""
    setups, told = [], []

    class Source(Frontend):
        def produce(self):
            yield from (Item(number, number) for number in range(2))

        def nack(self, position, error):
            told.append(position)

    class Once(Transport):
        def setup(self):
            setups.append(1)
            if len(setups) > 1:
                raise OSError("no further connection")

        def transport(self, data):
            if data == 0:
                raise ValueError("try again")
            stuck.wait()

    policy = Retry(3, Backoff(initial=1000, jitter=False), then="skip")
    described = Pipeline(Source).transport(Once, timeout=SHORT, on_error=policy)
    engine = described.backend(print).engine()
    with pytest.raises(StageError, match="no further connection"):
        engine.start()
    assert sorted(told) == [0, 1]
    assert_accounted(engine.report())
