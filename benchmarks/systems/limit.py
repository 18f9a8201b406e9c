"""
As many processes as there are workers, each with the bare loop over its share.

They share nothing and hand nothing over: the most that any system could reach
on this machine.
"""

import os

from benchmarks.workloads import Job

DISTRIBUTION = None
ORDERED = False


def run(job: Job) -> None:
    """Do *job* in forked processes, and wait for all."""
    children = [fork_share(job, index) for index in range(job.workers)]
    for child in children:
        _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"a process of the limit ended with status {status}")


def fork_share(job: Job, index: int) -> int:
    """Start a process that does one worker's share; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        work, sink = job.work, job.sink
        for item in job.share(index):
            sink(work(item))
        os._exit(0)
    except BaseException:
        os._exit(1)
