"""Dead letters, redriven when the code is mended: the sink is that of a run without failures."""

from random import Random

import pytest
from found import Verdict, documents_of, letters_of, rows_of
from issued import answer, answers, answers_but_dead, write_jsonl
from killing import Run
from oracle_stages import PACE
from scenarios import DEAD_LETTER, JSONL_IN, NAMED, SQLITE_OUT, options

SINKS = {
    "sqlite": (SQLITE_OUT, lambda folder: rows_of(folder / "out.db")),
    "jsonl": (
        "--backend jsonl --set backend.path=out.jsonl",
        lambda folder: documents_of(folder / "out.jsonl"),
    ),
}

FULL_SIZE = [pytest.mark.stress, pytest.mark.timeout(600)]
WORKERS = 2


class Redriven:
    """A pipeline on which one record in ten has failed, in a folder."""

    def __init__(self, folder, sink, store, count):
        self.folder = folder
        self.store = store
        self.sink, self.read = SINKS[sink]
        write_jsonl(folder, count)
        Run(folder, ["run", *self.pipeline("@one_in_ten_fails"), "--dead-letters", store]).join(3)
        assert Verdict.of(answers_but_dead(count), self.found()) == Verdict(0, 0, 0)
        assert len(self.letters()) == count // 10

    def pipeline(self, transport):
        """Return the options of the pipeline with that code of its transport."""
        parts = (f"--transport {transport} --workers {WORKERS}", NAMED, DEAD_LETTER, self.sink)
        return options(JSONL_IN, *parts)

    def redrive(self):
        """Begin to redrive what is left, with the code mended; return the process."""
        return Run(self.folder, ["dlq", "redrive", self.store, *self.pipeline("@Answer")])

    def found(self):
        """Return what is at the sink."""
        return self.read(self.folder)

    def letters(self):
        """Return what is in the store."""
        return letters_of(self.folder / self.store)


@pytest.fixture(params=["letters.db", "letters.jsonl"])
def store(request):
    return request.param


@pytest.mark.parametrize("count", [2000, pytest.param(200_000, marks=FULL_SIZE)])
@pytest.mark.parametrize("sink", SINKS)
def test_redriven_the_sink_is_that_of_a_run_without_failures(tmp_path, sink, store, count):
    """One record in ten fails, the code is mended, all are redriven: each is there, once."""
    redriven = Redriven(tmp_path, sink, store, count)
    redriven.redrive().join(0)
    assert Verdict.of(answers(count), redriven.found()) == Verdict(0, 0, 0)
    assert redriven.letters() == []


@pytest.mark.parametrize(("count", "kills"), [(2000, 1), pytest.param(200_000, 5, marks=FULL_SIZE)])
@pytest.mark.parametrize("sink", SINKS)
def test_killed_while_letters_are_redriven(tmp_path, sink, store, count, kills):
    """After kill -9 what has left the store is at the sink, and only what was left may repeat."""
    redriven, random, repeatable = Redriven(tmp_path, sink, store, count), Random(count), 0
    for _ in range(kills):
        work = len(redriven.letters()) * PACE / WORKERS
        run = redriven.redrive()
        run.await_write()
        run.sleep_until(run.seconds() + random.uniform(0, work))
        run.kill()
        left = {answer(number) for _, number, _ in redriven.letters()}
        delivered = set(redriven.found())
        assert answers(count) - left <= delivered
        repeatable += len(delivered & left)
    redriven.redrive().join(0)
    verdict = Verdict.of(answers(count), redriven.found())
    assert (verdict.missing, verdict.foreign) == (0, 0)
    assert verdict.duplicates <= repeatable
    assert redriven.letters() == []
