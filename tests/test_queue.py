"""BoundedQueue: the five sentences of the design, and the API of queue.Queue."""

import gc
import inspect
import math
import os
import queue as stdlib_queue
import resource
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from m3._queue import BoundedQueue, Producer
from m3.errors import Empty, Full, ShutDown


def wait_until(condition):
    """Let other threads run until *condition* holds; the time limit of the test ends it."""
    while not condition():
        os.sched_yield()


def run_threads(*functions):
    """Run *functions* in a thread each, all from the same moment; return their results."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result() for future in futures]


@pytest.fixture
def in_thread():
    """Start functions in threads; at the end wait for them."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


# -- 1: a drop-in queue.Queue -------------------------------------------------

QUEUE_METHODS = [
    "empty",
    "full",
    "get",
    "get_nowait",
    "join",
    "put",
    "put_nowait",
    "qsize",
    "shutdown",
    "task_done",
]


@pytest.mark.parametrize("name", QUEUE_METHODS)
def test_signatures_are_those_of_queue(name):
    """Each method takes the arguments of queue.Queue's, by the same names."""
    if not hasattr(stdlib_queue.Queue, name):
        pytest.skip(f"queue.Queue has no {name} before CPython 3.13")

    def arguments(cls):
        parameters = inspect.signature(getattr(cls, name)).parameters.values()
        return [(p.name, p.default) for p in parameters]

    assert arguments(BoundedQueue) == arguments(stdlib_queue.Queue)


def test_every_documented_attribute_is_there():
    """Nothing public of queue.Queue is missing but its locks."""
    locks = {"mutex", "not_empty", "not_full", "all_tasks_done", "queue"}
    theirs = {name for name in vars(stdlib_queue.Queue()) if not name.startswith("_")}
    theirs |= {name for name in dir(stdlib_queue.Queue) if not name.startswith("_")}
    assert theirs - locks <= set(dir(BoundedQueue))


def test_exceptions_are_those_of_queue():
    """Code that catches queue.Full and queue.Empty keeps working, and ShutDown from 3.13."""
    queue = BoundedQueue(1)
    with pytest.raises(stdlib_queue.Empty):
        queue.get_nowait()
    queue.put(1)
    with pytest.raises(stdlib_queue.Full):
        queue.put_nowait(2)
    assert ShutDown is getattr(stdlib_queue, "ShutDown", ShutDown)


def test_keywords_of_the_constructor():
    """maxsize may be given by position or name; 0 and less is no bound."""
    assert BoundedQueue(3).maxsize == BoundedQueue(maxsize=3).maxsize == 3
    assert BoundedQueue().maxsize == BoundedQueue(-1).maxsize == 0
    with pytest.raises(TypeError):
        BoundedQueue("3")


def test_maxsize_may_be_anything_an_int_can_be():
    """A bound larger than any memory is no error, as with queue.Queue."""
    queue = BoundedQueue(sys.maxsize)
    queue.put(1)
    assert queue.get() == 1


def test_a_subclass_may_have_its_own_constructor():
    """As with queue.Queue, the arguments of a subclass are its own."""

    class Named(BoundedQueue):
        def __init__(self, name, *, size):
            super().__init__(size)
            self.name = name

    queue = Named("inbox", size=2)
    assert (queue.name, queue.maxsize) == ("inbox", 2)


def test_it_is_true_when_empty():
    """`if queue:` asks whether there is a queue, as with queue.Queue."""
    assert BoundedQueue()
    assert len(BoundedQueue()) == 0


def test_generic_alias():
    """BoundedQueue[int] works in annotations, as queue.Queue[int] does."""
    assert BoundedQueue[int].__origin__ is BoundedQueue


def test_raising_maxsize_wakes_a_blocked_put(in_thread):
    """A larger bound is room at once, for everybody who waits."""
    queue = BoundedQueue(1)
    queue.put(0)
    blocked = [in_thread(queue.put, i) for i in (1, 2, 3)]
    wait_until(lambda: queue.statistics().putters == 3)
    queue.maxsize = 4
    for put in blocked:
        put.result()
    assert queue.qsize() == 4


@pytest.mark.parametrize("timeout", [-1, -0.5, math.nan])
def test_a_timeout_is_not_negative(timeout):
    """A negative timeout is refused also when there is no need to wait."""
    queue = BoundedQueue(2)
    queue.put(1)
    with pytest.raises(ValueError, match="non-negative"):
        queue.get(timeout=timeout)
    with pytest.raises(ValueError, match="non-negative"):
        queue.put(1, timeout=timeout)
    assert queue.qsize() == 1


def test_timeouts_end_in_time():
    """A timeout is waited for, and not much longer."""
    queue = BoundedQueue(1)
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.05)
    queue.put(1)
    with pytest.raises(Full):
        queue.put(2, timeout=0.05)
    assert 0.1 <= time.monotonic() - began < 5


def test_join_waits_for_task_done(in_thread):
    """join returns when task_done was called for the last item, not before."""
    queue = BoundedQueue()
    queue.put_many(range(3))
    joined = in_thread(queue.join)
    for _ in range(3):
        assert not joined.done()
        queue.get()
        queue.task_done()
    joined.result()
    assert queue.unfinished_tasks == 0
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()


def test_shutdown_lets_consumers_finish():
    """After shutdown puts are refused at once; gets take what is left first."""
    queue = BoundedQueue(2)
    queue.put("a")
    queue.shutdown()
    assert queue.is_shutdown
    for put in (queue.put, queue.put_nowait, lambda item: queue.put(item, timeout=1)):
        with pytest.raises(ShutDown):
            put("b")
    assert queue.get() == "a"
    for get in (queue.get, queue.get_nowait, lambda: queue.get(timeout=1)):
        with pytest.raises(ShutDown):
            get()


def test_immediate_shutdown_discards():
    """shutdown(immediate=True) empties the queue, marks its items done and frees join."""
    queue = BoundedQueue()
    queue.put_many(range(5))
    queue.shutdown(immediate=True)
    queue.join()
    assert queue.empty()
    assert (queue.statistics().puts, queue.statistics().gets) == (5, 0)
    with pytest.raises(ShutDown):
        queue.get()


@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown_wakes_all_who_are_blocked(in_thread, immediate):
    """Blocked putters and getters of any kind see ShutDown."""
    empty, full = BoundedQueue(), BoundedQueue(1)
    full.put(0)
    blocked = [in_thread(empty.get), in_thread(empty.get, timeout=60), in_thread(empty.get_many, 3)]
    blocked += [in_thread(full.put, 1), in_thread(full.put_many, [1, 2])]
    wait_until(lambda: empty.statistics().getters == 3 and full.statistics().putters == 2)
    empty.shutdown(immediate)
    full.shutdown(immediate)
    for call in blocked:
        with pytest.raises(ShutDown):
            call.result()


# -- 2: batches, producers, statistics ----------------------------------------


def test_batches_are_in_order():
    """put_many and get_many keep the order, through many growths of the ring."""
    queue = BoundedQueue()
    queue.put_many(iter(range(1000)))
    assert queue.get_many(300) == list(range(300))
    assert queue.get_many(10_000) == list(range(300, 1000))


def test_get_many_waits_for_the_first_only(in_thread):
    """get_many blocks while the queue is empty and takes just what is there."""
    queue = BoundedQueue()
    taken = in_thread(queue.get_many, 10)
    wait_until(lambda: queue.statistics().getters == 1)
    queue.put("a")
    assert taken.result() == ["a"]


def test_get_many_arguments():
    """At least one item must be asked for; block and timeout are get's."""
    queue = BoundedQueue()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"not {wrong}"):
            queue.get_many(wrong)
    with pytest.raises(Empty):
        queue.get_many(1, block=False)
    with pytest.raises(Empty):
        queue.get_many(1, timeout=0.01)
    queue.put(None)
    assert queue.get_many(sys.maxsize) == [None]


@pytest.mark.parametrize("wait", [{"block": False}, {"timeout": 0.01}, {"timeout": 0}])
def test_put_many_says_how_many_it_put(wait):
    """What of a batch found no room is not in the queue, and Full tells."""
    queue = BoundedQueue(3)
    with pytest.raises(Full) as caught:
        queue.put_many("abcde", **wait)
    assert caught.value.accepted == 3
    assert queue.get_many(9) == ["a", "b", "c"]


def test_put_many_says_how_many_at_shutdown(in_thread):
    """A shutdown during put_many leaves what was accepted to the consumers."""
    queue = BoundedQueue(2)
    putting = in_thread(queue.put_many, range(5))
    wait_until(lambda: queue.statistics().putters == 1)
    assert queue.get() == 0
    wait_until(lambda: queue.statistics().putters == 1 and queue.full())
    queue.shutdown()
    with pytest.raises(ShutDown) as caught:
        putting.result()
    assert caught.value.accepted == 3
    assert queue.get_many(9) == [1, 2]


def test_put_many_of_an_iterable_that_fails():
    """All of the iterable is read first, so a failure in it puts nothing."""

    def items():
        yield 1
        raise OSError

    queue = BoundedQueue()
    with pytest.raises(OSError) as caught:
        queue.put_many(items())
    assert caught.value.accepted == 0
    assert queue.empty()


def test_put_many_of_a_list_that_shrinks(in_thread):
    """put_many puts what the list held when it was called, whatever happens to the list."""
    queue = BoundedQueue(1)
    items = [[i] for i in range(10)]
    putting = in_thread(queue.put_many, items)
    wait_until(lambda: queue.statistics().putters == 1)
    items.clear()
    assert [queue.get() for _ in range(10)] == [[i] for i in range(10)]
    putting.result()


def test_the_last_producer_ends_the_stream(in_thread):
    """Consumers take all that is left, then see the end; it is a state, not an item."""
    queue = BoundedQueue()
    first, second = queue.producer(), queue.producer()
    with first:
        queue.put(1)
    first.close()
    assert not queue.is_shutdown
    blocked = [in_thread(queue.get) for _ in range(3)]
    with second:
        queue.put(2)
    results = [call.exception() or call.result() for call in blocked]
    assert sorted(result for result in results if isinstance(result, int)) == [1, 2]
    assert [type(result) for result in results].count(ShutDown) == 1
    assert queue.is_shutdown
    assert queue.empty()


def test_no_producer_after_the_end():
    """A producer of a queue that is shut down is refused and counts for nothing."""
    queue = BoundedQueue()
    queue.producer().close()
    for make in (queue.producer, lambda: Producer(queue)):
        with pytest.raises(ShutDown):
            make()


def test_a_producer_that_is_forgotten_is_closed():
    """A producer that is garbage ends the stream like a closed one."""
    queue = BoundedQueue()
    producer = queue.producer()
    del producer
    gc.collect()
    assert queue.is_shutdown


def test_a_producer_in_a_cycle_is_closed():
    """... also when only the garbage collector can find it."""
    queue = BoundedQueue()

    class Holder:
        pass

    holder = Holder()
    holder.producer, holder.self = queue.producer(), holder
    del holder
    gc.collect()
    assert queue.is_shutdown


def test_a_queue_in_a_cycle_is_collected():
    """A queue that holds itself and a producer of its own is garbage like anything else."""

    class Item:
        pass

    queue, item = BoundedQueue(), Item()
    item.queue, item.producer = queue, queue.producer()
    queue.put_many([item, queue])
    alive = weakref.ref(item), weakref.ref(queue)
    del queue, item
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


def test_making_producers_races_with_closing_them(hurried):
    """A producer is refused or keeps the queue open, never something in between."""
    for _ in range(300):
        queue = BoundedQueue()
        last = queue.producer()

        def make(queue=queue):
            try:
                producer = queue.producer()
            except ShutDown:
                return True
            queue.put("still open")
            producer.close()
            return queue.get() == "still open"

        assert run_threads(last.close, make)[1]
        assert queue.is_shutdown


def test_statistics_count(in_thread):
    """Puts, gets, the high-water mark, and the seconds that either side waited."""
    queue = BoundedQueue(2)
    queue.put_many("ab")
    blocked = in_thread(queue.put, "c")
    wait_until(lambda: queue.statistics().putters == 1)
    assert queue.get_many(2) == ["a", "b"]
    blocked.result()
    assert queue.get() == "c"
    getting = in_thread(queue.get)
    wait_until(lambda: queue.statistics().getters == 1)
    queue.put("d")
    getting.result()
    statistics = queue.statistics()
    assert statistics._replace(put_wait=0, get_wait=0) == (0, 2, 4, 4, 0, 0, 2, 0, 0)
    assert statistics.put_wait > 0
    assert statistics.get_wait > 0


# -- 3: blocking --------------------------------------------------------------


@pytest.mark.parametrize("side", ["put", "get", "join"])
def test_a_blocked_thread_costs_nothing(in_thread, side):
    """Neither CPU time nor wake-ups are spent while blocked."""
    queue = BoundedQueue(1)
    if side != "get":
        queue.put(0)
    call = {"put": lambda: queue.put(1), "get": queue.get, "join": queue.join}[side]
    started = threading.Event()

    def measure():
        before = resource.getrusage(resource.RUSAGE_THREAD)
        started.set()
        call()
        after = resource.getrusage(resource.RUSAGE_THREAD)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu, after.ru_nvcsw - before.ru_nvcsw

    measured = in_thread(measure)
    started.wait()
    threading.Event().wait(0.5)
    {"put": queue.get, "get": lambda: queue.put(1), "join": queue.task_done}[side]()
    cpu, switches = measured.result()
    assert cpu < 0.05
    assert switches <= 5


def test_an_item_reaches_each_idle_consumer(in_thread):
    """One who takes an item and never comes back does not keep the others from theirs."""
    queue = BoundedQueue()
    stuck = threading.Event()

    def take_and_get_stuck():
        item = queue.get()
        stuck.wait()
        return item

    calls = [in_thread(take_and_get_stuck) for _ in range(8)]
    wait_until(lambda: queue.statistics().getters == 8)
    queue.put_many(range(5))
    for item in (5, 6, 7):
        queue.put(item)
    wait_until(queue.empty)
    stuck.set()
    assert sorted(call.result() for call in calls) == list(range(8))


def test_a_slot_reaches_each_blocked_producer(in_thread):
    """Every free slot wakes a producer, though the one before may be gone for good."""
    queue = BoundedQueue(4)
    queue.put_many([None] * 4)
    stuck = threading.Event()

    def put_and_get_stuck():
        queue.put(1)
        stuck.wait()

    calls = [in_thread(put_and_get_stuck) for _ in range(4)]
    wait_until(lambda: queue.statistics().putters == 4)
    assert queue.get_many(3) == [None] * 3
    wait_until(lambda: queue.statistics().putters == 1)
    assert queue.get() is None
    wait_until(queue.full)
    stuck.set()
    for call in calls:
        call.result()


@pytest.mark.parametrize("producers", [1, 5])
def test_patient_producers_get_the_next_slot_too(in_thread, producers):
    """A patient queue wakes its producers late, but wakes them for a single slot."""
    queue = BoundedQueue(100, patient=True)
    queue.put_many(range(100))
    calls = [in_thread(queue.put, -1) for _ in range(producers)]
    for item in range(producers):
        assert queue.get() == item
    for call in calls:
        call.result()


def test_an_elastic_queue_stretches_for_cheap_items_and_comes_back(in_thread):
    """Its bound grows while it drains at once, up to its stretch, and shrinks when it does not."""
    queue = BoundedQueue(4, patient=True, stretch=16)
    source = in_thread(lambda: [queue.put(number) for number in range(20_000)])
    assert [queue.get() for _ in range(20_000)] == list(range(20_000))
    source.result()
    assert 4 < queue.statistics().high_water <= 16
    queue.put_many(range(queue.maxsize))
    with pytest.raises(Full):
        queue.put("one more", timeout=0.05)
    assert queue.maxsize == 4
    queue.get_many(16)
    queue.put_many(range(4), block=False)
    assert queue.full()


class Napping:
    """A queue with naps, and a consumer that is about to wait for its next items."""

    def __init__(self, in_thread, nap):
        self.queue = BoundedQueue(16, naps=nap)
        self.in_thread = in_thread
        self.call = None
        for _ in range(16):  # so many waits are prompt before the first nap
            self.wait()
            assert self.put(1)
            assert self.call.result() == [0]

    def wait(self):
        self.call = self.in_thread(self.queue.get_many, 100)
        wait_until(lambda: self.queue.statistics().getters == 1)

    def put(self, count):
        """Put so many items; return whether the last of them has woken the consumer."""
        self.queue.put_many(range(count))
        return self.queue.statistics().getters == 0


def test_cheap_items_come_several_at_a_wake(in_thread):
    """A consumer that has waited often is woken when half of the queue is full, and not before."""
    napping = Napping(in_thread, nap=1000.0)
    for _ in range(3):
        napping.wait()
        assert not napping.put(7)
        assert napping.put(1)
        assert napping.call.result() == [*range(7), 0]


def test_a_nap_that_brings_little_is_not_soon_repeated(in_thread):
    """After a nap of fewer than four items, single items are handed over at once for a while."""
    napping = Napping(in_thread, nap=0.001)
    for prompt in (32, 64):
        with pytest.raises(Empty):
            in_thread(napping.queue.get, timeout=0.05).result()  # the main thread looks for signals
        for _ in range(prompt):
            napping.wait()
            assert napping.put(1)
            assert napping.call.result() == [0]


def test_the_end_and_a_deadline_end_a_nap(in_thread):
    """A consumer that naps sees the end of the stream at once, and keeps its own deadline."""
    queue = BoundedQueue(64, naps=1000.0)
    for _ in range(100):
        with pytest.raises(Empty):
            queue.get(timeout=1e-4)
    waiting = in_thread(queue.get)
    wait_until(lambda: queue.statistics().getters == 1)
    queue.shutdown()
    with pytest.raises(ShutDown):
        waiting.result()


def test_late_ones_leave_the_line_to_those_behind(in_thread):
    """A timeout of the first in line neither takes nor hides an item from the next."""
    queue = BoundedQueue()
    for _ in range(50):
        late = in_thread(queue.get, timeout=0.001)
        patient = in_thread(queue.get)
        wait_until(lambda late=late: late.done() or queue.statistics().getters == 2)
        queue.put("item")
        if late.exception() is None:
            queue.put("another")
        assert patient.result() is not None
        assert queue.empty()


# -- 4: FIFO per producer; more under stress in tests/stress ------------------


@pytest.mark.parametrize("maxsize", [0, 1, 2, 100])
def test_each_item_once_and_in_order(hurried, maxsize):
    """Three producers, three consumers: nothing lost, doubled or overtaken."""
    queue = BoundedQueue(maxsize)
    handles = [queue.producer() for _ in range(3)]

    def produce(number):
        def run():
            with handles[number]:
                for i in range(500):
                    queue.put((number, i))

        return run

    def consume():
        taken = []
        while True:
            try:
                taken.append(queue.get())
            except ShutDown:
                return taken

    results = run_threads(*map(produce, range(3)), *[consume] * 3)[3:]
    assert sorted(chain.from_iterable(results)) == [(n, i) for n in range(3) for i in range(500)]
    for taken in results:
        for number in range(3):
            mine = [i for n, i in taken if n == number]
            assert mine == sorted(mine)


# -- 5: nothing of Python runs inside -----------------------------------------


class Hostile:
    """An item that uses the queue it was in from every method that could be called."""

    def __init__(self, queue):
        self.queue = queue

    def touch(self, *_):
        self.queue.qsize()
        self.queue.put_nowait("from inside")
        self.queue.get_nowait()
        return False

    __eq__ = __lt__ = __bool__ = __del__ = touch
    __hash__ = None


def test_items_may_use_the_queue_when_they_die():
    """An item's __del__ may put and get, when discarded, overwritten or cleared."""
    queue = BoundedQueue()
    for _ in range(200):
        queue.put(Hostile(queue))
    queue.get()
    queue.get_many(10)
    clearing = BoundedQueue()
    clearing.put_many([Hostile(queue) for _ in range(100)])
    clearing.shutdown(immediate=True)
    dying = BoundedQueue()
    dying.put_many([Hostile(queue) for _ in range(100)])
    del dying
    assert queue.qsize() == 189


def test_items_that_put_into_the_queue_being_discarded():
    """__del__ of a discarded item finds the queue shut down, and empties nothing twice."""
    queue, seen = BoundedQueue(), []

    class Item:
        def __del__(self):
            try:
                queue.put(self)
            except ShutDown:
                seen.append(queue.qsize())

    queue.put_many([Item() for _ in range(5)])
    queue.shutdown(immediate=True)
    assert len(seen) == 5
    queue.join()


def test_references_are_handed_over():
    """The queue keeps an item alive, and nothing but the queue does."""

    class Item:
        pass

    queue = BoundedQueue(2)
    for put, get in (
        (queue.put, queue.get),
        (queue.put_nowait, queue.get_nowait),
        (lambda item: queue.put_many([item]), lambda: queue.get_many(1)[0]),
    ):
        put(Item())
        alive = weakref.ref(queue.get())
        assert alive() is None
        put(Item())
        item = get()
        assert sys.getrefcount(item) == 2


def test_a_queue_that_dies_frees_its_items():
    """The items of a queue that nobody holds any more are freed with it."""

    class Item:
        pass

    queue, item = BoundedQueue(), Item()
    queue.put(item)
    alive = weakref.ref(item)
    del item, queue
    gc.collect()
    assert alive() is None
