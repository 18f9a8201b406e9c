"""
``concurrent.futures.ThreadPoolExecutor.map``.

It submits every item before it gives the first result (until CPython 3.14,
whose ``buffersize`` the newest Pythons get here), so its memory has no bound.
The sink is called in the calling thread.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.workloads import Job

DISTRIBUTION = None
ORDERED = True

BOUND: dict[str, Any] = {"buffersize": 1024} if sys.version_info >= (3, 14) else {}


def run(job: Job) -> None:
    """Do *job*; the results always come in the order of the items."""
    sink = job.sink
    with ThreadPoolExecutor(job.workers) as executor:
        for result in executor.map(job.work, job.source(), **BOUND):
            sink(result)
