"""The loops by themselves: what is taken from where, when, and in which tally it counts."""

import threading

import pytest

from m3 import Failure, Item
from m3._loops import Taker, close, discard, end, pump, serve, take, wake
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import Consume, Deliver, Send
from m3._tokens import FAILED, Tally
from m3.errors import Empty, ShutDown


def judge(error, item, position, positions, attempts):
    judge.asked.append((error, item, position, positions, attempts))
    return judge.verdict


@pytest.fixture(autouse=True)
def no_judgements():
    judge.asked, judge.verdict = [], FAILED


def counts(tally):
    names = ("produced", "delivered", "dropped", "failed", "abandoned")
    return tuple(getattr(tally, name) for name in names)


def run(items, first, tally, stopping=None, tracking=True):
    pump(iter(items), first, tally, judge, stopping or Switch(), tracking)
    end(first, tally, Switch())


@pytest.mark.parametrize("tracking", [False, True])
def test_pump_counts_and_delivers(tracking):
    """Everything that an iterator yields goes through the step, with or without a token."""
    tally, kept = Tally(), []
    run(range(5), Consume(tally, judge, kept.append), tally, tracking=tracking)
    assert kept == [0, 1, 2, 3, 4]
    assert counts(tally) == (5, 5, 0, 0, 0)


def test_pump_reads_no_more_once_it_is_to_stop():
    """The switch is looked at before each item: none is taken after it."""
    stopping, tally = Switch(), Tally()
    items = iter(range(10))

    def stop_at_three(item):
        if item == 3:
            stopping.turn_on()

    run(items, Consume(tally, judge, stop_at_three), tally, stopping)
    assert next(items) == 4
    assert counts(tally) == (4, 4, 0, 0, 0)


def test_pump_raises_what_the_iterator_raises():
    """An iterator that raises is no end; StopIteration is."""

    class Broken:
        def __iter__(self):
            return self

        def __next__(self):
            raise KeyError

    with pytest.raises(KeyError):
        run(Broken(), Deliver(Tally()), Tally())

    class Ended(Broken):
        def __next__(self):
            raise StopIteration

    run(Ended(), Deliver(Tally()), Tally())


def test_items_and_failures_of_a_frontend():
    """An Item is unpacked, its position goes with it; a Failure is judged, not pushed."""
    tally, kept = Tally(), []

    def keep(item):
        if item == "bad":
            raise ValueError
        kept.append(item)

    error = OSError()
    source = [Item("good", 1), Failure(error, "raw", 2), Item("bad", 3), 4]
    run(source, Consume(tally, judge, keep), tally)
    assert kept == ["good", 4]
    assert judge.asked[0] == (error, "raw", 2, None, 1)
    assert judge.asked[1][1:] == ("bad", 3, None, 1)
    assert counts(tally) == (4, 2, 0, 2, 0)
    assert tally.refused == 1


def test_serve_takes_until_the_end_of_its_queue():
    """serve() ends when the queue is closed and empty, not before."""
    tally, kept, queue = Tally(), [], BoundedQueue(10)
    queue.put_many([1, 2, 3])
    close(queue)
    serve(queue, Consume(tally, judge, kept.append), tally, Switch())
    assert kept == [1, 2, 3]


def test_serve_takes_nothing_once_the_run_is_over():
    """When the run is aborted, what is queued stays there, to be discarded."""
    tally, queue, aborting = Tally(), BoundedQueue(10), Switch()
    queue.put_many([1, 2, 3])
    aborting.turn_on()
    serve(queue, Consume(tally, judge, print), tally, aborting)
    assert len(queue) == 3
    discard(queue, tally)
    assert (len(queue), tally.abandoned) == (0, 3)


def test_take_and_deliver():
    """take() gives an item with its token and position, a Taker delivers it, up to the end."""
    tally, queue = Tally(), BoundedQueue(10)
    run(["a", Item("b", 5)], Send(tally, queue), tally)
    item, token, position = take(queue)
    assert (item, token.position, position) == ("a", None, 0)
    close(queue)
    assert list(Taker(queue, tally)) == ["b"]
    assert tally.delivered == 1
    with pytest.raises(ShutDown):
        take(queue)


@pytest.mark.parametrize("naps", [0.0, 1000.0])
def test_an_errand_ends_the_wait_for_items(naps):
    """A worker that waits for items does what it is asked to at once, also from a nap."""
    inbox, tally, aborting = BoundedQueue(64, naps=naps), Tally(), Switch()
    for _ in range(100):  # after so many waits it naps
        with pytest.raises(Empty):
            inbox.get(timeout=1e-5)
    done, kept = threading.Semaphore(0), []
    tally.errand = done.release
    consume = Consume(tally, judge, kept.append)
    worker = threading.Thread(target=serve, args=(inbox, consume, tally, aborting), daemon=True)
    worker.start()
    for _ in range(200):
        while not inbox.statistics().getters:
            pass
        wake(inbox, tally, aborting)
        assert done.acquire(timeout=30)
    inbox.put_many(range(40))
    close(inbox)
    worker.join()
    assert kept == list(range(40))
