"""Listeners of RabbitMQ's queues: what they hear, acknowledge, and refuse."""

from queue import Queue as Heard
from uuid import uuid4

import pytest
from tcp_proxy import DOWN
from waiting import until

from m3.messaging import Message, Queue, connect

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rabbitmq")]

PATIENCE = 30


@pytest.fixture
def queue(rabbitmq):
    """Return a queue that stays without the connection of its listener."""
    queue = Queue(f"m3-test-{uuid4().hex}")
    yield queue
    with connect(rabbitmq) as bus:
        bus.delete(queue)


def publish(bus, queue, *bodies):
    for body in bodies:
        bus.publish(Message(body=body), routing_key=queue.name)


def bodies_of(heard, count):
    return [heard.get(timeout=PATIENCE).body for _ in range(count)]


def test_what_was_heard_is_acknowledged(rabbitmq, queue):
    """Soon after it was heard, a message is gone from its queue for good, and all before it."""
    heard = Heard()
    with connect(rabbitmq) as bus:
        listener = bus.listen(queue, heard.put, id)
        for _ in range(3):
            publish(bus, queue, *(b"%d" % number for number in range(10)))
            bodies_of(heard, 10)
            until(lambda: listener._heard is None)
        listener.close()
        publish(bus, queue, b"last")
        with bus.consumer(queue) as consumer:
            assert consumer.receive(PATIENCE).message.body == b"last"


def test_what_was_on_its_way_is_heard_on_the_next_connection(rabbitmq, proxied, tcp_proxy, queue):
    """A message that has left the broker, and got no farther, is not lost with its connection."""
    heard = Heard()
    with connect(rabbitmq) as other, connect(proxied) as bus:
        bus.listen(queue, heard.put, id)
        tcp_proxy.seen[DOWN].watch(b"on its way")
        tcp_proxy.hold(DOWN)
        publish(other, queue, b"on its way")
        assert tcp_proxy.seen[DOWN].wait(1, PATIENCE)
        tcp_proxy.reset()
        tcp_proxy.heal()
        assert bodies_of(heard, 1) == [b"on its way"]


def test_a_message_that_cannot_be_used_is_told_and_not_heard(rabbitmq, queue, caplog):
    """A listener refuses it as any consumer does, and hears the next one."""
    heard = Heard()
    with connect(rabbitmq) as other, connect(rabbitmq, max_body=10) as bus:
        bus.listen(queue, heard.put, id)
        publish(other, queue, b"short", b" " * 11, b"last")
        assert bodies_of(heard, 2) == [b"short", b"last"]
    assert "11 bytes; 10 are allowed (max_body)" in caplog.text
