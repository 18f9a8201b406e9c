"""Signals at any moment: the right exit code, a whole state, and the next run goes on exactly."""

import random
import signal
import sqlite3
import time
from contextlib import closing

import pytest

COUNT = 3000
REFUSED = 2


class Storm:
    """Runs of one pipeline that are ended by signals, one after the other, until it is done."""

    def __init__(self, runner, sink):
        self.runner = runner
        self.sink = sink
        self.codes = []
        with (runner.folder / "in.jsonl").open("w") as file:
            file.writelines(f'{{"id": {n}}}\n' for n in range(COUNT))

    def words(self):
        words = ["--frontend", "jsonl", "--transport", "faulty:Slow", "--backend", self.sink]
        for option in (
            *("frontend.path=in.jsonl", f"backend.path={self.path}", "queue_size=16"),
            *("transport.workers=4", "transport.seconds=0.0005", "checkpoint_interval=0.01"),
            *(["backend.table=items"] if self.sink == "sqlite" else []),
        ):
            words += ["--set", option]
        return [*words, "--state", "state"]

    @property
    def path(self):
        return self.runner.folder / "out"

    def strike(self, chance, numbers):
        """Run it, with each signal after a random while; return the exit code."""
        process = self.runner.start(*self.words())
        if chance.random() < 0.8:
            assert process.stderr.readline().startswith(b"m3: delivery")
        for number in numbers:
            time.sleep(chance.uniform(0, 0.2) / len(numbers))
            process.send_signal(number)
        ended = self.runner.end(process)
        if is_before_m3(ended):
            return -numbers[0]
        assert "Traceback" not in ended.said, ended.said
        self.codes.append(ended.code)
        if ended.counts:
            assert ended.is_accounted_for()
        return ended.code

    def finish(self):
        """Run it to its end; check that the result is exact."""
        ended = self.runner.run(*self.words())
        assert ended.code == 0, ended.said
        assert sorted(self.ids()) == list(range(COUNT))

    def ids(self):
        if self.sink == "sqlite":
            with closing(sqlite3.connect(self.path)) as connection:
                return [number for (number,) in connection.execute("SELECT id FROM items")]
        return [int(line[6:-1]) for line in self.path.read_text().splitlines()]


def strike_often(runner, sink, *, seed, times):
    """Strike so many times, and finish now and then; return the exit codes."""
    chance = random.Random(seed)
    storm = Storm(runner, sink)
    for _ in range(times):
        first = chance.choice((signal.SIGINT, signal.SIGTERM))
        numbers = [first, *chance.choices((signal.SIGINT, signal.SIGTERM), k=chance.randrange(4))]
        code = storm.strike(chance, numbers)
        assert code in expected(numbers), (code, numbers)
    storm.finish()
    return storm.codes


def is_before_m3(ended):
    """Tell whether Ctrl-C came while the interpreter started, and knew nothing of m3 yet."""
    interrupted = ("KeyboardInterrupt", "Fatal Python error: init_")  # and perhaps killed since
    return any(words in ended.said for words in interrupted) and "m3: " not in ended.said


def expected(numbers):
    """Return the exit codes that are right: ended by a signal, or at its end before that."""
    return {0, *(-number for number in numbers), *(128 + number for number in numbers)}


@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
def test_signals_at_any_moment(m3_run, sink):
    """SIGINT and SIGTERM, one to six of them: ended by a signal; the next run goes on exactly."""
    strike_often(m3_run, sink, seed=1, times=8)


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sink", ["jsonl", "sqlite"])
@pytest.mark.parametrize("seed", range(10))
def test_a_storm_of_signals(m3_run, sink, seed):
    """The same, 20 times per run of the test."""
    codes = strike_often(m3_run, sink, seed=100 + seed, times=20)
    print(sink, {code: codes.count(code) for code in sorted(set(codes))})
