"""A frontend that may produce no more until there is a checkpoint gets one."""

import threading

from sturdy import Numbers

from m3 import Backend, Pipeline
from m3.engine.answers import MOST_UNANSWERED


class Noted(Backend):
    """A sink that cannot go back; it says when it is told to commit."""

    def __init__(self, commits):
        self.commits = commits

    def process(self, data):
        pass

    def commit(self):
        self.commits.release()


def test_a_full_ledger_asks_for_another_checkpoint(tmp_path):
    """
    The first item is under way while so many others are done that the frontend must wait.

    The round that half as many have asked for could not move the mark; when the first item is
    done at last, another round has to come, long before the interval is over.
    """
    first_may_go, commits = threading.Event(), threading.Semaphore(0)

    def hold_the_first(number):
        if number == 0:
            assert first_may_go.wait(30)
        return number

    def let_the_first_go(number):
        if number == MOST_UNANSWERED - 1:
            assert all(commits.acquire(timeout=30) for _ in range(2))  # the first one, and half
            first_may_go.set()

    engine = (
        Pipeline(
            Numbers(MOST_UNANSWERED * 2, let_the_first_go),
            state=tmp_path / "state",
            checkpoint_interval=3600,
        )
        .transport(hold_the_first, workers=2)
        .backend(Noted(commits))
        .start()
    )
    try:
        assert engine.wait(timeout=10), engine.report()
    finally:
        engine.stop(timeout=1)
    assert engine.report().delivered == MOST_UNANSWERED * 2
