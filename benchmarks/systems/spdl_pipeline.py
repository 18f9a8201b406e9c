"""
spdl's pipeline: an event loop that hands the work to a thread pool.

The sink is called in the calling thread, as its documentation shows.  Other
settings (no hooks, the sink as a stage, a thread's output queue, aggregation)
were tried and made no difference beyond the noise.
"""

from typing import Any

from spdl.pipeline import PipelineBuilder

from benchmarks.workloads import Job

DISTRIBUTION = "spdl"
ORDERED = True

BUFFER_SIZE = 1024


def run(job: Job) -> None:
    """Do *job* as one pipe."""
    builder: PipelineBuilder[Any, Any] = PipelineBuilder()
    pipeline = (
        builder.add_source(job.source())
        .pipe(
            job.work,
            concurrency=job.workers,
            output_order="input" if job.ordered else "completion",
        )
        .add_sink(BUFFER_SIZE)
        .build(num_threads=job.workers)
    )
    sink = job.sink
    with pipeline.auto_stop():
        for result in pipeline:
            sink(result)
