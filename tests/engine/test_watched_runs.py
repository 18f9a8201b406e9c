"""What frontends learn of their run: the run itself, and which stage has failed."""

import asyncio

import pytest

from m3 import Frontend, Item, Pipeline
from m3.engine.failures import stage_of
from m3.errors import BatchError, StageError
from m3.testing import MemorySink


class Watching(Frontend):
    """Keeps what it is told of."""

    def __init__(self, items):
        self.items = items
        self.calls = []
        self.errors = {}

    def watch_run(self, run):
        self.run = run
        self.calls.append("watch_run")

    def setup(self):
        self.calls.append("setup")

    def produce(self):
        for item in self.items:
            yield Item(item, item)

    def nack(self, position, error):
        self.errors[position] = error


def raising(item):
    raise ValueError(item)


async def raising_late(item):
    await asyncio.sleep(0)
    raise ValueError(item)


class Batches:
    def process_batch(self, items):
        raise BatchError({number: ValueError(item) for number, item in enumerate(items)})


def test_a_frontend_may_watch_its_run():
    """Before its setup it is given the run, whose plan and report it can ask for."""
    frontend = Watching([1, 2])
    report = Pipeline(frontend, name="watched").backend(MemorySink()).run()
    assert frontend.calls == ["watch_run", "setup"]
    assert frontend.run.plan.name == "watched"
    assert frontend.run.report().delivered == report.delivered == 2


@pytest.mark.parametrize("bad", [raising, raising_late, Batches])
def test_an_error_says_which_stage_has_raised_it(bad):
    """Whether the stage takes items, batches, or is asynchronous."""
    frontend = Watching([1, 2])
    pipeline = Pipeline(frontend).transport(lambda item: item, name="good")
    pipeline.backend(bad, name="bad", on_error="skip").run()
    assert {stage_of(error) for error in frontend.errors.values()} == {"bad"}
    assert len(frontend.errors) == 2


def test_the_error_that_a_run_fails_with_says_so_too():
    """The frontend is told before the run is over."""
    frontend = Watching([1])
    with pytest.raises(StageError):
        Pipeline(frontend).transport(raising, name="bad").backend("null").run()
    assert stage_of(frontend.errors[1]) == "bad"


def test_what_no_stage_has_raised_has_none():
    """An error from elsewhere is of no stage."""
    assert stage_of(ValueError()) is None
