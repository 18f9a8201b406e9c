"""
A pipeline inside a program that goes on with its own work.

    python examples/embedded.py

The program puts jobs into a bounded queue when it has some, and shuts the queue
down when there will be no more; the engine then ends when all are done.
"""

from collections.abc import Iterator

from m3 import BoundedQueue, Frontend, Pipeline
from m3.errors import ShutDown


class Inbox(Frontend[str]):
    """Produces what the program puts into a queue."""

    def __init__(self, queue: "BoundedQueue[str]") -> None:
        self.queue = queue

    def produce(self) -> Iterator[str]:
        while True:
            try:
                yield self.queue.get()
            except ShutDown:
                return

    def stop(self) -> None:
        self.queue.shutdown()


def main() -> None:
    """Hand over some jobs, and wait for the last one."""
    inbox: BoundedQueue[str] = BoundedQueue(100)
    outbox: list[str] = []
    engine = Pipeline(Inbox(inbox)).transport(str.upper, workers=4).backend(outbox.append).engine()

    engine.start(block=False)
    for job in ("these", "jobs", "are", "done", "elsewhere"):
        inbox.put(job)
    print(f"started: {engine.started()}; the program goes on")
    inbox.shutdown()
    report = engine.wait(timeout=10)

    print(sorted(outbox))
    print(f"{report.delivered} of {report.produced} delivered; stopped: {engine.stopped()}")


if __name__ == "__main__":
    main()
