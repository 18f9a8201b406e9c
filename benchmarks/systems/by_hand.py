"""
Threads and ``queue.Queue`` by hand: what people write before they look for a library.

Two bounded queues of m3's default size; the end is a sentinel for each reader.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any

from benchmarks.workloads import Job

DISTRIBUTION = None
ORDERED = False

QUEUE_SIZE = 1024
END = object()


def run(job: Job) -> None:
    """Do *job* with the standard library's queue."""
    run_with(job, lambda: queue.Queue(QUEUE_SIZE))


def run_with(job: Job, make_queue: Callable[[], Any]) -> None:
    """Do *job* with queues that *make_queue* makes."""
    items, results = make_queue(), make_queue()
    readers = [
        *start_threads(1, produce, job, items),
        *start_threads(job.workers, transform, job.work, items, results),
    ]
    sinks = start_threads(job.sinks, consume, job.sink, results)
    for thread in readers:
        thread.join()
    for _ in sinks:
        results.put(END)
    for thread in sinks:
        thread.join()


def start_threads(count: int, target: Callable[..., None], *args: Any) -> list[threading.Thread]:
    """Return *count* threads that run *target*, started."""
    threads = [threading.Thread(target=target, args=args) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def produce(job: Job, items: Any) -> None:
    """Put every item, and an end for each worker."""
    put = items.put
    for item in job.source():
        put(item)
    for _ in range(job.workers):
        put(END)


def transform(work: Callable[[Any], Any], items: Any, results: Any) -> None:
    """Put the result of each item until the end."""
    get, put = items.get, results.put
    while (item := get()) is not END:
        put(work(item))


def consume(sink: Callable[[Any], object], results: Any) -> None:
    """Give each result to the sink until the end."""
    get = results.get
    while (result := get()) is not END:
        sink(result)
