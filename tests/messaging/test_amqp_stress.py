"""A broker of the tests' own is restarted and killed under load; consumers are killed."""

import threading
from time import monotonic
from uuid import uuid4

import pytest

from m3.messaging import Message, Queue, connect
from m3.policies import Backoff

pytestmark = [pytest.mark.services, pytest.mark.stress, pytest.mark.timeout(900)]

PATIENCE = 120
PUBLISHERS = 4


class Load:
    """Publishes numbers in some threads, as fast as they are confirmed, and settles them."""

    def __init__(self, bus, queue):
        self.bus, self.queue = bus, queue
        self.consumer = bus.consumer(queue, prefetch=100)
        self.confirmed = [set() for _ in range(PUBLISHERS)]
        self.settled, self.twice = set(), 0
        self.confirmation = threading.Condition()
        self.is_over, self.is_published = threading.Event(), threading.Event()
        self.errors = []
        work = [(self.publish, number) for number in range(PUBLISHERS)] + [(self.settle, 0)]
        self.threads = [threading.Thread(target=self.do, args=one, daemon=True) for one in work]
        for thread in self.threads:
            thread.start()

    def do(self, method, number):
        try:
            method(number)
        except Exception as error:
            self.errors.append(error)

    def publish(self, publisher):
        number = publisher
        while not self.is_over.is_set():
            message = Message(body=b"%d" % number)
            self.bus.publish(message, routing_key=self.queue.name, timeout=PATIENCE)
            self.confirmed[publisher].add(number)
            number += PUBLISHERS
            with self.confirmation:
                self.confirmation.notify_all()

    def settle(self, _):
        while (delivery := self.consumer.receive(PATIENCE)) is not None:
            number = int(delivery.message.body)
            self.twice += number in self.settled
            self.settled.add(number)
            self.consumer.ack(delivery)
            if self.is_published.is_set() and not self.missing():
                return

    def missing(self):
        return set().union(*self.confirmed) - self.settled

    def progress(self, count):
        """Wait for so many confirmations."""
        with self.confirmation:
            for _ in range(count):
                assert self.confirmation.wait(PATIENCE), "it hangs"

    def end(self):
        self.is_over.set()
        for thread in self.threads[:-1]:
            thread.join(PATIENCE)
        self.is_published.set()
        self.bus.publish(Message(body=b"0"), routing_key=self.queue.name)  # to look once more
        self.threads[-1].join(PATIENCE)
        assert not any(thread.is_alive() for thread in self.threads), "it hangs"
        assert (self.errors, self.missing()) == ([], set())


@pytest.mark.parametrize(("way", "times"), [("restart", 20), ("kill", 3)])
def test_a_broker_is_restarted_under_load(rabbit_node, way, times):
    """RabbitMQ goes and comes back, again and again: nothing that was confirmed is missing."""
    recoveries = []
    reconnect = Backoff(initial=0.05, maximum=0.5)
    with connect(rabbit_node.url, heartbeat=4, reconnect=reconnect) as bus:
        load = Load(bus, Queue(f"m3-test-{uuid4().hex}"))
        for _ in range(times):
            load.progress(500)
            if way == "restart":
                rabbit_node.control("stop_app")
                rabbit_node.control("start_app")
            else:
                rabbit_node.kill()
                rabbit_node.start()
            began = monotonic()
            load.progress(1)
            recoveries.append(monotonic() - began)
        load.end()
    recoveries.sort()
    total = sum(map(len, load.confirmed))
    print(f"{way} × {times}: {total:,} confirmed, 0 missing, {load.twice:,} twice; ", end="")
    print(f"recovery {recoveries[times // 2]:.2f} s, at most {recoveries[-1]:.2f} s")
