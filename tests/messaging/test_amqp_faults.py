"""The network and the broker fail: nothing is lost, nothing hangs."""

import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest
from tcp_proxy import DOWN, FAULTS, UP

from m3.errors import BusError, BusTimeoutError
from m3.messaging import Exchange, Message, Queue, connect
from m3.policies import Backoff

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rabbitmq")]

PATIENCE = 30
QUICK = {"heartbeat": 2, "connect_timeout": 1.0, "reconnect": Backoff(initial=0.05, maximum=0.2)}
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


@pytest.fixture
def queue(rabbitmq):
    """A queue of the test's own."""
    queue = Queue(f"m3-test-{uuid4().hex}", durable=False)
    yield queue
    with connect(rabbitmq) as bus:
        bus.delete(queue)


@pytest.fixture
def bus(proxied, queue):
    """A bus behind the proxy, quick to see what is wrong; shut down before the queue is deleted."""
    with connect(proxied, **QUICK) as bus:
        yield bus


class Losses(logging.Handler):
    """Learns when a connection is lost."""

    def __init__(self):
        super().__init__()
        self.lost = threading.Event()

    def emit(self, record):
        if "is lost" in record.getMessage():
            self.lost.set()


@pytest.fixture
def losses():
    handler = Losses()
    logger = logging.getLogger("m3.components")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Traffic:
    """Publishes numbers in one thread, and receives them in another."""

    def __init__(self, bus, queue, total):
        self.bus, self.queue, self.total = bus, queue, total
        self.consumer = bus.consumer(queue, prefetch=10)
        self.published, self.settled, self.duplicates = set(), set(), 0
        self.halfway, self.may_go_on = threading.Event(), threading.Event()
        self.errors = []
        self.threads = [
            threading.Thread(target=self.call, args=(method,), daemon=True)
            for method in (self.publish, self.receive)
        ]

    def call(self, method):
        try:
            method()
        except Exception as error:
            self.errors.append(error)

    def publish(self):
        for number in range(self.total):
            if number == self.total // 2:
                self.halfway.set()
                self.may_go_on.wait(PATIENCE)
            message = Message(body=b"%d" % number)
            self.bus.publish(message, routing_key=self.queue.name, timeout=PATIENCE)
            self.published.add(number)

    def receive(self):
        while len(self.settled) < self.total:
            delivery = self.consumer.receive(PATIENCE)
            if delivery is None:
                return
            number = int(delivery.message.body)
            self.duplicates += number in self.settled
            self.settled.add(number)
            self.consumer.ack(delivery)

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive(), "it hangs"
        assert self.errors == []


@pytest.mark.timeout(150)
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_when_the_network_fails(fault, bus, queue, tcp_proxy, losses):
    """Whatever fails, it is noticed, and all that was published is received after it."""
    traffic = Traffic(bus, queue, 100)
    traffic.start()
    assert traffic.halfway.wait(PATIENCE)
    began = monotonic()
    FAULTS[fault](tcp_proxy)
    traffic.may_go_on.set()
    assert losses.lost.wait(PATIENCE)
    print(f"noticed after {monotonic() - began:.2f} s, with a heartbeat of 2 s")
    tcp_proxy.heal()
    traffic.join()
    assert traffic.settled == traffic.published == set(range(100))


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("latency", "rate"), [(0.05, 0), (0, 1000)])
def test_a_slow_network_is_no_broken_one(latency, rate, bus, queue, tcp_proxy, losses):
    """Latency and 1 KB/s slow everything down, and no connection is given up for it."""
    traffic = Traffic(bus, queue, 8)
    tcp_proxy.latency, tcp_proxy.rate = latency, rate
    bus.publish(Message(body=b" " * 3000 + b"0"), routing_key=queue.name, timeout=PATIENCE)
    traffic.start()
    traffic.may_go_on.set()
    traffic.join()
    assert traffic.settled == set(range(8))
    assert (losses.lost.is_set(), tcp_proxy.connections) == (False, 2)


def test_heartbeats_tick_while_code_runs(bus, queue, tcp_proxy, losses):
    """A consumer that does nothing with its bus for long keeps its connection."""
    consumer = bus.consumer(queue)
    bus.publish(Message(body=b"1"), routing_key=queue.name)
    delivery = consumer.receive(PATIENCE)
    tcp_proxy.seen[UP].watch(HEARTBEAT)
    assert tcp_proxy.seen[UP].wait(10, PATIENCE)  # two connections, two a second: 2.5 seconds
    assert not losses.lost.is_set()
    consumer.ack(delivery)
    assert consumer.receive(0.05) is None
    assert consumer.late == 0


def test_what_is_settled_on_a_lost_channel_is_counted(bus, queue, tcp_proxy):
    """A delivery whose connection is gone comes again; settling it then is no error."""
    consumer = bus.consumer(queue)
    bus.publish(Message(body=b"1"), routing_key=queue.name)
    first = consumer.receive(PATIENCE)
    tcp_proxy.reset()
    again = consumer.receive(PATIENCE)
    assert (again.message.body, again.redelivered, again.attempts) == (b"1", True, 2)
    consumer.ack(first)
    assert consumer.late == 1
    consumer.ack(again)
    assert consumer.receive(0.05) is None


def test_stop_wakes_a_consumer_without_a_broker(bus, queue, tcp_proxy, losses):
    """``stop`` and ``close`` need no connection."""
    consumer = bus.consumer(queue)
    received = []
    thread = threading.Thread(target=lambda: received.append(consumer.receive()))
    thread.start()
    tcp_proxy.down()
    assert losses.lost.wait(PATIENCE)
    consumer.stop()
    thread.join(PATIENCE)
    consumer.close()
    assert received == [None]


def test_publishing_without_a_broker_ends_in_time(bus, queue, tcp_proxy, losses):
    """While there is no broker, publishing takes its timeout, and the error says why."""
    tcp_proxy.down()
    assert losses.lost.wait(PATIENCE)
    with pytest.raises(BusTimeoutError, match=r"127.0.0.1:\d+ has not answered within 0.1 s"):
        bus.publish(Message(body=b""), routing_key=queue.name, timeout=0.1)
    with pytest.raises(BusError, match="no connection"):
        bus.health()


def test_what_has_timed_out_is_not_published_later(bus, queue, tcp_proxy, losses):
    """A message whose publisher was told that it took too long waits for no other connection."""
    bus.declare(queue)
    tcp_proxy.down()
    assert losses.lost.wait(PATIENCE)
    with pytest.raises(BusTimeoutError):
        bus.publish(Message(body=b"late"), routing_key=queue.name, timeout=0.05)
    tcp_proxy.heal()
    bus.publish(Message(body=b"in time"), routing_key=queue.name, timeout=PATIENCE)
    assert bus.consumer(queue).receive(PATIENCE).message.body == b"in time"


def test_publishers_wait_while_the_broker_is_full(bus, queue):
    """While RabbitMQ blocks publishers, they wait; the error of those that cannot says why."""
    bus.declare(queue)
    publishing = bus._publishing
    publishing.link.post(lambda _: publishing._block(True))
    with pytest.raises(BusTimeoutError, match="short of memory or disk"):
        bus.publish(Message(body=b"1"), routing_key=queue.name, timeout=0.05)
    thread = threading.Thread(
        target=bus.publish, args=(Message(body=b"2"),), kwargs={"routing_key": queue.name}
    )
    thread.start()
    publishing.link.post(lambda _: publishing._block(False))
    thread.join(PATIENCE)
    assert bus.consumer(queue).receive(PATIENCE).message.body == b"2"


def comes_through(bus, queue, consumer):
    """Publish until the queue is there again, and what is published received."""
    received = None
    while received is None:
        with suppress(BusError):
            bus.publish(Message(body=b"1"), routing_key=queue.name, mandatory=True)
        received = consumer.receive(0.2)
    return received.message.body == b"1"


def test_an_exclusive_queue_is_taken_again(bus, tcp_proxy, losses):
    """A broker that has not noticed yet refuses an exclusive queue, and is asked again."""
    queue = Queue(f"m3-test-{uuid4().hex}", durable=False, exclusive=True)
    consumer = bus.consumer(queue)
    tcp_proxy.hold(UP, DOWN)
    assert losses.lost.wait(PATIENCE)
    tcp_proxy.heal()
    assert comes_through(bus, queue, consumer)


def test_what_a_broker_has_lost_is_declared_again(bus, rabbitmq, queue, tcp_proxy, losses):
    """On a new connection, exchanges and queues are declared again."""
    exchange = Exchange(f"m3-test-{uuid4().hex}", durable=False)
    bound = Queue(queue.name, exchange, "key", durable=False)
    bus.declare(bound, exchange)
    with connect(rabbitmq) as other:
        other.delete(bound, exchange)
    tcp_proxy.reset()
    assert losses.lost.wait(PATIENCE)
    message = Message(body=b"1")
    bus.publish(message, exchange=exchange.name, routing_key="key", mandatory=True)
    bus.delete(exchange)


def test_a_queue_that_somebody_deletes_is_declared_again(bus, rabbitmq, queue):
    """A consumer whose queue is deleted by somebody else goes on with a new one."""
    consumer = bus.consumer(queue)
    with connect(rabbitmq) as other:
        other.delete(queue)
    assert comes_through(bus, queue, consumer)


def test_another_broker_takes_over(rabbitmq, proxied, queue, tcp_proxy, losses):
    """With several brokers, one that works is found, at the beginning and later."""
    url = f"amqp://127.0.0.1:1;{proxied};{rabbitmq}"
    with connect(url, **QUICK) as bus:
        consumer = bus.consumer(queue)
        tcp_proxy.down()
        assert losses.lost.wait(PATIENCE)
        bus.publish(Message(body=b"1"), routing_key=queue.name)
        assert consumer.receive(PATIENCE).message.body == b"1"
        bus.health()


def test_a_bus_in_a_black_hole_can_be_shut_down(proxied, queue, tcp_proxy):
    """A shutdown does not wait for a broker that does not answer."""
    bus = connect(proxied, **QUICK)
    bus.setup()
    bus.consumer(queue)
    tcp_proxy.hold(UP, DOWN)
    bus.shutdown()
    tcp_proxy.heal()
    assert [one.name for one in threading.enumerate() if one.name.startswith("m3-amqp")] == []


def test_a_broker_that_says_nothing_is_no_broker(proxied, tcp_proxy):
    """Connecting ends in time where something listens, and does not answer."""
    tcp_proxy.hold(UP, DOWN)
    with pytest.raises(BusError, match=tcp_proxy.netloc):
        connect(proxied, connect_timeout=0.2).setup()


CONSUMER = """
import sys
from m3.messaging import Queue, connect

url, name = sys.argv[1:]
with connect(url) as bus:
    consumer = bus.consumer(Queue(name, durable=False), prefetch=5)
    while True:
        delivery = consumer.receive()
        print(int(delivery.message.body), flush=True)
        sys.stdin.readline()
        consumer.ack(delivery)
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.stress)])
def test_nothing_is_lost_when_a_consumer_is_killed(times, rabbitmq, queue):
    """Consumers are killed with a message in hand, again and again: others get it."""
    total, begun = 4 * times, []
    with connect(rabbitmq) as bus:
        bus.declare(queue)
        for number in range(total):
            bus.publish(Message(body=b"%d" % number), routing_key=queue.name)
        for _ in range(times):
            begun += killed_in_mid_work(rabbitmq, queue, settled=2)
        consumer = bus.consumer(queue, prefetch=total)
        left = set()
        while len(left | set(begun)) < total or not left:
            delivery = consumer.receive(PATIENCE)
            left.add(int(delivery.message.body))
    assert left | set(begun) == set(range(total))


def killed_in_mid_work(url, queue, *, settled):
    """Let a process settle messages, and kill it while it has another; return those settled."""
    command = [sys.executable, "-c", CONSUMER, url, queue.name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, **pipes, cwd=root) as process:
        numbers = []
        for _ in range(settled):
            numbers.append(int(process.stdout.readline()))
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    return numbers


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_a_broker_that_comes_and_goes_under_load(bus, queue, tcp_proxy, losses):
    """The broker goes away 20 times under load: nothing is missing, nothing hangs."""
    traffic = Traffic(bus, queue, 20_000)
    traffic.may_go_on.set()
    traffic.start()
    recoveries = []
    for turn in range(20):
        losses.lost.clear()
        tcp_proxy.down() if turn % 2 else tcp_proxy.reset()
        assert losses.lost.wait(PATIENCE)
        began = monotonic()
        tcp_proxy.heal()
        bus.publish(Message(body=b"0"), routing_key=queue.name, timeout=PATIENCE)
        recoveries.append(monotonic() - began)
    traffic.join()
    assert traffic.settled == set(range(20_000))
    recoveries.sort()
    print(f"recovery: {recoveries[10]:.3f} s, at most {recoveries[-1]:.3f} s")
    print(f"twice: {traffic.duplicates - 20} of {traffic.total}")
