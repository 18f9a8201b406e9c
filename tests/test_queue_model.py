"""BoundedQueue against a deque: the same calls, the same answers."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from m3._queue import BoundedQueue
from m3.errors import Empty, Full, ShutDown


def outcome(call, *args):
    """Return what *call* returns, or the type of what it raises."""
    try:
        return call(*args)
    except (Empty, Full, ShutDown, ValueError) as error:
        return type(error)


class QueueModel(RuleBasedStateMachine):
    """One thread, so nothing may block; ``items`` is what the queue should hold."""

    @initialize(maxsize=st.integers(0, 70), patient=st.booleans(), naps=st.sampled_from([0, 0.001]))
    def make(self, maxsize, patient, naps):
        self.queue = BoundedQueue(maxsize, patient=patient, naps=naps)
        self.items = deque()
        self.closed = False
        self.unfinished = self.puts = self.gets = self.high_water = 0
        self.producers = []

    def room(self):
        limit = self.queue.maxsize or 10**9
        return max(0, limit - len(self.items))

    def accept(self, items):
        self.items.extend(items)
        self.puts += len(items)
        self.unfinished += len(items)
        self.high_water = max(self.high_water, len(self.items))

    @rule(item=st.integers())
    def put(self, item):
        expected = ShutDown if self.closed else None if self.room() else Full
        assert outcome(self.queue.put_nowait, item) is expected
        if expected is None:
            self.accept([item])

    @rule()
    def get(self):
        if self.items:
            assert self.queue.get(timeout=0) == self.items.popleft()
            self.gets += 1
        else:
            assert outcome(self.queue.get_nowait) is (ShutDown if self.closed else Empty)

    @rule(items=st.lists(st.integers(), max_size=200))
    def put_many(self, items):
        fitting = [] if self.closed else items[: self.room()]
        if fitting == items:
            self.queue.put_many(items, block=False)
        else:
            with pytest.raises(ShutDown if self.closed else Full) as caught:
                self.queue.put_many(items, block=False)
            assert caught.value.accepted == len(fitting)
        self.accept(fitting)

    @rule(most=st.integers(1, 200))
    def get_many(self, most):
        count = min(most, len(self.items))
        expected = [self.items.popleft() for _ in range(count)]
        self.gets += count
        got = outcome(self.queue.get_many, most, False)
        assert got == (expected or (ShutDown if self.closed else Empty))

    @rule()
    def task_done(self):
        assert outcome(self.queue.task_done) is (None if self.unfinished else ValueError)
        self.unfinished = max(0, self.unfinished - 1)

    @precondition(lambda self: not self.unfinished)
    @rule()
    def join(self):
        self.queue.join()

    @rule(maxsize=st.integers(-1, 70))
    def resize(self, maxsize):
        self.queue.maxsize = maxsize

    @rule()
    def open_producer(self):
        producer = outcome(self.queue.producer)
        assert (producer is ShutDown) is self.closed
        if not self.closed:
            self.producers.append(producer)

    @precondition(lambda self: self.producers)
    @rule(data=st.data())
    def close_producer(self, data):
        producer = data.draw(st.sampled_from(self.producers))
        producer.close()
        self.producers.remove(producer)
        self.closed = self.closed or not self.producers

    @rule(immediate=st.booleans())
    def shutdown(self, immediate):
        self.queue.shutdown(immediate)
        self.closed = True
        if immediate:
            self.unfinished = max(0, self.unfinished - len(self.items))
            self.items.clear()

    @invariant()
    def the_same_from_outside(self):
        if not hasattr(self, "queue"):
            return
        queue, statistics = self.queue, self.queue.statistics()
        assert queue.qsize() == len(queue) == statistics.size == len(self.items)
        assert queue.empty() is (not self.items)
        assert queue.full() is (self.room() == 0)
        assert queue.is_shutdown is self.closed
        assert queue.unfinished_tasks == self.unfinished
        assert (statistics.puts, statistics.gets) == (self.puts, self.gets)
        assert statistics.high_water == self.high_water


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
