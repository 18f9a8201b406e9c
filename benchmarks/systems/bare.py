"""The bare loop that a pipeline replaces: what everything else is compared with."""

from benchmarks.workloads import Job

DISTRIBUTION = None
ORDERED = True


def run(job: Job) -> None:
    """Do *job* in this thread."""
    work, sink = job.work, job.sink
    for item in job.source():
        sink(work(item))
