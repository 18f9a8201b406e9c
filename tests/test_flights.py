"""What is in flight in an async stage is settled or passed on exactly once, also if it is lost."""

import pytest

from m3._flights import Flights
from m3._loops import abandon, close
from m3._order import Sequencer
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import FATAL, Aborted, Send
from m3._tokens import DELIVERED, DROPPED, Tally
from m3.errors import ShutDown


class Bench:
    """Flights, with a queue in front and one behind, and all items taken."""

    def __init__(self, count, policy=None):
        self.tally = Tally()
        self.flights = Flights(self.tally, policy)
        self.inbox, self.behind = BoundedQueue(), BoundedQueue()
        self.following = Send(self.tally, self.behind)
        self.taken = []
        self.inbox.put_many(range(count))
        close(self.inbox)
        with pytest.raises(ShutDown):
            self.flights.feed(self.inbox, BoundedQueue(), None, self.taken.append)

    def outcomes(self):
        names = ("delivered", "dropped", "failed", "abandoned")
        return tuple(getattr(self.tally, name) for name in names)


def test_what_was_lost_is_abandoned():
    """At the end, what has neither ended nor gone on is settled; the rest is left alone."""
    bench = Bench(5)
    ended, passed, *_ = bench.taken
    bench.flights.end(DELIVERED, ended)
    bench.flights.pass_on(passed, "result", True, bench.following)
    abandon(bench.flights)
    abandon(bench.flights)
    assert bench.outcomes() == (1, 0, 0, 3)
    assert bench.behind.get_nowait() == "result"


def test_an_item_that_was_struck_on_its_way_to_the_loop_is_not_lost():
    """It is in flight before who waits for it is called, whatever that raises."""
    bench, inbox = Bench(0), BoundedQueue()
    inbox.put("item")

    def arrived(flight):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.flights.feed(inbox, BoundedQueue(), None, arrived)
    abandon(bench.flights)
    assert bench.outcomes() == (0, 0, 0, 1)


def test_a_flight_ends_once():
    """What ends it first counts; it neither ends nor goes on a second time."""
    bench = Bench(1)
    (flight,) = bench.taken
    bench.flights.end(DROPPED, flight)
    bench.flights.end(DELIVERED, flight)
    bench.flights.pass_on(flight, "result", True, bench.following)
    assert bench.outcomes() == (0, 1, 0, 0)
    assert bench.behind.empty()


def test_an_error_after_the_item_has_gone_on_is_not_the_items():
    """It comes out, and the policy is not asked."""
    bench = Bench(1, policy=None)
    (flight,) = bench.taken
    bench.flights.pass_on(flight, "result", True, bench.following)
    with pytest.raises(ZeroDivisionError):
        bench.flights.reject(ZeroDivisionError(), flight)
    assert bench.outcomes() == (0, 0, 0, 0)


@pytest.mark.parametrize(("verdict", "raised"), [(FATAL, Aborted), (KeyError, KeyError)])
def test_a_rejected_item_has_failed(verdict, raised):
    """Also if the run is over with it, and if the policy itself is struck."""

    def policy(error, item, position, positions, attempts):
        if verdict is KeyError:
            raise KeyError
        return verdict

    bench = Bench(1, policy)
    with pytest.raises(raised):
        bench.flights.reject(ValueError(), bench.taken[0])
    abandon(bench.flights)
    assert bench.outcomes() == (0, 0, 1, 0)


def test_results_that_wait_for_their_turn_are_abandoned_or_handed_in():
    """Those of a flight that was handed in are the order's, the others end with the flights."""
    bench, sequencer = Bench(2), Sequencer(4, Switch())
    first, second = bench.taken
    for flight in bench.taken:
        bench.flights.keep(flight, f"result {flight.item}", True)
    bench.flights.hand_in(first, sequencer, bench.following)
    abandon(bench.flights)
    assert bench.behind.get_nowait() == "result 0"
    assert bench.outcomes() == (0, 0, 0, 1)
    assert not second.is_open
