"""Memory stays flat, however many items pass and however slow the consumer is."""

import subprocess
import sys
from textwrap import dedent

import pytest

PROGRAM = dedent(
    """
    import os, sys
    from m3 import Pipeline

    COUNT = int(sys.argv[1])
    PAGE = os.sysconf("SC_PAGE_SIZE")

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE

    def numbers():
        for number in range(COUNT):
            yield "item %d" % number

    class Slow:
        seen = 0
        least = most = 0

        def process(self, data):
            self.seen += 1
            if self.seen == COUNT // 10:
                self.least = self.most = resident()
            elif self.seen % (COUNT // 20) == 0:
                self.most = max(self.most, resident())
            sum(range(20))

    sink = Slow()
    report = Pipeline(numbers).transport(str.upper).backend(sink).run()
    assert report.delivered == COUNT, report
    assert report.stages[0].wait_out > 0, report
    print(sink.most - sink.least)
    """
)


def growth(count, timeout):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat():
    """
    300,000 items through a consumer that is slower than the producer: growth < 8 MiB.

    The transport is written in C: without the GIL its thread runs no bytecode of its
    own, and what it made is freed only because the loop does so now and then.
    """
    assert growth(300_000, timeout=50) < 8 << 20


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_twenty_million_items():
    """20 million items: growth < 8 MiB."""
    assert growth(20_000_000, timeout=1200) < 8 << 20
