"""max_failures bounds what a policy lets pass; StopPipeline ends a run in good order."""

import itertools
import threading

import pytest
from workbench import SOON, Keep, assert_accounted, failures_in

from m3 import Backend, Batch, Failure, Frontend, Pipeline, StopPipeline, Transport
from m3.errors import M3Error, PlanError, StageError, TooManyFailuresError


def refuse_negative(number):
    if number < 0:
        raise ValueError(number)
    return number


def lenient(items, **options):
    """Return a pipeline whose transport fails, and goes on, at each negative number."""
    return Pipeline(items).transport(refuse_negative, on_error="skip", **options)


def excess_of(pipeline):
    """Run *pipeline*, which exceeds a limit; return the error and the report."""
    engine = pipeline.engine()
    with pytest.raises(TooManyFailuresError) as caught:
        engine.start()
    report = engine.report()
    assert_accounted(report)
    return caught.value, report


# -- a number of items


def test_a_number_is_how_many_may_fail():
    """With max_failures=100, a hundred items may fail, and the 101st fails the run."""
    report = lenient([-1] * 100 + [1] * 100, max_failures=100).run()
    assert (report.failed, report.delivered) == (100, 100)
    error, report = excess_of(lenient(itertools.repeat(-1), max_failures=100))
    assert (error.failed, error.most, report.failed) == (101, 100, 101)


def test_the_error_says_how_many_and_what_the_last_one_was():
    """The error tells the counts and the limit, and has the stage, item and cause of the last."""
    error, _ = excess_of(lenient([1, -7, 2], max_failures=0))
    assert isinstance(error, StageError)
    assert (error.stage, error.worker, error.item) == ("refuse_negative", 0, -7)
    assert isinstance(error.__cause__, ValueError)
    assert str(error).startswith("1 of 2 items failed, more than max_failures=0; the last: stage")


def test_an_excess_is_told_once():
    """Eight workers that go over the limit at the same time are one failure of the run."""
    together = threading.Barrier(8)

    def refuse(item):
        together.wait(SOON)
        raise ValueError(item)

    engine = Pipeline(range(8)).backend(refuse, workers=8, on_error="skip", max_failures=0).engine()
    with pytest.raises(M3Error) as caught:
        engine.start()
    assert [type(error) for error in failures_in(caught.value)] == [TooManyFailuresError]
    assert engine.report().failed == 8


def test_a_batch_counts_all_its_items():
    """A batch that fails is as many failures as it has items."""

    class Refuse(Backend):
        def process_batch(self, items):
            raise ValueError

    pipeline = Pipeline(range(10)).backend(
        Refuse, on_error="skip", batch=Batch(10, period=60), max_failures=9
    )
    error, report = excess_of(pipeline)
    assert (error.failed, report.failed) == (10, 10)


def test_what_a_frontend_cannot_read_counts():
    """The limit of a frontend counts the Failures that it yields."""
    broken = Failure(ValueError("no record"))
    error, _ = excess_of(Pipeline([1, broken, 2, broken], on_error="skip", max_failures=1))
    assert (error.failed, error.seen) == (2, 4)


def test_chained_stages_have_limits_of_their_own():
    """A stage with workers=0 counts in whatever threads it runs, and those alone."""

    class Fussy(Transport):
        def transport(self, data):
            return refuse_negative(data - 1)

    source = [-1] * 3 + [0] * 3
    pipeline = lenient(source, workers=2, max_failures=3)
    assert pipeline.transport(Fussy, workers=0, on_error="skip", max_failures=3).run().failed == 6
    pipeline = lenient(source, workers=2, max_failures=3)
    error, _ = excess_of(pipeline.transport(Fussy, workers=0, on_error="skip", max_failures=2))
    assert error.stage == "Fussy"


# -- a fraction of the items


def test_a_fraction_is_not_judged_by_the_first_few():
    """The first items may all fail, as long as the fraction of all items is kept."""
    report = lenient([-1] * 50 + [1] * 9950, max_failures=0.01).run()
    assert (report.failed, report.delivered) == (50, 9950)


def test_a_fraction_is_judged_from_the_hundredth_item_on():
    """A source without end that only fails ends the run at once."""
    error, report = excess_of(lenient(itertools.repeat(-1), max_failures=0.5))
    assert (error.failed, error.seen, report.failed) == (100, 100, 100)


def test_a_fraction_is_judged_at_the_end():
    """Of fewer than a hundred items too: three in ten are over a fifth, and the output knows."""
    outcomes = []

    class Output(Backend):
        def process(self, data):
            pass

        def cleanup(self):
            outcomes.append(self.failed)

    items = [-1, -1, -1, 1, 1, 1, 1, 1, 1, 1]
    error, _ = excess_of(lenient(items, workers=3, max_failures=0.2).backend(Output))
    assert (error.failed, error.seen) == (3, 10)
    assert lenient(items, workers=3, max_failures=0.3).backend(Output).run().failed == 3
    assert outcomes == [True, False]


# -- the whole run


def test_the_run_has_a_limit_of_its_own():
    """The failures of all stages add up for the limit of the run."""

    def pipeline(most):
        described = Pipeline([-1, 0, 2], max_failures=most)
        described.transport(refuse_negative, on_error="skip")
        return described.transport(lambda item: 1 // item, on_error="skip", name="divide")

    assert pipeline(2).run().failed == 2
    assert pipeline(0.7).run().failed == 2
    error, _ = excess_of(pipeline(1))
    assert (error.failed, error.stage) == (2, "divide")
    error, _ = excess_of(pipeline(0.5))
    assert (error.failed, error.seen) == (2, 3)


@pytest.mark.parametrize("most", [-1, True, 1.0, 1.5, 0.0, "many", float("nan")])
def test_what_is_no_limit_is_a_mistake(most):
    """It is a whole number or a fraction between 0 and 1; anything else is told, nothing runs."""
    with pytest.raises(PlanError, match=r"refuse_negative.*max_failures"):
        lenient([], max_failures=most).engine()
    with pytest.raises(PlanError, match="max_failures"):
        Pipeline([], max_failures=most).engine()


# -- StopPipeline


def stop_at(number):
    def look(item):
        if item == number:
            raise StopPipeline("found")
        return item

    return look


@pytest.mark.parametrize("kind", ["transport", "backend"])
def test_code_of_a_stage_may_end_the_run(kind):
    """StopPipeline ends the frontends, the rest is delivered, and nothing has failed."""
    pipeline = Pipeline(itertools.count())
    report = getattr(pipeline, kind)(stop_at(10), workers=2, name="look").run()
    assert report.ok
    assert report.stopped
    assert (report.dropped, report.delivered) == (1, report.produced - 1)
    assert report.errors == report.item_errors == ()


def test_an_async_stage_may_end_the_run():
    """The same from an event loop."""

    async def look(item):
        return stop_at(10)(item)

    report = Pipeline(itertools.count()).transport(look).run()
    assert report.ok
    assert report.dropped == 1


def test_a_frontend_may_end_the_run():
    """What it has produced is delivered, and the other frontends end too."""
    kept = []

    class Finite(Frontend):
        def produce(self):
            yield "last"
            raise StopPipeline

    report = Pipeline(Finite).frontend(itertools.repeat("more")).backend(Keep(kept)).run()
    assert report.ok
    assert kept.count("last") == 1
    assert report.delivered == len(kept)
