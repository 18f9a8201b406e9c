"""
The same threads by hand over culsans' queues.

Through the synchronous side, which its documentation names for threads that
have no event loop.
"""

import culsans

from benchmarks.systems import by_hand
from benchmarks.workloads import Job

DISTRIBUTION = "culsans"
ORDERED = False


def run(job: Job) -> None:
    """Do *job* with culsans' queues."""
    by_hand.run_with(job, lambda: culsans.Queue(by_hand.QUEUE_SIZE).sync_q)
