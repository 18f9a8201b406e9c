"""RecordQueue: numpy records in blocks of any size, and never a torn one."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3._records import RecordQueue
from m3.errors import Empty, Full, ShutDown

POINT = np.dtype([("number", "i8"), ("twice", "i8"), ("name", "S5"), ("xyz", "f4", (3,))])


def points(numbers):
    """Return records whose fields can be checked against each other."""
    numbers = np.asarray(numbers, "i8")
    records = np.zeros(len(numbers), POINT)
    records["number"], records["twice"] = numbers, numbers * 2
    records["name"] = numbers.astype("S5")
    records["xyz"] = numbers[:, None] % 1000
    return records


def drain(queue, take):
    """Take until the end of the stream; return all records in one array."""
    blocks = []
    while True:
        try:
            blocks.append(take())
        except ShutDown:
            return np.concatenate(blocks) if blocks else np.empty(0, queue.dtype)


def wait_until(condition):
    """Let other threads run until *condition* holds; the time limit of the test ends it."""
    while not condition():
        os.sched_yield()


@pytest.fixture
def in_thread(hurried):
    """Start functions in threads that switch as often as they can; at the end wait for them."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


@pytest.mark.parametrize(
    "dtype",
    ["u1", "f8", ">i4", "c16", "S7", "U3", "M8[ns]", "?", POINT, np.dtype(POINT, align=True)],
)
def test_round_trip(dtype):
    """Records of any dtype without objects come out as they went in."""
    queue = RecordQueue(dtype, 5)
    raw = np.random.default_rng(1).integers(0, 2, 4 * queue.dtype.itemsize, "u1")
    records = raw.view(queue.dtype)
    for _ in range(3):
        queue.put(records)
        taken = queue.get(4)
        assert taken.dtype == queue.dtype
        assert taken.tobytes() == records.tobytes()


def test_what_comes_out_belongs_to_the_caller():
    """A block taken is a copy: neither side sees what the other does to it later."""
    queue = RecordQueue("i4", 4)
    block = np.arange(3, dtype="i4")
    queue.put(block)
    block[:] = 0
    taken = queue.get(3)
    assert taken.tolist() == [0, 1, 2]
    assert taken.flags.owndata
    assert taken.flags.writeable


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("b", "O")]])
def test_objects_are_refused(dtype):
    """A dtype with Python objects is refused, and the message says what to use instead."""
    with pytest.raises(TypeError, match="BoundedQueue"):
        RecordQueue(dtype, 10)


@pytest.mark.parametrize("dtype", [("f4", (3,)), "S0", "V0"])
def test_a_record_has_a_size_of_its_own(dtype):
    """Sub-arrays, which numpy would take apart, and empty records are refused."""
    with pytest.raises(TypeError, match="size of its own"):
        RecordQueue(dtype, 10)


@pytest.mark.parametrize("capacity", [0, -1])
def test_capacity_is_positive(capacity):
    """A queue for no records is refused."""
    with pytest.raises(ValueError, match="at least 1"):
        RecordQueue("f8", capacity)


def test_absurd_capacity():
    """A capacity beyond all memory is a MemoryError, not a crash."""
    with pytest.raises((MemoryError, OverflowError)):
        RecordQueue("f8", sys.maxsize)


@pytest.mark.parametrize(
    "array", [np.zeros(3, "f8"), np.zeros(3, "i4"), ["x"], np.zeros(3, [("a", "f4")]), None]
)
def test_unsafe_conversions_are_refused(array):
    """What could lose something is for the caller to convert; nothing is put."""
    queue = RecordQueue("f4", 10)
    with pytest.raises(TypeError, match="does not convert to it safely") as caught:
        queue.put(array)
    assert caught.value.accepted == 0
    assert queue.empty()


def test_fields_are_matched_by_name():
    """Records whose fields have other names are not the same records."""
    queue = RecordQueue([("x", "f8"), ("y", "f8")], 10)
    with pytest.raises(TypeError):
        queue.put(np.zeros(1, [("y", "f8"), ("x", "f8")]))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10, dtype="f8")[::2],
        np.arange(0, 10, 2, dtype=">f8"),
        np.arange(0, 10, 2, dtype="i4"),
        np.arange(10, dtype="f8")[::-1][1::2][::-1],
        [0, 2, 4, 6, 8],
    ],
)
def test_safe_conversions_are_made(array):
    """Strided, byte-swapped and smaller numbers are converted on the way in."""
    queue = RecordQueue("f8", 10)
    queue.put(array)
    assert queue.get(5).tolist() == [0, 2, 4, 6, 8]


def test_shapes():
    """A single record is a block of one; more than one dimension is an error."""
    queue = RecordQueue("f8", 10)
    queue.put(np.float64(1.5))
    queue.put(np.zeros(0))
    assert queue.get(1).tolist() == [1.5]
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        queue.put(np.zeros((2, 3)))
    assert queue.empty()


@pytest.mark.parametrize("wait", [{"block": False}, {"timeout": 0.01}, {"timeout": 0}])
def test_a_put_that_finds_no_room_says_how_far_it_came(wait):
    """``accepted`` records of the block are in the queue, whole and in order."""
    queue = RecordQueue(POINT, 7)
    with pytest.raises(Full) as caught:
        queue.put(points(range(20)), **wait)
    assert caught.value.accepted == 7
    assert (queue.get(7) == points(range(7))).all()


@pytest.mark.parametrize("wait", [{"block": False}, {"timeout": 0.01}, {"timeout": 0}])
def test_a_get_that_finds_too_few_takes_none(wait):
    """Up to the capacity, get takes all that it was asked for or nothing."""
    queue = RecordQueue("i8", 8)
    queue.put(np.arange(5))
    with pytest.raises(Empty) as caught:
        queue.get(6, **wait)
    assert len(caught.value.taken) == 0
    assert queue.get(5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(Empty):
        queue.get_available(1, **wait)


def test_a_get_of_more_than_the_capacity(in_thread):
    """More than the ring holds is taken piece by piece."""
    queue = RecordQueue("i8", 8)
    putting = in_thread(queue.put, np.arange(1000))
    assert queue.get(1000).tolist() == list(range(1000))
    putting.result()


def test_a_large_get_in_vain_gives_back_what_it_took():
    """``taken`` has the records that are not in the queue any more."""
    queue = RecordQueue("i8", 8)
    queue.put(np.arange(8))
    with pytest.raises(Empty) as caught:
        queue.get(100, timeout=0.01)
    assert caught.value.taken.tolist() == list(range(8))
    assert queue.empty()


def test_get_takes_at_least_one():
    """Asking for no record is a mistake."""
    queue = RecordQueue("i8", 8)
    for take in (queue.get, queue.get_available):
        with pytest.raises(ValueError, match="not 0"):
            take(0)
        with pytest.raises(ValueError, match="non-negative"):
            take(1, timeout=-1)


def test_get_available_waits_for_the_first_only(in_thread):
    """get_available blocks while there is nothing and takes just what is there."""
    queue = RecordQueue("i8", 8)
    taken = in_thread(queue.get_available, 100)
    wait_until(lambda: queue.statistics().getters == 1)
    queue.put(np.arange(3))
    assert taken.result().tolist() == [0, 1, 2]


def test_get_waits_until_there_are_enough(in_thread):
    """get(n) sleeps through puts that are too small, and is woken by the one that is not."""
    queue = RecordQueue("i8", 8)
    taken = in_thread(queue.get, 6)
    wait_until(lambda: queue.statistics().getters == 1)
    queue.put(np.arange(5))
    assert queue.statistics().getters == 1
    queue.put(np.arange(5, 7))
    assert taken.result().tolist() == list(range(6))
    assert queue.get(1).tolist() == [6]


def test_the_end_of_the_stream(in_thread):
    """At the end get returns what is left, then raises ShutDown."""
    queue = RecordQueue("i8", 8)
    with queue.producer():
        queue.put(np.arange(3))
        taken = in_thread(queue.get, 5)
        wait_until(lambda: queue.statistics().getters == 1)
    assert taken.result().tolist() == [0, 1, 2]
    for take in (queue.get, queue.get_available):
        with pytest.raises(ShutDown):
            take(1)
    with pytest.raises(ShutDown) as caught:
        queue.put(np.arange(3))
    assert caught.value.accepted == 0


def test_shutdown_wakes_a_blocked_put(in_thread):
    """A put that was refused in the middle says how many records the consumers get."""
    queue = RecordQueue("i8", 4)
    putting = in_thread(queue.put, np.arange(10))
    wait_until(lambda: queue.statistics().putters == 1)
    queue.shutdown()
    with pytest.raises(ShutDown) as caught:
        putting.result()
    assert caught.value.accepted == 4
    assert queue.get(10).tolist() == [0, 1, 2, 3]


def test_immediate_shutdown_discards():
    """shutdown(immediate=True) empties the queue; what it discarded was not got."""
    queue = RecordQueue("i8", 8)
    queue.put(np.arange(6))
    queue.get(1)
    queue.shutdown(immediate=True)
    statistics = queue.statistics()
    assert (statistics.size, statistics.puts, statistics.gets) == (0, 6, 1)
    with pytest.raises(ShutDown):
        queue.get(1)


def test_statistics_count_records(in_thread):
    """puts, gets, size and the high-water mark are numbers of records."""
    queue = RecordQueue("i8", 8)
    putting = in_thread(queue.put, np.arange(12))
    wait_until(lambda: queue.statistics().putters == 1)
    assert queue.full()
    assert queue.get(6).tolist() == list(range(6))
    putting.result()
    statistics = queue.statistics()
    assert statistics._replace(put_wait=0, get_wait=0) == (6, 8, 12, 6, 0, 0, 8, 0, 0)
    assert statistics.put_wait > 0
    assert (len(queue), queue.qsize(), queue.capacity, queue.empty()) == (6, 6, 8, False)
    assert repr(queue) == "<RecordQueue of int64 size=6 capacity=8>"


def test_one_that_was_never_made():
    """A queue whose constructor was skipped refuses work and harms nobody."""
    queue = RecordQueue.__new__(RecordQueue)
    with pytest.raises(AttributeError):
        queue.put([1])
    with pytest.raises(AttributeError):
        queue.get(1)
    queue.shutdown(immediate=True)


def test_numpy_is_imported_when_needed():
    """Importing the module does not import numpy."""
    script = "import sys, m3._records; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


BLOCKS = st.lists(st.integers(0, 40), max_size=15)


@settings(deadline=None, max_examples=150)
@given(capacity=st.integers(1, 20), puts=BLOCKS, gets=st.lists(st.integers(1, 40), min_size=1))
def test_any_block_sizes(capacity, puts, gets):
    """Whatever the blocks in and the blocks out, the records are the same, in order."""
    queue = RecordQueue(POINT, capacity)
    total = sum(puts)
    records = points(range(total))

    def produce():
        start = 0
        for size in puts:
            queue.put(records[start : start + size])
            start += size

    thread = threading.Thread(target=produce)
    thread.start()
    taken, count, sizes = [], 0, cycle(gets)
    while count < total:
        size = next(sizes)
        block = queue.get(min(size, total - count)) if size % 2 else queue.get_available(size)
        assert 1 <= len(block) <= size
        taken.append(block)
        count += len(block)
    thread.join()
    assert queue.empty()
    assert np.concatenate([records[:0], *taken]).tobytes() == records.tobytes()


@pytest.mark.parametrize("capacity", [1, 7, 1000])
@pytest.mark.parametrize("way", ["get", "get_available"])
def test_many_threads_never_tear_a_record(in_thread, capacity, way):
    """Three producers, three consumers: each record once, whole, in order per producer."""
    queue = RecordQueue(POINT, capacity)
    each, span = 3000, 10**6
    handles = [queue.producer() for _ in range(3)]

    def produce(number):
        with handles[number]:
            start = 0
            while start < each:
                size = 1 + (start + number) % 50
                block = range(number * span + start, number * span + min(start + size, each))
                queue.put(points(block))
                start += size

    for number in range(3):
        in_thread(produce, number)
    takes = [in_thread(drain, queue, lambda n=n: getattr(queue, way)(n)) for n in (1, 5, 64)]
    results = [take.result() for take in takes]
    records = np.concatenate(results)
    assert (records == points(records["number"])).all()
    expected = [number * span + i for number in range(3) for i in range(each)]
    assert sorted(records["number"].tolist()) == expected
    for block in results:
        for number in range(3):
            mine = block["number"][block["number"] // span == number]
            assert (np.diff(mine) > 0).all()


def test_large_blocks_side_by_side(in_thread):
    """Copies without the GIL, on both sides at once, around the end of the ring."""
    queue = RecordQueue("i8", 50_001)
    with queue.producer() as producer:
        numbers = np.arange(400_000)

        def produce():
            for start in range(0, len(numbers), 37_000):
                queue.put(numbers[start : start + 37_000])
            producer.close()

        in_thread(produce)
        assert (drain(queue, lambda: queue.get(29_000)) == numbers).all()


INTERRUPTED = """
import json, os, sys, threading
import numpy as np
from m3._records import RecordQueue

queue = RecordQueue("i8", 8)

def tell_when_blocked():
    while not (queue.statistics().putters or queue.statistics().getters):
        os.sched_yield()
    print("blocked", flush=True)

teller = threading.Thread(target=tell_when_blocked, daemon=True)
teller.start()
try:
    if sys.argv[1] == "put":
        queue.put(np.arange(20))
    else:
        queue.put(np.arange(3))
        queue.get(int(sys.argv[2]), timeout=3600)
except KeyboardInterrupt as error:
    teller.join()  # it may still hold the lock of stdout, which we need at the exit
    out = error.accepted if sys.argv[1] == "put" else error.taken.tolist()
    rest = [] if queue.empty() else queue.get_available(100).tolist()
    print(json.dumps([out, rest]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of POSIX")
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("put",), [8, list(range(8))]),
        (("get", "5"), [[], [0, 1, 2]]),
        (("get", "50"), [[0, 1, 2], []]),
    ],
)
def test_interrupted(arguments, answer):
    """Ctrl-C leaves every record in the queue, with the caller, or in the exception."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "blocked\n"
        process.send_signal(signal.SIGINT)
        assert json.loads(process.stdout.read()) == answer
