"""
``multiprocessing.pool.ThreadPool``: the fastest that Python itself has.

One item at a time, as every other system here hands them out.  It has no
stages: the sink is called in the calling thread, however many sinks the job
asks for.  Its queues have no bound, so a slow sink fills the memory.
"""

from multiprocessing.pool import ThreadPool

from benchmarks.workloads import Job

DISTRIBUTION = None
ORDERED = True


def run(job: Job, chunk: int = 1) -> None:
    """Do *job*, handing *chunk* items to a worker at once."""
    sink = job.sink
    with ThreadPool(job.workers) as pool:
        results = pool.imap if job.ordered else pool.imap_unordered
        for result in results(job.work, job.source(), chunk):
            sink(result)
