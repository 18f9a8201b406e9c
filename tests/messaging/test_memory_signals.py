"""The bus in memory and signals: a handler that raises, wherever in the bus that comes."""

import threading
from functools import partial
from queue import SimpleQueue

import pytest
from signalled import interrupted_at_each_moment
from waiting import until

from m3.messaging import Exchange, Message, Queue, connect

SETTLE = {
    "ack": lambda consumer, delivery: consumer.ack(delivery),
    "requeue": lambda consumer, delivery: consumer.requeue(delivery),
    "put off": lambda consumer, delivery: consumer.requeue(delivery, 3600),
    "reject": lambda consumer, delivery: consumer.reject(delivery),
}
FANOUT = Exchange("fanout", type="fanout")
OFFERED, RECEIVED = Queue("offered", FANOUT), Queue("received", FANOUT)
JOBS = Queue("jobs", dead_letter="dead")
DEAD = Queue("dead")
PATIENCE = 20

at_each_moment = partial(interrupted_at_each_moment, partial(connect, "memory://signals"))


class Receiving:
    """Receives in a thread of its own, until the consumer is stopped."""

    def __init__(self, consumer, *, offer=False):
        self.consumer = consumer
        self.bodies = SimpleQueue()
        if offer:
            consumer.offer_to(self.take)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        until(lambda: consumer._is_waiting)

    def run(self):
        while (delivery := self.consumer.receive()) is not None:
            self.take(delivery)

    def take(self, delivery):
        self.bodies.put(delivery.message.body)
        return True

    def next(self):
        return self.bodies.get(timeout=PATIENCE)


def left_in(bus, queue):
    """Return the bodies of the messages in a queue."""
    with bus.consumer(queue, prefetch=100) as consumer:
        found = []
        while (delivery := consumer.receive(0)) is not None:
            found.append(delivery.message.body)
            consumer.ack(delivery)
        return found


def test_whoever_waits_gets_what_was_published():
    """A signal while a message is published leaves nobody waiting beside it, nor what follows."""

    def scenario(bus, interrupt):
        everybody = [
            Receiving(bus.consumer(OFFERED, prefetch=9), offer=True),
            Receiving(bus.consumer(RECEIVED, prefetch=9)),
        ]
        message = Message(body=b"1", expiration=3600)
        interrupt(lambda: bus.publish(message, exchange="fanout"))
        for queue, each in zip((OFFERED, RECEIVED), everybody, strict=True):
            shelf = bus._broker._shelves[queue.name]
            until(lambda shelf=shelf: not len(shelf))
            until(lambda each=each: each.bodies.qsize() >= len(each.consumer._unsettled))
        bus.publish(Message(body=b"2"), exchange="fanout")
        for each in everybody:
            first = each.next()
            assert first == b"2" or (first, each.next()) == (b"1", b"2")
            assert each.bodies.empty()

    at_each_moment(scenario)


@pytest.mark.parametrize("offer", [False, True])
@pytest.mark.parametrize("how", SETTLE)
def test_what_is_settled_makes_room(how, offer):
    """A signal while a message is settled loses nothing, and leaves nobody waiting for the next."""

    def scenario(bus, interrupt):
        consumer = bus.consumer(JOBS)
        for body in (b"1", b"2"):
            bus.publish(Message(body=body), routing_key="jobs")
        first = consumer.receive(0)
        receiving = Receiving(consumer, offer=offer)
        interrupt(SETTLE[how], consumer, first)
        was_settled = first.tag not in consumer._unsettled
        consumer.ack(first)
        expected = {b"1", b"2"} if was_settled and how in ("requeue", "reject") else {b"2"}
        assert receiving.next() == (min(expected) if how == "requeue" else b"2")
        consumer.close()
        left = {*left_in(bus, JOBS), *left_in(bus, DEAD)}
        assert left == expected or (how == "reject" and left == {b"1", b"2"})

    at_each_moment(scenario)


def test_what_is_not_received_stays():
    """A signal while a message is received loses nothing, and others get it at once."""

    def scenario(bus, interrupt):
        first = bus.consumer([OFFERED, RECEIVED])
        second = Receiving(bus.consumer(RECEIVED))
        bus.publish(Message(body=b"1"), routing_key="offered")
        received = interrupt(first.receive, 0)
        bus.publish(Message(body=b"2"), routing_key="received")
        assert second.next() == b"2"
        again = first.receive(0)
        assert (received or again).message.body == b"1"
        assert (received or again).attempts == 1
        first.close()
        assert left_in(bus, OFFERED) == [b"1"]

    at_each_moment(scenario)


def test_a_close_can_be_done_again():
    """A consumer whose close was interrupted can be closed; all is back, and the queue is free."""
    seat = Queue("seat", auto_delete=True)

    def scenario(bus, interrupt):
        consumer = bus.consumer([JOBS, seat], prefetch=3)
        for number in range(3):
            bus.publish(Message(body=b"%d" % number), routing_key="jobs")
            consumer.receive(0)
        interrupt(consumer.close)
        consumer.close()
        assert left_in(bus, JOBS) == [b"0", b"1", b"2"]
        assert "seat" not in bus._broker._shelves

    at_each_moment(scenario)


def test_who_does_not_come_has_no_queue():
    """A signal while a consumer, or a listener, begins leaves its queue to others."""
    seat = Queue("seat", exclusive=True)

    def scenario(bus, interrupt):
        for begin in (bus.consumer, partial(bus.listen, hear=id, ended=id)):
            begun = interrupt(begin, seat)
            if begun is not None:
                begun.close()
            bus.consumer(seat).close()

    at_each_moment(scenario)
