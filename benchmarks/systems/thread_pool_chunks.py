"""
``ThreadPool.imap`` in chunks of 256: far less work per item, at a price.

A chunk goes on when its last item is done, so with work of 1 ms an item waits
for a quarter of a second, and with fewer items than 256 times the workers some
workers have nothing to do.
"""

from benchmarks.systems import thread_pool
from benchmarks.workloads import Job

DISTRIBUTION = None
ORDERED = True

CHUNK = 256


def run(job: Job) -> None:
    """Do *job* in chunks."""
    thread_pool.run(job, CHUNK)
