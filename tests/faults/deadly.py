"""Pipelines that die over some of their items: ``python deadly.py HOW SINK FOLDER``."""

import os
import resource
import sys
import time
from pathlib import Path

from sturdy import Appended, Lines, Numbers, Table

from m3 import Backoff, Batch, Item, Pipeline, Retry

COUNT = 600
FURTHER = 10_000
"""What a second frontend adds to its numbers."""


class Further(Numbers):
    """The same numbers of items, each larger."""

    def produce(self):
        for item in super().produce():
            yield Item(item.value + FURTHER, item.position)


class Deadly:
    """Code of stages that die with the items of a file, which may not be there."""

    def __init__(self, folder):
        path = folder / "killers"
        self.killers = {int(word) for word in path.read_text().split()} if path.exists() else ()
        self.tried = set()

    def one(self, item):
        time.sleep(0.0001)
        if item in self.killers:
            os.abort()
        return item

    async def later(self, item):
        return self.one(item)

    def expand(self, item):
        yield self.one(item)
        yield -item - 1

    def again(self, item):
        if item % 10 == 0 and item not in self.tried:
            self.tried.add(item)
            raise ValueError("not at once")
        return self.one(item)

    @property
    def batches(self):
        return Together(self)


class Together:
    """A transport that takes several at once."""

    def __init__(self, deadly):
        self.deadly = deadly

    def process_batch(self, items):
        return [self.deadly.one(item) for item in items]


def build(how, deadly, options):
    """Return a pipeline without its sink, which dies in the way called *how*."""
    source = Pipeline(Numbers(COUNT), **options)
    match how:
        case "plain":
            return source.transport(deadly.one, workers=8)
        case "chained":
            return source.transport(deadly.one, workers=0)
        case "async":
            return source.transport(deadly.later, workers=2, concurrency=20)
        case "expand":
            return source.transport(deadly.expand, workers=4)
        case "batches":
            batch = Batch(count=50, period=60)
            return source.transport(deadly.batches, workers=2, batch=batch)
        case "ordered":
            return source.transport(deadly.one, workers=4, ordering="input")
        case "retries":
            retry = Retry(attempts=3, backoff=Backoff(initial=0.001, maximum=0.002))
            return source.transport(deadly.again, workers=4, on_error=retry)
        case "two frontends":
            return source.frontend(Further(COUNT)).transport(deadly.one, workers=4)


def expected(how, bad):
    """Return what is to be in the sink when *bad* were put aside."""
    numbers = [*range(COUNT)]
    if how == "two frontends":
        numbers += [number + FURTHER for number in range(COUNT)]
    good = [number for number in numbers if number not in bad]
    return [*good, *(-number - 1 for number in good)] if how == "expand" else good


def sink_of(name, folder):
    """Return a new sink."""
    sinks = {"lines": Lines, "appended": Appended, "table": Table}
    return sinks[name](folder / name)


def main(how, sink, folder):
    """Run the pipeline once; return the exit code of the command line."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    options = {"state": folder / "state", "checkpoint_interval": 0.01, "crash_guard": 2}
    pipeline = build(how, Deadly(folder), options).backend(sink_of(sink, folder))
    return 0 if pipeline.run().ok else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
