"""
pypeln's thread stages, with bounded queues of m3's default size.

Its order comes from ``ordered``, which sorts the results when all are there.
"""

import pypeln

from benchmarks.workloads import Job

DISTRIBUTION = "pypeln"
ORDERED = True

QUEUE_SIZE = 1024


def run(job: Job) -> None:
    """Do *job* as a map and an each."""
    stage = pypeln.thread.map(job.work, job.source(), workers=job.workers, maxsize=QUEUE_SIZE)
    if job.ordered:
        stage = pypeln.thread.ordered(stage)
    pypeln.thread.each(job.sink, stage, workers=job.sinks, maxsize=QUEUE_SIZE, run=True)
