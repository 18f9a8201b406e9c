"""The bus on RabbitMQ, beside what all buses promise."""

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from uuid import uuid4

import kombu
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tcp_proxy import UP

from m3.errors import BusError, ConfigError
from m3.messaging import Exchange, Message, Queue, connect
from m3.messaging._amqp import link
from m3.messaging._amqp.envelopes import sealed, without_delays
from m3.messaging._amqp.topology import delay_in_steps

PATIENCE = 30
PASSWORD = "swordfish"
ROOT = Path(__file__).parents[2]

FORK = """
import logging, os, sys, warnings
from m3.errors import BusError
from m3.messaging import Message, Queue, connect

logging.basicConfig(level=logging.INFO)
warnings.simplefilter("ignore")

def told(act):
    try:
        act()
    except BusError as error:
        return "forked" in str(error)

queue = Queue(sys.argv[2])
bus = connect(sys.argv[1])
bus.setup()
consumer = bus.consumer(queue, prefetch=2)
bus.publish(Message(body=b"before"), routing_key=queue.name)
before = consumer.receive()
child = os.fork()
publish = lambda body: bus.publish(Message(body=body), routing_key=queue.name)
if not child:
    acts = (lambda: publish(b""), consumer.receive, bus.health, lambda: bus.consumer(queue))
    print(*map(told, acts), flush=True)
    consumer.ack(before)
    consumer.close()
    bus.shutdown()
    bus.setup()
    publish(b"child")
    bus.shutdown()
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
consumer.ack(before)
publish(b"parent")
print(*(consumer.receive().message.body.decode() for _ in range(2)), consumer.late)
bus.shutdown()
"""


IDS = """
import os
from m3.messaging import Message
from m3.messaging._amqp.envelopes import sealed

def made():
    return sealed(Message(body=b"")).properties["message_id"]

before = made()
child = os.fork()
if child:
    os.waitpid(child, 0)
    print(before)
print(*(made() for _ in range(99 if child else 100)), flush=True)
"""


@pytest.fixture
def bus(rabbitmq):
    with connect(rabbitmq) as bus:
        yield bus


@pytest.fixture
def named(bus):
    """Return names of the test's own, of queues that are deleted after it."""
    made = {}

    def name(what):
        return made.setdefault(what, f"m3-test-{uuid4().hex}-{what}")

    yield name
    bus.delete(*(Queue(queue) for queue in made.values()))


# -- writing in the thread that publishes


def test_who_is_interrupted_while_it_writes_harms_nobody(bus, named):
    """The connection, in which half a message may be, is made anew, and nothing is lost."""
    queue = Queue(named("queue"), durable=False)
    received = []
    consumer = bus.consumer(queue, prefetch=100)
    writer = bus._publishing.link
    this_thread = threading.current_thread()

    def half_a_message(connection):
        if threading.current_thread() is this_thread:
            connection.transport.write(b"\x01\x00\x01\x00")
            raise KeyboardInterrupt

    for number in range(5):
        bus.publish(Message(body=b"%d" % number), routing_key=queue.name)
        with pytest.raises(KeyboardInterrupt):
            while True:
                writer.call(id, PATIENCE)
                writer.soon(half_a_message)
    bus.publish(Message(body=b"5"), routing_key=queue.name)
    while b"5" not in received:
        delivery = consumer.receive(PATIENCE)
        received.append(delivery.message.body)
        consumer.ack(delivery)
    assert sorted(set(received)) == [b"%d" % number for number in range(6)]
    consumer.close()


def test_what_goes_wrong_while_one_writes_is_for_the_next_connection(bus, named):
    """An error of the network does not come out of who settles a message, or publishes one."""
    queue = Queue(named("queue"), durable=False)
    consumer = bus.consumer(queue)
    done = threading.Event()
    tries = []

    def fails_once(connection):
        tries.append(threading.current_thread())
        if len(tries) == 1:
            raise ConnectionResetError
        done.set()

    bus._publishing.link.soon(fails_once)
    assert done.wait(PATIENCE)
    bus.publish(Message(body=b"x"), routing_key=queue.name)
    assert consumer.receive(PATIENCE).message.body == b"x"
    consumer.close()


def test_a_hurried_writer_leaves_the_rest(bus, named, tcp_proxy, proxied):
    """Who posts does not wait for a broker that reads nothing, and all arrives, in order."""
    queue = Queue(named("queue"), durable=False)
    consumer = bus.consumer(queue, prefetch=100)
    bodies = [b"%06d" % number * 1300 for number in range(400)]
    failures = []
    with connect(proxied) as other:
        link = other._publishing.link
        other.publish(Message(body=b"first"), routing_key=queue.name)
        link._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        tcp_proxy.hold(UP)
        begun = monotonic()
        for body in bodies:
            other.post(Message(body=body), routing_key=queue.name, failed=failures.append)
        seconds = monotonic() - begun
        was_left = bool(link._connection.transport.unsent) or not link._is_asleep
        tcp_proxy.heal()
        received = []
        while len(received) <= len(bodies):
            delivery = consumer.receive(PATIENCE)
            received.append(delivery.message.body)
            consumer.ack(delivery)
    assert [body[:6] for body in received] == [b"first", *(body[:6] for body in bodies)]
    assert (seconds < 5, was_left, failures) == (True, True, [])
    consumer.close()


# -- connecting


@pytest.mark.parametrize(
    "url",
    [
        "http://h/",
        "amqp://h:99999/",
        "amqp://h:port/",
        "amqp://[::1/",
        "amqp://h/v?heartbeat=5",
        "amqp://h/v#x",
        "amqp://h/;",
        f"amqp://u:{PASSWORD}#@h:port/",
        f"amqp://u:{PASSWORD}/@h/",
    ],
)
def test_urls_that_name_no_broker(url):
    """What is wrong with a URL is said at once, without the password."""
    with pytest.raises(ConfigError) as caught:
        connect(url.replace("http", "amqp", 1) + ";http://h" if url.startswith("http") else url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("heartbeat", [0, -1, 1, 70000, 2.5, None])
def test_heartbeats_are_whole_seconds(heartbeat):
    """AMQP has no other heartbeats, and m3 none without."""
    with pytest.raises(ConfigError, match="heartbeat"):
        connect("amqp://h", heartbeat=heartbeat)


def test_options_of_tls_are_known():
    """A wrong option is said at once, with the one that was meant; checking cannot be left out."""
    with pytest.raises(ConfigError, match="'ca_cert'; did you mean 'ca_certs'"):
        connect("amqps://h", tls={"ca_cert": "ca.pem"})
    with pytest.raises(ConfigError, match="cert_reqs"):
        connect("amqps://h", tls={"cert_reqs": 0})


def test_the_child_of_a_fork_cannot_use_it(rabbitmq, named):
    """A child is told to connect anew, can do so, and does no harm to its parent's connections."""
    command = [sys.executable, "-c", FORK, rabbitmq, named("forked")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout.splitlines() == ["True True True True", "child parent 0"], result.stderr
    assert "is lost" not in result.stderr


def test_messages_have_ids_of_their_own():
    """No two messages have the same one, whichever thread or process has made them."""
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [sealed_id() for _ in range(1000)], range(20)))
    command = [sys.executable, "-c", IDS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    ids = [*result.stdout.split(), *(each for batch in batches for each in batch)]
    assert len(set(ids)) == len(ids) == 20_200, result.stderr


def sealed_id():
    return sealed(Message(body=b"")).properties["message_id"]


def test_a_closed_port():
    """A broker that is not there is an error that names each that was tried."""
    with pytest.raises(BusError, match=r"127.0.0.1:1: Connection refused; 127.0.0.1:2/v: Conn"):
        connect(f"amqp://u:{PASSWORD}@127.0.0.1:1;amqp://u:{PASSWORD}@127.0.0.1:2/v").setup()


@pytest.mark.services
def test_a_wrong_password(rabbitmq):
    """RabbitMQ's refusal is passed on, and the password is not."""
    host = rabbitmq.rpartition("@")[2].strip("/")
    with pytest.raises(BusError, match=f"{host}.*ACCESS_REFUSED") as caught:
        connect(f"amqp://guest:{PASSWORD}@{host}/").setup()
    assert PASSWORD not in repr(caught.getrepr())


@pytest.mark.services
def test_a_missing_vhost(rabbitmq):
    """A virtual host that is not there is named."""
    with pytest.raises(BusError, match="vhost nowhere not found"):
        connect(rabbitmq.rstrip("/") + "/nowhere").setup()


def test_a_bus_that_is_not_set_up():
    """What is asked of a bus that is not connected raises, and says what to do."""
    with pytest.raises(BusError, match="is not connected: set it up"):
        connect("amqp://h").publish(Message(body=b""))


# -- heartbeats


class Quiet:
    """A connection on which nothing arrives."""

    heartbeat = 10
    bytes_recv = 0
    sent = 0

    def send_heartbeat(self):
        self.sent += 1


def test_two_intervals_are_the_limit(monkeypatch):
    """A heartbeat is sent after half an interval; two in silence are too many."""
    now = [1000.0]
    monkeypatch.setattr(link, "monotonic", lambda: now[0])
    pulse = link.Pulse(Quiet())
    for second in (5, 10, 14.9, 19.9):
        now[0] = 1000 + second
        pulse.beat()
    assert pulse._connection.sent == 3
    pulse.hear()
    now[0] += 19.9
    pulse.beat()
    pulse._connection.bytes_recv += 1
    pulse.beat()
    assert pulse.next_beat() == now[0] + 5
    now[0] += 20
    with pytest.raises(TimeoutError, match=r"nothing was heard for 20.0 s"):
        pulse.beat()


# -- publishing


@pytest.mark.services
def test_one_bad_message_harms_no_other(bus, named):
    """The broker closes the channel for a message, and forgets others: they are sent again."""
    queue = Queue(named("queue"), durable=False)
    consumer = bus.consumer(queue, prefetch=1000)
    errors = []

    def publish(number):
        exchange = named("nowhere") if number % 10 == 0 else ""
        try:
            bus.publish(Message(body=b"%d" % number), exchange=exchange, routing_key=queue.name)
        except BusError as error:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    missing = {number for number in range(60) if number % 10}
    while missing:  # some may come twice
        missing.discard(int(consumer.receive(PATIENCE).message.body))
    assert len(errors) == 6
    assert all("no exchange" in str(error) for error in errors)


@pytest.mark.services
@pytest.mark.parametrize(
    "message",
    [
        Message(body=b"", headers={"big": 1 << 80}),
        Message(body=b"", headers={"object": object()}),
        Message(body=b"", correlation_id="x" * 256),
        Message(body=b"", priority=1000),
    ],
)
def test_what_amqp_cannot_carry(bus, named, message):
    """A message that cannot be written down is an error, and the next one goes through."""
    queue = Queue(named("queue"), durable=False)
    consumer = bus.consumer(queue)
    with pytest.raises(BusError, match="AMQP cannot carry"):
        bus.publish(message, routing_key=queue.name)
    bus.publish(Message(body=b"1"), routing_key=queue.name)
    assert consumer.receive(PATIENCE).message.body == b"1"


@pytest.mark.services
def test_what_cannot_be_declared(bus, named):
    """An option that AMQP cannot carry is an error at once, and harms nothing."""
    with pytest.raises(BusError, match="AMQP cannot carry"):
        bus.declare(Queue(named("queue"), options={"x-object": object()}))
    bus.declare(Queue(named("queue"), durable=False))


# -- delays


@given(st.floats(0.001, 1e6))
def test_delays_are_an_eighth_longer_at_most(seconds):
    """A delay is rounded up, by little."""
    exact = max(1, round(seconds * 1000))
    assert exact <= delay_in_steps(seconds) <= exact * 1.125


def test_delays_have_few_queues():
    """However many different delays there are, there are eight queues for each doubling."""
    assert len({delay_in_steps(ms / 1000) for ms in range(1000, 64000)}) <= 6 * 8 + 1


@pytest.mark.services
def test_what_was_put_off_becomes_a_dead_letter(bus, named):
    """After a delay, a rejected message still says that it was rejected, and where."""
    queue = Queue(named("queue"), durable=False, dead_letter=named("dead"))
    consumer, letters = bus.consumer(queue), bus.consumer(Queue(named("dead")))
    bus.publish(Message(body=b"1", headers={"mine": 1}), routing_key=queue.name)
    consumer.requeue(consumer.receive(PATIENCE), delay=0.01)
    again = consumer.receive(PATIENCE)
    assert (again.attempts, dict(again.message.headers)) == (2, {"mine": 1})
    consumer.reject(again)
    headers = letters.receive(PATIENCE).message.headers
    wanted = {"x-first-death-reason": "rejected", "x-first-death-queue": queue.name, "mine": 1}
    assert dict(headers) == wanted


@pytest.mark.services
def test_a_delay_makes_room(bus, named):
    """Messages that wait do not count among those that a consumer may have."""
    queue = Queue(named("queue"), durable=False)
    consumer = bus.consumer(queue, prefetch=2)
    for number in range(6):
        bus.publish(Message(body=b"%d" % number), routing_key=queue.name)
    first = [consumer.receive(PATIENCE) for _ in range(2)]
    for delivery in first:
        consumer.requeue(delivery, delay=0.2)
    seen = []
    for _ in range(6):
        delivery = consumer.receive(PATIENCE)
        seen.append(delivery.message.body)
        consumer.ack(delivery)
    assert seen == [b"2", b"3", b"4", b"5", b"0", b"1"]


@pytest.mark.services
def test_attempts_go_from_process_to_process(bus, rabbitmq, named):
    """A message that was put off says how often it was delivered, whoever receives it."""
    queue = Queue(named("queue"), durable=False)
    bus.declare(queue)
    bus.publish(Message(body=b"1"), routing_key=queue.name)
    attempts = []
    for _ in range(3):
        with connect(rabbitmq) as other, other.consumer(queue) as consumer:
            delivery = consumer.receive(PATIENCE)
            attempts.append(delivery.attempts)
            consumer.requeue(delivery, delay=0.01)
    assert attempts == [1, 2, 3]


def test_deaths_of_others_are_kept():
    """What a message says of its death elsewhere stays."""
    headers = {
        "x-death": [{"queue": "m3.delayed.10.q"}, {"queue": "other"}],
        "x-first-death-queue": "other",
        "x-first-death-reason": "expired",
        "x-last-death-queue": "m3.delayed.10.q",
        "x-last-death-reason": "expired",
        "x-m3-attempts": 3,
    }
    assert without_delays(headers) == {
        "x-death": [{"queue": "other"}],
        "x-first-death-queue": "other",
        "x-first-death-reason": "expired",
    }


# -- receiving


@pytest.mark.services
def test_what_others_have_published(rabbitmq, bus, named):
    """Messages that are not m3's arrive with what they have, as bytes."""
    queue = Queue(named("queue"), durable=False)
    consumer = bus.consumer(queue, prefetch=2)
    with kombu.Connection(rabbitmq) as connection:
        producer = connection.Producer(routing_key=queue.name)
        producer.publish("ä", content_type="text/plain", content_encoding="latin-1")
        producer.publish(b"\xff\x00", content_type="text/plain", content_encoding="utf-8")
    messages = [consumer.receive(PATIENCE).message for _ in range(2)]
    assert [message.body for message in messages] == [b"\xe4", b"\xff\x00"]
    assert messages[0].content_type == "text/plain"


@pytest.mark.services
def test_an_exclusive_queue_is_gone_with_its_bus(rabbitmq, bus, named):
    """A queue that was declared as exclusive goes with the bus that declared it."""
    queue = Queue(named("queue"), durable=False, exclusive=True)
    with connect(rabbitmq) as other:
        other.declare(queue)
        with pytest.raises(BusError, match="RESOURCE_LOCKED"):
            bus.consumer(queue)
    with bus.consumer(queue):
        pass


@pytest.mark.services
def test_quorum_queues(rabbitmq, named):
    """``queue_type`` is what durable queues are declared as; others stay what they are."""
    with connect(rabbitmq, queue_type="quorum") as bus:
        bus.declare(Queue(named("durable")), Queue(named("transient"), durable=False))
    quorum = {"x-queue-type": "quorum"}
    with connect(rabbitmq) as bus:
        bus.declare(Queue(named("durable"), options=quorum))
        bus.declare(Exchange(named("exchange"), auto_delete=True))
        with pytest.raises(BusError, match="PRECONDITION_FAILED"):
            bus.declare(Queue(named("transient"), durable=False, options=quorum))
        bus.delete(Exchange(named("exchange")))


@pytest.mark.services
def test_everything_that_is_declared_is_announced(own_rabbitmq, virtual_hosts):
    """``on_declare`` hears of queues that the bus needs itself, too: all of it can be deleted."""
    queue = Queue("q", Exchange("one"), "k", bindings=[(Exchange("two"), "")], dead_letter="dead")
    declared = []
    with connect(own_rabbitmq, on_declare=declared.append) as bus:
        bus.declare(Exchange("three"))
        with bus.consumer([queue, Queue("mine", exclusive=True)]) as consumer:
            bus.publish(Message(body=b"1"), routing_key="q")
            consumer.requeue(consumer.receive(PATIENCE), delay=PATIENCE)
    kept = {entity.name for entity in declared} - {"mine"}
    assert sorted(kept) == virtual_hosts.what_is_in(own_rabbitmq)
    assert len(kept) == 6
    with connect(own_rabbitmq) as bus:
        bus.delete(*declared)
    assert virtual_hosts.what_is_in(own_rabbitmq) == []
