"""m3 as its README shows it, with every option left as it is but the workers."""

from benchmarks.workloads import Job
from m3.pipeline import Pipeline

DISTRIBUTION = "m3-pipeline"
ORDERED = True


def run(job: Job) -> None:
    """Do *job* as a pipeline of three stages."""
    (
        Pipeline(job.source)
        .transport(
            job.work,
            workers=job.workers,
            ordering="input" if job.ordered else "completion",
        )
        .backend(job.sink, workers=job.sinks)
        .run()
    )
