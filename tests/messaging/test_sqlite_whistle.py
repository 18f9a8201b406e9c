"""How the buses of one process and of others wake each other, and know who is gone."""

import itertools
import os
import threading
from contextlib import ExitStack

from m3.messaging import Message, Queue, connect
from m3.messaging._sqlite import whistle
from m3.messaging._sqlite.whistle import Whistle

JOBS = Queue("jobs")


def test_many_buses_in_a_process_have_few_descriptors(tmp_path):
    """Each has some of its own, and none for each of the others."""
    counts = []
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connect(f"sqlite:///{tmp_path}/bus.db"))
            counts.append(len(os.listdir("/proc/self/fd")))
    more = [after - before for before, after in itertools.pairwise(counts)]
    assert max(more) == min(more) <= 5


def test_buses_of_a_process_wake_each_other(tmp_path):
    """A message arrives at once, though nobody has a pipe of the other."""
    url = f"sqlite:///{tmp_path}/bus.db"
    with connect(url) as first, connect(url) as second:
        consumer = second.consumer(JOBS)
        for number in range(100):
            first.publish(Message(body=b"%d" % number), routing_key="jobs")
            delivery = consumer.receive(20)
            assert delivery.message.body == b"%d" % number
            consumer.ack(delivery)


def test_what_a_closed_bus_of_the_process_had_comes_back(tmp_path):
    """Its session ends with it, long before its lease."""
    url = f"sqlite:///{tmp_path}/bus.db"
    with connect(url, lease=3600) as bus:
        with connect(url, lease=3600) as other:
            holder = other.consumer(JOBS)
            bus.publish(Message(body=b"1"), routing_key="jobs")
            assert holder.receive(20) is not None
        assert bus.consumer(JOBS).receive(20).attempts == 2


def test_buses_of_the_process_come_and_go_meanwhile(tmp_path):
    """A bus may be set up, or shut down, while another one looks for those of its process."""
    own, is_over = Whistle(tmp_path), threading.Event()

    def come_and_go():
        while not is_over.is_set():
            for number in range(100):
                whistle._here[f"other{number}"] = own
            for number in range(100):
                del whistle._here[f"other{number}"]

    others = threading.Thread(target=come_and_go)
    others.start()
    try:
        for _ in range(2000):
            own.greet(set())
            assert own.know({own.name}) == set()
    finally:
        is_over.set()
        others.join()
        own.close()
