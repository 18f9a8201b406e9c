"""m3 with all stages in one thread: for work that more threads make slower."""

from benchmarks.workloads import Job
from m3.pipeline import Pipeline

DISTRIBUTION = "m3-pipeline"
ORDERED = True


def run(job: Job) -> None:
    """Do *job* in the frontend's thread."""
    Pipeline(job.source).transport(job.work, workers=0).backend(job.sink, workers=0).run()
