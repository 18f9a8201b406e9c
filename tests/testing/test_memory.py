"""The source and the sink in memory, as tests of pipelines use them."""

import pytest

from m3 import Pipeline, StageError, StateError
from m3.testing import MemorySink, MemorySource, Raises, faulty


def test_a_source_says_what_became_of_its_items():
    """Each position is acknowledged or refused, with the error, once."""
    source, sink = MemorySource("abc"), MemorySink()
    check = faulty(lambda item: item, Raises(ValueError("no b"), at="b"))
    Pipeline(source).transport(check, on_error="skip").backend(sink).run()
    assert sink.items == ["a", "c"]
    assert sorted(source.acked) == [0, 2]
    [(position, error)] = source.nacked
    assert (position, str(error)) == (1, "no b")


def test_both_go_on_over_several_runs(tmp_path):
    """With state, a later run undoes what came after the checkpoint and goes on behind it."""
    source, sink = MemorySource(range(100)), MemorySink()
    broken = faulty(lambda item: item, Raises(ValueError, at=[70], times=1))
    pipeline = Pipeline(source, state=tmp_path, checkpoint_interval=0.001)
    pipeline.transport(broken).backend(sink)
    with pytest.raises(StageError):
        pipeline.run()
    pipeline.run()
    source.items += ["more"]
    pipeline.run()
    assert sink.items == [*range(100), "more"]
    assert (source.resumed[0], source.resumed[2]) == (None, 99)
    assert sink.resumed[-1] == 100
    assert sink.commits[-1] == 101


def test_what_is_not_there_any_more_is_refused():
    """A checkpoint behind the end, or a mark of more items than there are, is an error."""
    with pytest.raises(StateError, match="no item at 3; the source has 3"):
        MemorySource("abc").resume(3)
    with pytest.raises(StateError, match="1 items were committed"):
        MemorySink().resume(1)
