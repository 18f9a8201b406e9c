"""Whatever somebody publishes, consumers live, and what cannot be used is a dead letter."""

import logging
import struct
import subprocess
import sys
import threading
from time import monotonic
from uuid import uuid4

import pytest
from hostile import HOSTILE, Publisher, properties, short, table

from m3.errors import BusError, ConfigError
from m3.messaging import Exchange, Message, Queue, connect
from m3.policies import Backoff

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rabbitmq")]

PATIENCE = 30


@pytest.fixture
def queue(rabbitmq):
    """A queue with dead letters, and with an exchange that has it in any case."""
    name = f"m3-test-{uuid4().hex}"
    exchange = Exchange(name, "topic")
    queue = Queue(name, exchange, "#", dead_letter=f"{name}-dead")
    yield queue
    with connect(rabbitmq) as bus:
        bus.delete(queue, exchange, Queue(queue.dead_letter))


@pytest.fixture
def publisher(rabbitmq):
    with Publisher(rabbitmq) as publisher:
        yield publisher


def taken(bus, consumer, queue):
    """Return what is received before a last message, which has to come."""
    bus.publish(Message(body=b"good"), routing_key=queue.name)
    received = []
    while not received or received[-1].message.body != b"good":
        received.append(consumer.receive(PATIENCE))
        consumer.ack(received[-1])
    return received[:-1]


def is_put_aside(publisher, queue, count):
    """Wait until there are so many dead letters."""
    until = monotonic() + PATIENCE
    while publisher.count(queue.dead_letter) != count:
        assert monotonic() < until
    return True


@pytest.mark.parametrize("what", HOSTILE)
def test_no_properties_harm_a_consumer(what, rabbitmq, publisher, queue, caplog):
    """A message is received or a dead letter, once; the connection is kept, and works."""
    with connect(rabbitmq) as bus:
        consumer = bus.consumer(queue)
        publisher.publish(b"bad", HOSTILE[what], routing_key=queue.name.encode())
        received = taken(bus, consumer, queue)
        bus.health()
    assert is_put_aside(publisher, queue, 1 - len(received))
    assert all(delivery.attempts >= 1 for delivery in received)
    assert "lost" not in caplog.text


def test_a_routing_key_that_is_no_text_does_no_harm(rabbitmq, publisher, queue):
    """It has done its work when the message is in the queue."""
    with connect(rabbitmq) as bus:
        consumer = bus.consumer(queue)
        publisher.publish(b"odd", exchange=queue.name.encode(), routing_key=b"\xff\xfe")
        received = taken(bus, consumer, queue)
    assert [delivery.message.body for delivery in received] == [b"odd"]


def test_what_cannot_be_used_is_told(rabbitmq, publisher, queue, caplog):
    """A warning names the queue, the reason, and where the message is."""
    caplog.set_level(logging.WARNING)
    with connect(rabbitmq) as bus:
        consumer = bus.consumer(queue)
        bad = properties(0x0400, short(b"\xff"))
        publisher.publish(b"bad", bad, routing_key=queue.name.encode())
        assert taken(bus, consumer, queue) == []
    assert f"a message of {queue.name!r} cannot be used, and is in {queue.dead_letter!r}" in (
        caplog.text
    )
    assert "properties cannot be read" in caplog.text


@pytest.mark.parametrize("size", [10_001, 300_000])
def test_a_body_that_is_too_long_is_a_dead_letter(size, rabbitmq, queue, caplog):
    """``max_body`` is the bound of what is received; the next message is received."""
    with connect(rabbitmq) as other, connect(rabbitmq, max_body=10_000) as bus:
        consumer = bus.consumer(queue)
        other.publish(Message(body=b" " * 10_000), routing_key=queue.name)
        other.publish(Message(body=b" " * size), routing_key=queue.name)
        received = taken(bus, consumer, queue)
        dead = other.consumer(Queue(queue.dead_letter)).receive(PATIENCE)
    assert [len(delivery.message.body) for delivery in received] == [10_000]
    assert len(dead.message.body) == size
    assert f"{size:,} bytes; 10,000 are allowed (max_body)" in caplog.text


def test_a_body_has_some_length():
    """A bound below one byte is a mistake."""
    with pytest.raises(ConfigError, match="max_body=0"):
        connect("amqp://", max_body=0)


RECEIVE = """
import resource
import sys
from m3.messaging import Message, Queue, connect

url, name, dead = sys.argv[1:]
with connect(url, max_body=1_000_000) as bus:
    consumer = bus.consumer(Queue(name, dead_letter=dead), prefetch=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert consumer.receive(30).message.body == b"good"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_long_bodies_take_no_memory(rabbitmq, queue):
    """Five bodies of 100 MB, where 1 MB is allowed, cost next to nothing."""
    plain = Queue(queue.name, dead_letter=queue.dead_letter)
    with connect(rabbitmq) as bus:
        bus.declare(plain)
        long = Message(body=bytes(100_000_000), persistent=False)
        for _ in range(5):
            bus.publish(long, routing_key=queue.name)
        bus.publish(Message(body=b"good"), routing_key=queue.name)
        command = [sys.executable, "-c", RECEIVE, rabbitmq, queue.name, queue.dead_letter]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000, f"{done.stdout} KiB"


POISON = {"infinity": {"x": float("inf")}, "no number": {"x": {"y": [float("nan")]}}}
POISON["headers over a frame"] = {"x": "x" * 200_000}


@pytest.mark.parametrize("what", POISON)
def test_a_message_for_which_the_connection_is_closed_is_an_error_of_its_own(what, rabbitmq, queue):
    """It is found among others, which are published; and is not published again and again."""
    with connect(rabbitmq, reconnect=Backoff(initial=0.01, maximum=0.05)) as bus:
        bus.declare(queue)
        problems = []

        def publish(number):
            headers = POISON[what] if number == 5 else {}
            try:
                bus.publish(Message(body=b"%d" % number, headers=headers), routing_key=queue.name)
            except BusError as error:
                problems.append((number, str(error)))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [number for number, _ in problems] == [5]
        assert "are its headers too long, or is a number in them not finite?" in problems[0][1]
        bus.publish(Message(body=b"last"), routing_key=queue.name)
        consumer = bus.consumer(queue, prefetch=100)
        bodies = set(iter(lambda: consumer.receive(PATIENCE).message.body, b"last"))
        assert bodies == {b"%d" % number for number in range(10) if number != 5}


def test_a_queue_for_which_the_connection_is_closed_is_an_error(rabbitmq, queue):
    """It is not declared again and again."""
    bad = Queue(queue.name, options={"x-own": float("inf")})
    with connect(rabbitmq, reconnect=Backoff(initial=0.01, maximum=0.05)) as bus:
        consumer = bus.consumer(queue)
        for declare in (bus.declare, bus.consumer):
            with pytest.raises(BusError, match="RabbitMQ closes the connection"):
                declare(bad)
        bus.publish(Message(body=b"good"), routing_key=queue.name)
        assert consumer.receive(PATIENCE).message.body == b"good"


def test_a_message_that_has_no_room_for_another_header_goes_back_at_once(
    rabbitmq, publisher, queue
):
    """Headers as long as a frame cannot be put off with one more; nothing is lost by that."""
    filler = table((b"x", b"S" + struct.pack(">I", 130_990) + b" " * 130_990))
    with connect(rabbitmq, reconnect=Backoff(initial=0.01, maximum=0.05)) as bus:
        consumer = bus.consumer(queue)
        publisher.publish(b"long", properties(0x2000, filler), routing_key=queue.name.encode())
        consumer.requeue(consumer.receive(PATIENCE), 0.05)
        again = consumer.receive(PATIENCE)
        assert (again.message.body, again.redelivered) == (b"long", True)
        consumer.reject(again)
        bus.publish(Message(body=b"good"), routing_key=queue.name)
        assert consumer.receive(PATIENCE).message.body == b"good"


def test_rabbitmq_refuses_what_is_over_its_own_limit(rabbitmq, queue):
    """A body over the broker's limit is an error of who publishes it, at once."""
    with connect(rabbitmq) as bus:
        bus.declare(queue)
        with pytest.raises(BusError, match="message size"):
            bus.publish(Message(body=bytes(200_000_000)), routing_key=queue.name)
        bus.publish(Message(body=b"good"), routing_key=queue.name)
