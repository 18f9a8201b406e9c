"""The sequencer by itself: results wait for those before them, within a window."""

from m3._order import Sequencer
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import Send
from m3._tokens import Tally


def test_the_sequencer_passes_on_what_is_next_and_only_that():
    """Results wait for those before them, however late, and then all go on in order."""
    tally, queue = Tally(), BoundedQueue(10)
    sequencer = Sequencer(4, Switch())
    after = Send(tally, queue)
    assert all(sequencer.admit(position) for position in range(4))
    sequencer.hand_in(2, ["c", None], after)
    sequencer.hand_in(1, [], after)
    assert queue.empty()
    sequencer.hand_in(0, ["a", None, "b", None], after)
    assert queue.get_many(10) == ["a", "b", "c"]
    assert sequencer.admit(6)
    sequencer.hand_in(4, ["e", None], after)
    sequencer.discard(tally)
    assert (queue.empty(), tally.abandoned) == (True, 1)


def test_the_sequencer_refuses_what_is_ahead_once_the_run_is_over():
    """Who would have to wait for the window is told that the run is over."""
    aborting = Switch()
    sequencer = Sequencer(2, aborting)
    aborting.turn_on()
    assert sequencer.admit(1)
    assert not sequencer.admit(2)
