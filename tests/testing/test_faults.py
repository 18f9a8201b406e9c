"""What goes wrong at chosen items."""

import threading
from typing import ClassVar

import pytest

from m3 import Backend, BatchError, Pipeline, Retry, StageError, Transport
from m3.testing import Blocks, Fault, Lags, MemorySink, Raises, faulty


class Plain(Transport):
    def transport(self, data):
        return data


class Expanding(Transport):
    def transport(self, data):
        yield data


class Later(Transport):
    async def transport(self, data):
        return data


class LaterExpanding(Transport):
    async def transport(self, data):
        yield data


class Batching(Transport):
    def process_batch(self, items):
        return items


def function(data):
    return data


SHAPES = [Plain, Expanding, Later, LaterExpanding, Batching, Plain(), Batching(), function]


@pytest.mark.parametrize("stage", SHAPES)
def test_a_stage_of_any_shape_can_be_made_to_fail(stage):
    """A class, an instance or a function, called in any way, raises at the chosen item only."""
    sink = MemorySink()
    broken = faulty(stage, Raises(ValueError("three"), at=[3]))
    described = Pipeline(range(6)).transport(broken, on_error="skip", name="broken", queue_size=1)
    report = described.backend(sink).run()
    assert set(sink.items) <= {0, 1, 2, 4, 5}
    assert report.delivered + report.failed == 6
    assert {str(error.__cause__) for error in report.item_errors} == {"three"}


def test_a_class_keeps_its_name_and_is_left_alone():
    """What is returned for a class is another one of its name; the class itself stays as it was."""
    broken = faulty(MemorySink, Raises(ValueError, at=[1]))
    assert (broken.__name__, broken.__module__) == ("MemorySink", "m3.testing.memory")
    assert issubclass(broken, MemorySink)
    MemorySink().process(1)
    with pytest.raises(ValueError):
        broken().process(1)


def test_a_source_fails_before_it_yields_the_item():
    """A frontend, and an iterable, give the items before the chosen one, and raise."""
    sink = MemorySink()
    with pytest.raises(StageError, match="unplugged"):
        Pipeline(faulty(range(9), Raises(OSError("unplugged"), at=[4]))).backend(sink).run()
    assert sink.items == [0, 1, 2, 3]


def test_items_can_be_chosen_by_a_function_and_for_some_times():
    """With ``times``, the stage fails so often and then works, as retries need it."""
    sink = faulty(MemorySink(), Raises(OSError, at=lambda item: item > 7, times=3))
    report = Pipeline(range(10)).backend(sink, on_error=Retry(4)).run()
    assert sorted(sink.items) == list(range(10))
    assert report.delivered == 10


def test_a_blocked_item_waits_until_it_is_released():
    """Others go on; with one worker nothing does, and the end of the block releases it."""
    sink = MemorySink()
    with Blocks(at=[2]) as block:
        engine = Pipeline(range(5)).backend(faulty(sink, block)).start()
        block.await_arrival()
        assert sink.items == [0, 1]
    engine.wait(60)
    assert sink.items == [0, 1, 2, 3, 4]


def test_waiting_for_an_item_that_never_comes_ends():
    """``await_arrival`` raises when its time is over."""
    with pytest.raises(TimeoutError, match="none of the chosen items"):
        Blocks(at=[1]).await_arrival(timeout=0.01)


def test_a_slow_item_is_overtaken():
    """An item that lags arrives behind as many others as was said, whatever the speeds."""
    sink = MemorySink()
    slow = faulty(lambda item: item, Lags(at=[0], by=5))
    Pipeline(range(9)).transport(slow, workers=2).backend(sink).run()
    assert sorted(sink.items) == list(range(9))
    assert sink.items.index(0) >= 4  # the fifth may be on its way beside it


def test_faults_can_be_written_and_combined():
    """Any fault is met by each item, in the order given, before the stage has it."""
    met = []

    class Watch(Fault):
        def meet(self, item):
            met.append((item, threading.current_thread().name))

    sink = faulty(MemorySink(), Watch(at=()), Raises(ValueError, at=[1]), Watch(at=()))
    Pipeline(range(3)).backend(sink, on_error="skip", name="sink").run()
    assert [item for item, _ in met] == [0, 0, 1, 2, 2]
    assert len({name for _, name in met}) == 1


def test_a_batch_fails_as_a_whole():
    """A fault is about all of the batch: the stage gets none of it."""

    class Store(Backend):
        got: ClassVar[list] = []

        def process_batch(self, items):
            self.got.append(items)
            raise BatchError({0: ValueError("its own")})

    store = faulty(Store(), Raises(OSError("disk full"), at=[1]))
    with pytest.raises(OSError, match="disk full"):
        store.process_batch([0, 1, 2])
    with pytest.raises(BatchError):
        store.process_batch([3])
    assert store.got == [[3]]


def test_what_is_no_stage_is_refused():
    """Something that no pipeline takes is a TypeError."""
    with pytest.raises(TypeError, match="5 is no stage"):
        faulty(5, Raises(ValueError, at=[1]))
