"""Items that are tried again: how often, when, and that waiting for it costs no worker."""

import itertools
import threading
import time
import tracemalloc
from collections import Counter

import pytest
from workbench import assert_accounted

from m3 import (
    DROP,
    Backend,
    Backoff,
    Batch,
    BatchError,
    Pipeline,
    Reject,
    Retry,
    RetryLater,
    StageError,
    Transport,
)
from m3.engine import work
from m3.engine.retries import delay_before_next
from m3.errors import PlanError

NOW = Backoff(initial=0)


class Flaky:
    """Raises on each item of *bad* the first *times* that it is called with it."""

    def __init__(self, bad, times):
        self.calls = Counter()
        self.bad = set(bad)
        self.times = times
        self.lock = threading.Lock()

    def __call__(self, item):
        with self.lock:
            self.calls[item] += 1
            is_bad = item in self.bad and self.calls[item] <= self.times
        if is_bad:
            raise OSError(f"{item} is not there")
        return item


LAYOUTS = [
    {"workers": 1},
    {"workers": 3},
    {"workers": 0},
    {"workers": 1, "ordering": "input"},
    {"workers": 3, "ordering": "input"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_an_item_is_tried_again_until_it_succeeds(layout):
    """An item on which a stage raises is tried again, and then delivered, once; order is kept."""
    flaky, seen = Flaky(range(0, 100, 7), times=2), []
    pipeline = Pipeline(range(100)).transport(flaky, on_error=Retry(3, NOW), **layout)
    report = pipeline.backend(seen.append).run()
    assert_accounted(report)
    assert sorted(seen) == list(range(100))
    if layout.get("ordering"):
        assert seen == list(range(100))
    assert report.stages[1].retries == 2 * len(range(0, 100, 7))
    assert report.stages[1].items_in == 100


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("then", ["skip", lambda error: "skip", lambda error: DROP])
def test_after_the_last_attempt_then_decides(layout, then):
    """An item whose last attempt has failed goes the way that `then` says; the others go theirs."""
    flaky, seen = Flaky([3, 4], times=99), []
    policy = Retry(attempts=4, backoff=NOW, then=then)
    pipeline = Pipeline(range(10)).transport(flaky, on_error=policy, **layout)
    report = pipeline.backend(seen.append).run()
    assert sorted(seen) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert flaky.calls[3] == flaky.calls[4] == 4
    assert report.failed + report.dropped == 2
    assert_accounted(report)


def test_a_failed_run_says_how_often_it_was_tried():
    """The error of an item has the number of its attempts."""
    pipeline = Pipeline([1]).transport(Flaky([1], 99), on_error=Retry(3, NOW)).backend(print)
    with pytest.raises(StageError, match="attempt 3") as caught:
        pipeline.run()
    assert caught.value.attempts == 3


def test_only_the_errors_that_are_worth_it():
    """An error that `on` does not name is not tried again."""
    flaky = Flaky([1], 99)
    policy = Retry(5, NOW, then="skip", on=(ValueError, TimeoutError))
    Pipeline([1]).transport(flaky, on_error=policy).backend(print).run()
    assert flaky.calls[1] == 1


def test_a_waiting_retry_occupies_no_worker():
    """While an item waits for its next attempt, the only worker goes on with other items."""
    others_done = threading.Event()

    class Wait(Transport):
        tried = 0

        def transport(self, data):
            if data == "bad":
                self.tried += 1
                if self.tried == 1:
                    raise RetryLater(0)
                while not others_done.is_set():
                    raise RetryLater(0.001)
            return data

    seen = []

    def consume(item):
        seen.append(item)
        if len(seen) == 50:
            others_done.set()

    report = Pipeline(["bad", *range(50)]).transport(Wait).backend(consume).run()
    assert seen == [*range(50), "bad"]
    assert report.ok


def test_ten_thousand_retries_wait_at_once():
    """10,000 items that wait at once hold no worker, and less than 20 MiB."""
    release = threading.Event()
    waiting, peak, seen = [], [], []

    def transport(item):
        if item == "last":
            peak.append(tracemalloc.get_traced_memory()[0])
            release.set()
            return item
        if not release.is_set():
            waiting.append(item)
            raise RetryLater(0.2)
        return item

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        items = itertools.chain(range(10_000), ["last"])
        report = Pipeline(items).transport(transport).backend(seen.append).run()
    finally:
        tracemalloc.stop()
    assert len(waiting) >= 10_000
    assert len(seen) == 10_001
    assert peak[0] - before < 20 * 2**20
    assert report.ok


def test_ten_thousand_retries_of_an_async_stage_wait_at_once():
    """The same of coroutines: none of them is left, and no slot is taken."""
    waiting, peak = [], []

    async def transport(item):
        if item == "last":
            peak.append(tracemalloc.get_traced_memory()[0])
            engine.abandon()
            return item
        waiting.append(item)
        raise RetryLater(3600)

    items = itertools.chain(range(10_000), ["last"])
    engine = Pipeline(items).transport(transport, concurrency=4).backend(print).engine()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        engine.start()
    finally:
        tracemalloc.stop()
    assert len(waiting) == 10_000
    assert peak[0] - before < 20 * 2**20
    assert_accounted(engine.report())


def test_a_bounded_number_waits(monkeypatch):
    """When too many wait, the stage takes no further item before one of them was tried."""
    monkeypatch.setattr(work, "MOST_WAITING", 10)
    taken, waiting, seen = Counter(), [], []

    def transport(item):
        taken[item] += 1
        waiting.append(sum(count == 1 for count in taken.values()))
        if taken[item] == 1:
            raise RetryLater(0.01)
        return item

    report = Pipeline(range(100)).transport(transport).backend(seen.append).run()
    assert sorted(seen) == list(range(100))
    assert max(waiting) == 11
    assert report.ok


def test_retry_of_a_batch():
    """A batch that raised is tried again with the same items, even if the code changed its list."""
    calls = []

    class Store(Backend):
        batch = Batch(count=5)

        def process_batch(self, items):
            calls.append(list(items))
            items.clear()
            if len(calls) < 3:
                raise OSError

    report = Pipeline(range(5)).backend(Store, on_error=Retry(3, NOW)).run()
    assert calls[0] == calls[1] == calls[2]
    assert report.delivered == 5


def test_only_the_bad_items_of_a_batch_are_tried_again():
    """Of a batch that failed in part, the items that failed are tried again."""
    stored, tries = [], Counter()

    class Store(Backend):
        batch = Batch(count=10)

        def process_batch(self, items):
            errors = {}
            for index, item in enumerate(items):
                tries[item] += 1
                if item % 3 == 0 and tries[item] < 3:
                    errors[index] = OSError(item)
                else:
                    stored.append(item)
            if errors:
                raise BatchError(errors)

    report = Pipeline(range(10)).backend(Store, on_error=Retry(5, NOW)).run()
    assert sorted(stored) == list(range(10))
    assert tries[3] == 3
    assert tries[1] == 1
    assert report.delivered == 10


def test_a_generator_is_tried_again_as_a_whole():
    """Of an item that is tried again nothing has gone on before."""
    tries, seen = Counter(), []

    def letters(word):
        yield from word
        tries[word] += 1
        if tries[word] < 3:
            raise OSError

    policy = Retry(3, NOW)
    report = Pipeline(["ab", "cd"]).transport(letters, on_error=policy).backend(seen.append).run()
    assert sorted(seen) == ["a", "b", "c", "d"]
    assert report.delivered == 2


@pytest.mark.parametrize("options", [{}, {"ordering": "input"}, {"concurrency": 1}])
def test_async_stages_try_again(options):
    """An async stage tries an item again; while it waits it takes none of the slots."""
    flaky, seen = Flaky(range(0, 50, 5), times=2), []

    async def transport(item):
        return flaky(item)

    policy = Retry(3, Backoff(initial=0.001))
    pipeline = Pipeline(range(50)).transport(transport, on_error=policy, **options)
    report = pipeline.backend(seen.append).run()
    assert sorted(seen) == list(range(50))
    if "ordering" in options:
        assert seen == list(range(50))
    assert_accounted(report)
    assert report.delivered == 50


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["abandon", "fail"])
def test_what_waits_when_the_run_is_over_is_abandoned(is_async, how):
    """An item that waits for another attempt when the run ends is abandoned, not lost."""
    waits = threading.Event()

    def refuse(item):
        if item == "bad":
            waits.set()
            raise RetryLater(1000)
        if how == "fail":
            waits.wait()
            raise ValueError
        return item

    async def refuse_later(item):
        return refuse(item)

    function = refuse_later if is_async else refuse
    with_more = ["bad", "worse"] if how == "fail" else ["bad"]
    engine = Pipeline(with_more).transport(function).backend(print).engine()
    engine.start(block=False)
    waits.wait()
    if how == "abandon":
        engine.abandon()
        engine.wait(30)
    else:
        with pytest.raises(StageError):
            engine.wait(30)
    report = engine.report()
    assert_accounted(report)
    assert report.abandoned == 1


def test_reject_is_not_tried_again_and_does_not_fail_the_run():
    """An item on which a stage raises Reject counts as failed, at once; the run goes on."""
    tries = Counter()

    def refuse(item):
        tries[item] += 1
        if item == 1:
            raise Reject("no good")
        return item

    for policy in ("fail", Retry(5, NOW, then="fail")):
        tries.clear()
        report = Pipeline([1, 2]).transport(refuse, on_error=policy).backend(print).run()
        assert (report.failed, report.delivered) == (1, 1)
        assert tries[1] == 1


def test_retry_later_waits_so_long():
    """An item comes again no sooner than RetryLater says."""
    times = []

    def transport(item):
        times.append(time.monotonic())
        if len(times) == 1:
            raise RetryLater(0.05)
        return item

    Pipeline([1]).transport(transport).backend(print).run()
    assert times[1] - times[0] >= 0.05


def test_the_delays_grow_up_to_the_maximum():
    """The time between attempts is initial * factor ** n, at most the maximum."""
    backoff = Backoff(initial=1, maximum=10, factor=2, jitter=False)
    assert [backoff.delay_after(n) for n in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]


def test_jitter_is_between_nothing_and_the_whole():
    """With jitter the delay is random between 0 and what it is without."""
    backoff = Backoff(initial=8, maximum=8)
    delays = [backoff.delay_after(1) for _ in range(1000)]
    assert min(delays) >= 0
    assert max(delays) <= 8
    assert min(delays) < 2
    assert max(delays) > 6


def test_no_attempt_after_max_elapsed():
    """An attempt that would begin later than max_elapsed after the first failure is not made."""
    retry = Retry(100, Backoff(initial=5, factor=1, jitter=False, max_elapsed=8))
    now = time.monotonic()
    assert delay_before_next(retry, OSError(), 1, now) == 5
    assert delay_before_next(retry, OSError(), 2, now - 5) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(0),
        lambda: Retry("3"),
        lambda: Retry(then="retry"),
        lambda: Retry(backoff=1),
        lambda: Backoff(initial=-1),
        lambda: Backoff(factor=0.5),
        lambda: Backoff(max_elapsed=-1),
    ],
)
def test_mistakes_in_a_policy_are_told(make):
    """A policy that cannot work is refused when it is made."""
    with pytest.raises(PlanError):
        make()
