"""results(): iterate over what the last transport returns, and leave when you like."""

import gc
import itertools
import threading

import pytest
from workbench import SOON, Blocked, in_thread, meet

from m3 import Pipeline
from m3.errors import EngineStateError, PlanError, StageError


def test_results_are_all_there():
    """Iterating gives every result, and the report counts them as delivered."""
    engine = Pipeline(range(1000)).transport(lambda item: item * 2, workers=3).engine()
    with engine.results() as results:
        assert sorted(results) == list(range(0, 2000, 2))
    report = engine.report()
    assert (report.delivered, report.state, report.ok) == (1000, "finished", True)
    assert list(results) == []


def test_results_without_a_transport_are_the_items():
    """A frontend alone gives its own items, and None is one like any other."""
    with Pipeline([1, None, 2]).results() as results:
        assert list(results) == [1, None, 2]


def test_leaving_early_abandons_the_rest():
    """Leaving the block stops the pipeline; what was not taken is abandoned, and accounted for."""
    engine = Pipeline(itertools.count()).transport(str, queue_size=5).engine()
    with engine.results() as results:
        taken = list(itertools.islice(results, 3))
    assert taken == ["0", "1", "2"]
    report = engine.report()
    assert report.state == "finished"
    assert report.delivered == 3
    assert report.abandoned == report.produced - 3 > 0


def test_results_that_are_dropped_end_the_run():
    """Without a block too: when nobody refers to the results any more, the run ends."""
    engine = Pipeline(itertools.count()).transport(str).engine()
    for result in engine.results():
        assert result == "0"
        break
    gc.collect()
    for worker in engine.workers:
        worker.thread.join(SOON)
    assert engine.stopped()
    assert engine.report().delivered == 1


def test_a_failure_comes_after_the_results_before_it():
    """What was delivered before a frontend failed is given, then the failure is raised."""

    def source():
        yield from range(3)
        raise OSError

    kept = []
    with pytest.raises(StageError), Pipeline(source).transport(str).results() as results:
        kept.extend(results)
    assert kept == ["0", "1", "2"]


def test_a_failure_of_the_block_comes_out_as_it_is():
    """An exception of the caller's own ends the run and is not covered by another."""
    engine = Pipeline(itertools.count()).engine()
    with pytest.raises(KeyError), engine.results() as results:
        next(results)
        raise KeyError
    assert engine.stopped()


def test_leaving_a_block_raises_what_has_failed_meanwhile():
    """A failure that the caller did not see because it left early is raised at the end."""
    failed = threading.Event()

    def refuse(item):
        if item == 1:
            failed.set()
            raise ValueError
        return item

    pipeline = Pipeline(range(10)).transport(refuse)
    with pytest.raises(StageError), pipeline.results() as results:
        assert next(results) == 0
        meet(failed)


def test_results_need_a_pipeline_without_backend():
    """A backend would get the results, so the pipeline is refused, and an engine runs once."""
    with pytest.raises(PlanError, match="without a backend"):
        Pipeline([1]).backend(print).results()
    engine = Pipeline([1]).engine()
    assert list(engine.results()) == [1]
    with pytest.raises(EngineStateError):
        engine.results()


def test_a_result_is_there_as_soon_as_it_is_made():
    """No result waits for the next."""
    gate = threading.Event()
    with Pipeline(Blocked(gate, [1])).transport(str).results() as results:
        assert next(results) == "1"
        gate.set()


def test_a_stop_while_another_thread_iterates():
    """stop() from elsewhere drains into the hands of who iterates, whose loop then ends."""
    engine = Pipeline(itertools.count()).transport(str, queue_size=3).engine()
    results = engine.results()
    assert next(results) == "0"
    taken = in_thread(lambda: list(results))
    report = engine.stop(timeout=SOON)
    assert len(taken()) + 1 == report.delivered == report.produced
    assert report.abandoned == 0
