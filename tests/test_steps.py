"""The steps by themselves: who settles an item, as what, and exactly once."""

import pytest

from m3 import DROP, Batch
from m3._loops import abandon, close, end, pump
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import FATAL, Aborted, Broadcast, Call, Consume, Deliver, Expand, Gather, Send
from m3._tokens import DROPPED, FAILED, Tally


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


@pytest.mark.parametrize("verdict", [FAILED, DROPPED])
def test_an_error_is_settled_as_the_policy_says(verdict):
    """The policy's verdict is the outcome of the item, and the chain goes on."""
    judge.verdict = verdict
    tally = Tally()
    step = Call(tally, Deliver(tally), judge, int)
    run(["1", "x", "2"], step, tally)
    assert (tally.delivered, tally.failed, tally.dropped) == (
        2,
        verdict == FAILED,
        verdict == DROPPED,
    )
    assert (step.items_in, step.items_out, step.errors) == (3, 2, 1)
    assert isinstance(judge.asked[0][0], ValueError)


def test_a_fatal_error_aborts_and_settles_its_item():
    """FATAL raises Aborted through the whole chain; the item has failed, none is lost."""
    judge.verdict = FATAL
    tally = Tally()
    with pytest.raises(Aborted):
        run(["1", "x", "2"], Call(tally, Deliver(tally), judge, int), tally)
    assert counts(tally) == (2, 1, 0, 1, 0)


def test_a_closed_queue_aborts_and_the_item_is_abandoned():
    """Send raises Aborted when its queue is closed, with the item settled."""
    tally, queue = Tally(), BoundedQueue(5)
    close(queue)
    with pytest.raises(Aborted):
        run([1], Send(tally, queue), tally)
    assert counts(tally) == (1, 0, 0, 0, 1)


def test_fan_out_settles_its_item_with_the_last_of_its_results():
    """An item ends when all that was made of it has ended, as the worst of it."""
    tally = Tally()

    def repeat(item):
        for number in range(item):
            yield DROP if number == 2 else number

    def refuse_three(item):
        if item == 3:
            raise ValueError

    expand = Expand(tally, Consume(tally, judge, refuse_three), judge, repeat)
    run([0, 1, 3, 5], expand, tally)
    assert counts(tally) == (4, 2, 1, 1, 0)
    assert (expand.items_in, expand.items_out) == (4, 1 + 2 + 4)


def test_an_aborted_fan_out_closes_its_generator():
    """The generator is closed at once, and what that raises is judged too."""
    closed = []

    def endless(item):
        try:
            while True:
                yield item
        finally:
            closed.append(item)
            raise OSError

    judge.verdict = FATAL
    tally = Tally()

    def refuse(item):
        raise ValueError

    with pytest.raises(Aborted):
        run([7], Expand(tally, Consume(tally, judge, refuse), judge, endless), tally)
    assert closed == [7]
    assert [type(error) for error, *_ in judge.asked] == [ValueError, OSError]
    assert counts(tally) == (1, 0, 0, 1, 0)


def test_broadcast_gives_each_branch_every_item():
    """An item is delivered when every branch has delivered it; an abort settles the rest."""
    tally, one, two = Tally(), [], []

    def refuse_two(item):
        if item == 2:
            raise ValueError
        two.append(item)

    branches = [Consume(tally, judge, one.append), Consume(tally, judge, refuse_two)]
    run(range(4), Broadcast(tally, branches), tally)
    assert (one, two) == ([0, 1, 2, 3], [0, 1, 3])
    assert counts(tally) == (4, 3, 0, 1, 0)
    judge.verdict = FATAL
    tally = Tally()
    branches = [Consume(tally, judge, refuse_two), Consume(tally, judge, one.append)]
    with pytest.raises(Aborted):
        run(range(4), Broadcast(tally, branches), tally)
    assert counts(tally) == (3, 2, 0, 1, 0)


def test_gather_hands_over_at_the_end_and_abandons_at_an_abort():
    """What is held is handed over by finish, and settled as abandoned by abandon."""
    for aborted, expected in ((False, (3, 3, 0, 0, 0)), (True, (3, 0, 0, 0, 3))):
        tally, batches = Tally(), []
        step = Gather(tally, None, judge, batches.append, Batch(count=10, period=1000))
        pump(iter(range(3)), step, tally, judge, Switch(), True)
        assert batches == []
        for _ in range(2):
            abandon(step) if aborted else end(step, tally, Switch())
        assert counts(tally) == expected
        assert batches == ([] if aborted else [[0, 1, 2]])
