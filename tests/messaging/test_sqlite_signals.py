"""The bus in a file and signals: a handler that raises, wherever in the bus that comes."""

import threading
from contextlib import contextmanager
from functools import partial
from itertools import count
from queue import SimpleQueue

import pytest
from signalled import interrupted_at_each_moment

from m3.messaging import Message, Queue, connect

JOBS = Queue("jobs", dead_letter="dead")
SEAT = Queue("seat", durable=False, exclusive=True)
PATIENCE = 20
SETTLE = {
    "ack": lambda consumer, delivery: consumer.ack(delivery),
    "requeue": lambda consumer, delivery: consumer.requeue(delivery),
    "reject": lambda consumer, delivery: consumer.reject(delivery),
}


@pytest.fixture
def at_each_moment(tmp_path):
    """Interrupt a scenario at each moment; see :mod:`signalled`."""
    numbers = count()

    @contextmanager
    def connected():
        with connect(f"sqlite:///{tmp_path}/{next(numbers)}.db") as bus:
            bus.declare(JOBS)
            yield bus

    return partial(interrupted_at_each_moment, connected)


def publish(bus, *bodies):
    for body in bodies:
        bus.publish(Message(body=body), routing_key="jobs")


@pytest.mark.parametrize("how", SETTLE)
def test_what_is_settled_makes_room(at_each_moment, how):
    """A signal while a message is settled loses nothing, and leaves nobody waiting for the next."""

    def scenario(bus, interrupt):
        consumer, bodies = bus.consumer(JOBS), SimpleQueue()
        publish(bus, b"1", b"2")
        first = consumer.receive(PATIENCE)
        receiving = threading.Thread(
            target=lambda: bodies.put(consumer.receive().message.body), daemon=True
        )
        receiving.start()
        interrupt(SETTLE[how], consumer, first)
        consumer.ack(first)
        assert bodies.get(timeout=PATIENCE) in ((b"1", b"2") if how == "requeue" else (b"2",))

    at_each_moment(scenario)


def test_what_is_not_received_stays(at_each_moment):
    """A signal while a message is received loses nothing, and others get it."""

    def scenario(bus, interrupt):
        first, second = bus.consumer(JOBS), bus.consumer(JOBS)
        publish(bus, b"1", b"2")
        received = interrupt(first.receive, PATIENCE)
        again = [received or first.receive(PATIENCE), second.receive(PATIENCE)]
        assert [delivery.message.body for delivery in again] == [b"1", b"2"]
        assert [delivery.attempts for delivery in again] == [1, 1]

    at_each_moment(scenario)


def test_a_close_can_be_done_again(at_each_moment):
    """A consumer whose close was interrupted can be closed; all is back, and the queue is free."""

    def scenario(bus, interrupt):
        consumer = bus.consumer([JOBS, SEAT], prefetch=3)
        publish(bus, b"0", b"1", b"2")
        for _ in range(3):
            consumer.receive(PATIENCE)
        interrupt(consumer.close)
        consumer.close()
        with bus.consumer([JOBS, SEAT], prefetch=3) as other:
            bodies = [other.receive(PATIENCE).message.body for _ in range(3)]
        assert bodies == [b"0", b"1", b"2"]

    at_each_moment(scenario)


def test_who_does_not_come_has_no_queue(at_each_moment):
    """A signal while a consumer begins leaves its queue to others."""

    def scenario(bus, interrupt):
        consumer = interrupt(bus.consumer, SEAT)
        if consumer is not None:
            consumer.close()
        bus.health()
        bus.consumer(SEAT).close()

    at_each_moment(scenario)
