"""Errands of a worker that has died are given up; nobody waits for them."""

import pytest

from m3.engine import Runtime
from m3.engine.errands import Errands
from m3.errors import AbandonedError


def test_an_errand_that_was_cut_short_is_given_up():
    """Who waits for it is told, also if it was taken from the queue already."""
    errands = Errands(Runtime())
    posted = [errands.post(lambda: "done") for _ in range(3)]
    posted[0].make = None  # the worker is struck between taking the first one and making it
    with pytest.raises(TypeError):
        errands.do()
    errands.close()
    for errand in [*posted, errands.post(lambda: "too late")]:
        with pytest.raises(AbandonedError):
            errand.wait()


def test_what_was_given_up_is_not_done_later():
    """The worker goes on to serve, but makes no call whose result nobody will look at."""
    made, errands = [], Errands(Runtime())
    errands.post(lambda: made.append("given up"))
    errands.give_up()
    errands.post(lambda: made.append("new"))
    errands.do()
    assert made == ["new"]


def test_an_errand_that_was_done_stays_done():
    """Giving up concerns only what is not over."""
    errands = Errands(Runtime())
    errand = errands.post(lambda: "done")
    errands.do()
    errands.close()
    assert errand.wait() == "done"
