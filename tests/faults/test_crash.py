"""F2: an item that kills the process: nothing before it is lost, whenever it is run again."""

import signal

import pytest

COUNT = 1000
BAD = 500


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_item_that_kills_the_process(m3_run, workers):
    """
    Each run dies at the item, by its signal; none damages the state or writes anything twice.

    Once the code is mended, the result is exactly that of a run without it.
    """
    (m3_run.folder / "in").write_bytes(b"".join(b"%d\n" % n for n in range(COUNT)))
    words = ["--frontend", "file", "--transport", "faulty:Deadly", "--backend", "file"]
    words += ["--set", "frontend.path=in", "--set", "backend.path=out", "--state", "state"]
    words += ["--set", f"transport.workers={workers}", "--set", "checkpoint_interval=0.001"]
    words += ["--set", "queue_size=8", "--set", "transport.ordering=input"]
    numbers = []
    for _ in range(3):
        ended = m3_run.run(*words)
        assert ended.code == -signal.SIGABRT
        numbers.append(m3_run.last_checkpoint())
        lines = (m3_run.folder / "out").read_bytes().split()
        assert lines == [b"%d" % n for n in range(len(lines))]
        assert len(lines) <= BAD
    assert numbers == sorted(numbers)
    ended = m3_run.run(*words, "--set", "transport.item=none")
    assert ended.code == 0, ended.said
    assert (m3_run.folder / "out").read_bytes() == (m3_run.folder / "in").read_bytes()
