"""Items go in beside a frontend's iterator while that waits, from whichever thread has them."""

import itertools
import queue
import threading

import pytest
from workbench import SOON, Keep, assert_accounted, in_thread, meet

from m3 import Batch, Frontend, Item, Pipeline
from m3.errors import AbandonedError, StageError


class Inbox(Frontend):
    """Yields what other threads could not hand in themselves, until it is closed."""

    def __init__(self):
        self.waiting = queue.SimpleQueue()
        self.begins = threading.Event()
        self.answers = {}
        self.threads = set()
        self.yielded = []

    def produce(self):
        self.begins.set()
        while (item := self.waiting.get(timeout=SOON)) is not None:
            self.yielded.append(item.position)
            yield item

    def hand_in(self, item):
        if self.offer is None or not self.offer(item):
            self.waiting.put(item)

    def stop(self):
        self.waiting.put(None)

    def ack(self, position):
        self.answer(position, "ack")

    def nack(self, position, error):
        self.answer(position, type(error))

    def answer(self, position, what):
        assert position not in self.answers, "answered twice"
        self.answers[position] = what
        self.threads.add(threading.current_thread().name)


class AtOnce(Inbox):
    """Is told by whoever has delivered an item."""

    acks_anywhere = True


def until_taken(inbox, item):
    """Offer an item until it is taken: the frontend's thread may be just about to wait."""
    for _ in range(10**7):
        if inbox.offer(item):
            return
    raise AssertionError("it never waits")


def numbered(numbers):
    return [Item(number, number) for number in numbers]


@pytest.mark.parametrize("kind", [Inbox, AtOnce])
def test_what_is_offered_goes_on_without_the_frontend(kind):
    """It goes into the next stage's queue in the thread that has it, and is answered once."""
    inbox, kept = kind(), []
    end = in_thread(Pipeline(inbox).transport(str, workers=2).backend(Keep(kept)).run)
    meet(inbox.begins)
    for item in numbered(range(100)):
        until_taken(inbox, item)
    inbox.stop()
    report = end()
    assert sorted(kept, key=int) == [str(number) for number in range(100)]
    assert inbox.answers == dict.fromkeys(range(100), "ack")
    assert inbox.yielded == []
    assert report.produced == report.delivered == 100
    assert_accounted(report)


def test_it_is_not_taken_while_the_frontend_does_something_else():
    """The iterator's thread and others never push items at the same time."""
    is_busy, may_go_on = threading.Event(), threading.Event()

    class Busy(Inbox):
        def produce(self):
            is_busy.set()
            meet(may_go_on)
            yield Item("first", 0)
            assert not self.offer("no item")
            yield from super().produce()

    def parse(value):
        return value

    inbox, kept = Busy(), []
    inbox.stop()
    end = in_thread(Pipeline(inbox).transport(parse, workers=1).backend(Keep(kept)).run)
    meet(is_busy)
    until_taken(inbox, Item("beside", 1))
    may_go_on.set()
    end()
    assert kept == ["beside", "first"]
    assert not inbox.offer(Item("late", 2)), "the run is over"
    assert set(inbox.answers) == {0, 1}


def test_it_is_not_taken_when_there_is_no_room():
    """Whoever offers never blocks: what does not fit is left to the frontend, which waits."""
    is_full, may_go_on = threading.Event(), threading.Event()

    def slow(value):
        is_full.set()
        meet(may_go_on)
        return value

    inbox, kept = Inbox(), []
    pipeline = Pipeline(inbox).transport(slow, workers=1, queue_size=1)
    end = in_thread(pipeline.backend(Keep(kept)).run)
    meet(inbox.begins)
    until_taken(inbox, Item(0, 0))
    meet(is_full)
    until_taken(inbox, Item(1, 1))
    refused = [inbox.offer(Item(number, number)) for number in range(2, 10)]
    assert refused == [False] * 8
    may_go_on.set()
    inbox.hand_in(Item("last", "last"))
    inbox.stop()
    report = end()
    assert kept == [0, 1, "last"]
    assert report.produced == 3
    assert_accounted(report)


class Untold(Frontend):
    """Is not told what becomes of its items."""

    def produce(self):
        yield self.offer


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (Untold, {"workers": 1}),
        (Inbox, {"workers": 0}),
        (Inbox, {"workers": 1, "queue_bytes": 1000}),
    ],
    ids=["not told", "in the same thread", "counted in bytes"],
)
def test_there_is_no_way_but_into_a_queue(source, options):
    """Where an item could block whoever offers it, there is nothing to offer it to."""
    frontend, seen = source(), []
    if isinstance(frontend, Inbox):
        frontend.stop()
    Pipeline(frontend).transport(lambda item: item, **options).backend(Keep(seen)).run()
    assert frontend.offer is None
    assert seen in ([], [None])


def test_a_frontend_may_have_an_offer_of_its_own():
    """What a frontend calls so is left alone."""

    class Shop(AtOnce):
        def offer(self, article):
            return f"{article} for nothing"

    shop, kept = Shop(), []
    shop.waiting.put(Item(shop.offer("tea"), 0))
    shop.stop()
    Pipeline(shop).transport(str.upper, workers=1).backend(Keep(kept)).run()
    assert kept == ["TEA FOR NOTHING"]
    assert shop.offer("coffee") == "coffee for nothing"


def test_there_is_none_in_a_run_that_keeps_state(tmp_path):
    """There an item has to wait until a checkpoint is made, which whoever offers must not."""

    class Resumed(Inbox):
        def resume(self, checkpoint):
            self.stop()

    inbox = Resumed()
    pipeline = Pipeline(inbox, state=tmp_path / "state").transport(str, workers=1)
    pipeline.backend(Keep([])).run()
    assert inbox.offer is None


def test_a_batch_is_acknowledged_by_whoever_delivers_it():
    """Each item of it, in the worker's thread, where nothing has to be durable before."""

    class Store(Keep):
        batch = Batch(count=10)

        def process_batch(self, items):
            self.kept.extend(items)

    inbox, kept = AtOnce(), []
    for item in [*numbered(range(100)), None]:
        inbox.waiting.put(item)
    Pipeline(inbox).backend(Store(kept)).run()
    assert inbox.answers == dict.fromkeys(range(100), "ack")
    assert inbox.threads == {"m3-Store-0"}


@pytest.mark.parametrize("options", [{"dead_letters": "letters.db"}, {}], ids=["kept", "not kept"])
def test_what_must_be_durable_first_is_acknowledged_later(options, tmp_path):
    """With a place for dead letters, or a backend that commits, the engine's thread does it."""
    committed = []

    class Committing(Keep):
        def commit(self):
            committed.append(len(self.kept))

    inbox, kept = AtOnce(), []
    for item in [*numbered(range(10)), None]:
        inbox.waiting.put(item)
    options = {name: tmp_path / value for name, value in options.items()}
    sink = Keep if options else Committing
    Pipeline(inbox, **options).transport(str, workers=1).backend(sink(kept)).run()
    assert inbox.answers == dict.fromkeys(range(10), "ack")
    assert not any("Keep" in name or "Committing" in name for name in inbox.threads)
    assert options or committed


def test_an_ack_that_raises_fails_the_run():
    """As it does in a thread of its own; the other items are answered all the same."""

    class Raising(AtOnce):
        def ack(self, position):
            super().ack(position)
            if position == 3:
                raise OSError("no connection")

    inbox = Raising()
    for item in [*numbered(range(10)), None]:
        inbox.waiting.put(item)
    with pytest.raises(StageError, match="no connection"):
        Pipeline(inbox).transport(str, workers=1).backend(Keep([])).run()
    assert set(inbox.answers) == set(inbox.yielded)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", [Inbox, AtOnce])
@pytest.mark.parametrize("is_cut_short", [False, True])
def test_many_threads_offer_at_once(kind, is_cut_short):
    """Each item is delivered once, or given up once, whichever way it went in."""
    for _ in range(10):
        offer_from_many(kind, is_cut_short)


def offer_from_many(kind, is_cut_short):
    inbox, kept, count = kind(), [], itertools.count()

    def work(number):
        if is_cut_short and number == 250:
            raise LookupError(number)
        return number

    pipeline = Pipeline(inbox).transport(work, workers=3, queue_size=4)
    end = in_thread(pipeline.backend(Keep(kept)).run)
    meet(inbox.begins)

    def offer():
        for _ in range(100):
            number = next(count)
            inbox.hand_in(Item(number, number))

    for done in [in_thread(offer) for _ in range(4)]:
        done()
    inbox.stop()
    if is_cut_short:
        with pytest.raises(StageError, match="LookupError"):
            end()
        assert set(inbox.answers.values()) <= {"ack", AbandonedError, LookupError}
        assert sum(answer == "ack" for answer in inbox.answers.values()) <= len(kept)
    else:
        assert_accounted(end())
        assert sorted(kept) == list(range(400))
        assert inbox.answers == dict.fromkeys(range(400), "ack")
