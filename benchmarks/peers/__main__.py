"""
The process of a service: ``python -m benchmarks.peers SYSTEM TAG``.

It says ``ready`` when it serves, and ends when its stdin does.  For a line with a
number it says ``done`` when so many events were handled since the last time; for
an empty line it says how many seconds of the processor it has used.
"""

import os
import sys
import threading
from time import process_time

from benchmarks.peers import load

__all__ = ("main",)


class Counter:
    """Counts events, and says when there were enough."""

    def __init__(self) -> None:
        self.count = self.wanted = 0
        self.lock = threading.Lock()

    def handled(self) -> None:
        """Count one."""
        with self.lock:
            self.count += 1
            self.look()

    def want(self, count: int) -> None:
        """Say when *count* were handled since the last time."""
        with self.lock:
            self.wanted = count
            self.look()

    def look(self) -> None:
        """Say so if it is the case."""
        if self.wanted and self.count >= self.wanted:
            self.count = self.wanted = 0
            print("done", flush=True)


def main(system: str, tag: str) -> None:
    """Serve until stdin ends."""
    peer, counter = load(system), Counter()
    served = peer.serve(tag, counter.handled)
    print("ready", flush=True)
    while line := peer.readline():
        if line.strip():
            counter.want(int(line))
        else:
            print(process_time(), flush=True)
    del served
    os._exit(0)  # connections, threads and green threads end with the process


if __name__ == "__main__":
    main(*sys.argv[1:])
