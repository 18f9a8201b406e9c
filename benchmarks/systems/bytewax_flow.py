"""
bytewax: a dataflow of input, map and output on its worker threads.

Each worker reads its own share of the items, so nothing has to move between
workers, and hands them on 1,024 at a time, which was its fastest here.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main, run_main

from benchmarks.workloads import Job

DISTRIBUTION = "bytewax"
ORDERED = False

BATCH = 1024


class Share(StatelessSourcePartition):
    """One worker's items."""

    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items

    def next_batch(self) -> list[Any]:
        """Return the next items; raise StopIteration after the last."""
        batch = list(islice(self.items, BATCH))
        if not batch:
            raise StopIteration
        return batch


class Source(DynamicSource):
    """The job's items, split over the workers."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def build(self, _step_id: str, worker_index: int, _worker_count: int) -> Share:
        """Return the share of one worker."""
        return Share(self.job.share(worker_index))


class Calls(StatelessSinkPartition):
    """Calls the job's sink."""

    def __init__(self, sink: Callable[[Any], object]) -> None:
        self.sink = sink

    def write_batch(self, items: list[Any]) -> None:
        """Call the sink with each result."""
        sink = self.sink
        for item in items:
            sink(item)


class Sink(DynamicSink):
    """The job's sink, in every worker."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> Calls:
        """Return the sink of one worker."""
        return Calls(self.job.sink)


def run(job: Job) -> None:
    """Do *job* as a dataflow."""
    flow = Dataflow("benchmark")
    items = op.input("source", flow, Source(job))
    results = op.map("work", items, job.work)
    op.output("sink", results, Sink(job))
    if job.workers == 1:
        run_main(flow)
    else:
        cluster_main(flow, [], 0, worker_count_per_proc=job.workers)
