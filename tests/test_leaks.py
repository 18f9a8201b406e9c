"""After a run, however it ended, no thread, descriptor or object of it is left."""

import asyncio
import gc
import os
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from m3 import Backend, Frontend, Pipeline, Transport
from m3.errors import PipelineError, SetupError, StageError

ROUNDS = 50
ITEM = object()


class Broken(Backend):
    def setup(self):
        raise OSError("no such table")

    def process(self, data):
        pass


class Endless(Frontend):
    """Produces until it is stopped, and opens a file meanwhile."""

    def setup(self):
        self.file = Path(os.devnull).open()  # noqa: SIM115 -- closed by cleanup()

    def produce(self):
        while True:
            yield ITEM

    def cleanup(self):
        self.file.close()


class Later(Transport):
    async def transport(self, data):
        await asyncio.sleep(0)
        return data


def refuse(item):
    raise ValueError("refused")


def finishes():
    Pipeline([ITEM] * 100).transport(lambda item: item, workers=3).backend(lambda item: None).run()


def keeps_order():
    pipeline = Pipeline([ITEM] * 100).transport(lambda item: item, workers=3, ordering="input")
    pipeline.backend(lambda item: None).run()


def runs_async():
    Pipeline([ITEM] * 20).transport(Later, concurrency=4).backend(lambda item: None).run()


def fails():
    with pytest.raises((StageError, PipelineError)):  # both workers may
        Pipeline([ITEM] * 100).transport(refuse, workers=2).backend(lambda item: None).run()


def is_not_set_up():
    with pytest.raises(SetupError):
        Pipeline(Endless).transport(lambda item: item).backend(Broken).run()


def is_stopped():
    with Pipeline(Endless).backend(lambda item: None).engine():
        pass


def is_left_early():
    with Pipeline([ITEM] * 10_000).transport(lambda item: item).results() as results:
        next(iter(results))


def of_m3() -> Counter[str]:
    """Return how many objects of each type of m3 there are."""
    gc.collect()
    return Counter(
        type(thing).__name__
        for thing in gc.get_objects()
        if str(type(thing).__module__).partition(".")[0] == "m3"
    )


def descriptors() -> int:
    """Return how many files and sockets the process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


@pytest.mark.parametrize(
    "scenario",
    [finishes, keeps_order, runs_async, fails, is_not_set_up, is_stopped, is_left_early],
)
def test_nothing_is_left(scenario):
    """After fifty runs there are as many threads, files, objects and references as after one."""
    scenario()
    objects, files, threads = of_m3(), descriptors(), threading.active_count()
    references = sys.getrefcount(ITEM)
    for _ in range(ROUNDS):
        scenario()
    assert threading.active_count() == threads
    assert descriptors() == files
    assert of_m3() - objects == Counter()
    assert sys.getrefcount(ITEM) == references
