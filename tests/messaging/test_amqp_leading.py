"""Who waits for RabbitMQ reads for himself, and whatever becomes of him, nobody waits in vain."""

import ctypes
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Queue as Heard
from time import monotonic
from uuid import uuid4

import pytest
from tcp_proxy import DOWN
from waiting import until

from m3.errors import BusError, BusTimeoutError
from m3.messaging import Message, Queue, connect
from m3.messaging._amqp.leading import TICK
from m3.messaging.awaited import Awaited

PATIENCE = 30
SOON = 2.0
"""Far longer than anything takes here, and far shorter than what would help if it failed."""

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bus(proxied):
    with connect(proxied, heartbeat=2) as bus:
        yield bus


@pytest.fixture
def link(bus):
    """Return the connection that is published on, when it is there."""
    until(lambda: bus._publishing.link.source() is not None)
    return bus._publishing.link


@pytest.fixture
def queue(bus):
    """Return a queue of the test's own."""
    queue = Queue(f"m3-test-{uuid4().hex}", durable=False)
    bus.declare(queue)
    yield queue
    bus.delete(queue)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(20) as pool:
        yield pool


def leads(link):
    """Wait until somebody leads."""
    until(lambda: link._lead.leader() is not None)


def publish(bus, queue, body=b"x", timeout=PATIENCE):
    bus.publish(Message(body=body), routing_key=queue.name, timeout=timeout)


def bodies_in(bus, queue, last):
    """Return what is in a queue, up to the *last* message."""
    consumer, bodies = bus.consumer(queue, prefetch=1000), []
    while last not in bodies:
        delivery = consumer.receive(PATIENCE)
        bodies.append(delivery.message.body)
        consumer.ack(delivery)
    consumer.close()
    return bodies


# -- what it is for


def test_who_waits_alone_reads_for_himself(bus, link, queue, pool, tcp_proxy, monkeypatch):
    """What comes once he waits, no other thread reads."""
    readers = []
    read = link._receive
    monkeypatch.setattr(
        link, "_receive", lambda each: (readers.append(threading.get_ident()), read(each))
    )
    for _ in range(20):
        readers.clear()
        tcp_proxy.hold(DOWN)
        published = pool.submit(lambda: (publish(bus, queue), threading.get_ident()))
        leads(link)
        tcp_proxy.heal()
        _, publisher = published.result(PATIENCE)
        assert set(readers) == {publisher}


def test_nobody_reads_for_a_consumer(bus, queue):
    """A consumer does not wait for the end of a tick because somebody else led before."""
    bus.listen(Queue(f"m3-test-{uuid4().hex}", exclusive=True), id, id)
    link = bus._consuming.link
    assert link.source() is not None
    consumer = bus.consumer(queue)
    assert link.source() is None
    consumer.close()
    assert link.source() is not None


# -- the thread that stands by


def test_heartbeats_while_somebody_leads(bus, link, queue, pool):
    """A broker hears of a client, and the other way round, however long somebody waits."""
    connection = link._connection
    wait = pool.submit(link.wait, Awaited(), 7.0)
    leads(link)
    assert not wait.result(PATIENCE)
    assert link._connection is connection
    publish(bus, queue)


def test_a_silent_broker_while_somebody_leads(bus, link, queue, tcp_proxy, pool):
    """It is noticed in time, and who waits gets his answer from the next connection."""
    publish(bus, queue, b"0")
    connection = link._connection
    tcp_proxy.hold(DOWN)
    answer = pool.submit(publish, bus, queue, b"1")
    leads(link)
    until(lambda: link._connection is not connection)
    tcp_proxy.heal()
    answer.result(PATIENCE)
    assert set(bodies_in(bus, queue, b"1")) == {b"0", b"1"}


def test_what_comes_after_a_leader_is_heard(bus, pool):
    """When the last one who waited has gone, nobody needs to come for others to hear."""
    address, heard = f"m3-test-{uuid4().hex}", Heard()
    bus.listen(Queue(address, exclusive=True), heard.put, print)
    link, longest = bus._consuming.link, 0.0
    for number in range(50):
        awaited = Awaited()
        wait = pool.submit(link.wait, awaited, PATIENCE)
        leads(link)
        publish(bus, Queue(address), b"led")
        heard.get(timeout=PATIENCE)
        awaited.turn_on()
        assert wait.result(PATIENCE)
        begun = monotonic()
        publish(bus, Queue(address), b"%d" % number)
        assert heard.get(timeout=PATIENCE).body == b"%d" % number
        longest = max(longest, monotonic() - begun)
    assert longest < SOON


def test_what_comes_after_a_long_wait_is_heard(rabbitmq, pool):
    """A thread that was told not to look any more is told when who leads has gone."""
    address, heard, awaited = f"m3-test-{uuid4().hex}", Heard(), Awaited()
    with connect(rabbitmq, heartbeat=40) as bus:
        listener = bus.listen(Queue(address, exclusive=True), heard.put, print)
        link = bus._consuming.link
        wait = pool.submit(link.wait, awaited, PATIENCE)
        leads(link)

        def asks_back():
            """Let something come; the thread stands by only if it notices that."""
            publish(bus, Queue(address), b"1")
            heard.get(timeout=PATIENCE)
            until(lambda: listener._heard is None)
            pause = threading.Event()
            return any(link._lead.asks_back or pause.wait(TICK) for _ in range(5))

        until(asks_back)
        awaited.turn_on()
        assert wait.result(PATIENCE)
        begun = monotonic()
        publish(bus, Queue(address), b"2")
        assert heard.get(timeout=PATIENCE).body == b"2"
        assert monotonic() - begun < 5  # a heartbeat would come after ten seconds


IDLE = """
import resource, sys, threading
from m3.messaging import Message, Queue, connect
from m3.messaging.awaited import Awaited

def switches():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw

with connect(sys.argv[1], heartbeat=60) as bus:
    queue = Queue(sys.argv[2], durable=False, auto_delete=True)
    bus.declare(queue)
    bus.listen(Queue(sys.argv[2] + "-heard", exclusive=True), id, id)
    for _ in range(100):
        bus.publish(Message(body=b"x"), routing_key=queue.name)
    end = Awaited()
    links = [bus._publishing.link, bus._consuming.link][: int(sys.argv[3])]
    threads = [threading.Thread(target=link.wait, args=(end, 60)) for link in links]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    pause.wait(0.3)
    before = switches()
    pause.wait(1.0)
    print(switches() - before)
    end.turn_on()
    bus.delete(queue)
"""


@pytest.mark.parametrize("leaders", [0, 2])
def test_who_has_nothing_to_do_sleeps(leaders, rabbitmq):
    """No thread looks for anything while nothing happens, also while somebody waits long."""
    name = f"m3-test-{uuid4().hex}"
    command = [sys.executable, "-c", IDLE, rabbitmq, name, str(leaders)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert int(result.stdout) < 10, result.stderr


# -- several who wait


def test_who_leads_reads_for_others(bus, link, queue, pool):
    """An answer for somebody else reaches him."""
    awaited = Awaited()
    wait = pool.submit(link.wait, awaited, PATIENCE)
    leads(link)
    for _ in range(20):
        pool.submit(publish, bus, queue).result(SOON)
    awaited.turn_on()
    assert wait.result(PATIENCE)


def test_others_still_wait_when_who_leads_goes(bus, link, queue, tcp_proxy, pool):
    """Somebody reads for them at once."""
    for _ in range(10):
        until(lambda: not link._lead.was_crowded(monotonic()))
        awaited = Awaited()
        wait = pool.submit(link.wait, awaited, PATIENCE)
        leads(link)
        tcp_proxy.hold(DOWN)
        answer = pool.submit(publish, bus, queue)
        awaited.turn_on()
        assert wait.result(SOON)
        tcp_proxy.heal()
        answer.result(SOON)


def test_two_who_wait_for_the_same(link, pool):
    """Both are woken, whoever of them leads."""
    for _ in range(100):
        until(lambda: not link._lead.was_crowded(monotonic()))
        awaited = Awaited()
        waits = [pool.submit(link.wait, awaited, PATIENCE)]
        leads(link)
        waits += [pool.submit(link.wait, awaited, PATIENCE) for _ in range(2)]
        awaited.turn_on()
        assert all(wait.result(SOON) for wait in waits)


def test_who_does_not_come_back_is_waited_for_by_nobody(bus, link, queue):
    """A signal handler may wait itself, while the thread that it has interrupted leads."""
    done = []

    def handle(*_):
        publish(bus, queue, timeout=SOON)
        done.append(link._lead.times)
        awaited.turn_on()

    awaited = Awaited()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        publish(bus, queue)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert link.wait(awaited, SOON)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert done


# -- whatever happens to who leads


def test_what_fails_while_somebody_leads_is_for_the_thread(bus, link, queue, monkeypatch, caplog):
    """Who waits does not learn of it; his message is sent again on the next connection."""
    read, fails = link._receive, [BusError("it does not work"), ConnectionResetError()]

    def receive(connection):
        if fails:
            raise fails.pop()
        read(connection)

    monkeypatch.setattr(link, "_receive", receive)
    published = []
    while fails:
        until(lambda: link.source() is not None)
        published.append(b"%d" % len(published))
        publish(bus, queue, published[-1])
    publish(bus, queue, b"last")
    assert "is lost: BusError: it does not work" in caplog.text
    assert set(bodies_in(bus, queue, b"last")) == {*published, b"last"}


@pytest.mark.parametrize("handles", [False, True])
def test_who_is_interrupted_while_it_reads_harms_nobody(
    handles, bus, link, queue, pool, monkeypatch
):
    """What it has taken from the socket comes again, for everybody who waits for it."""
    read, this_thread = link._receive, threading.get_ident()
    times = []

    def half(connection):
        if threading.get_ident() == this_thread and len(times) < 3:
            times.append(1)
            (read if handles else type(connection).receive)(connection)
            raise KeyboardInterrupt
        read(connection)

    monkeypatch.setattr(link, "_receive", half)
    for number in range(3):
        with pytest.raises(KeyboardInterrupt):
            while True:
                publish(bus, queue, b"%d" % number)
                until(lambda: link.source() is not None)
        pool.submit(publish, bus, queue, b"other").result(PATIENCE)
        until(lambda: link.source() is not None)
    publish(bus, queue, b"last")
    assert set(bodies_in(bus, queue, b"last")) >= {b"0", b"1", b"2", b"other", b"last"}


def test_a_cut_while_somebody_leads(bus, link, queue, tcp_proxy, pool):
    """Who waits gets his answer from the next connection."""
    for number in range(5):
        until(lambda: link.source() is not None)
        tcp_proxy.hold(DOWN)
        answer = pool.submit(publish, bus, queue, b"%d" % number)
        leads(link)
        tcp_proxy.cut()
        tcp_proxy.heal()
        answer.result(PATIENCE)
    assert set(bodies_in(bus, queue, b"4")) == {b"%d" % number for number in range(5)}


def test_ctrl_c_while_somebody_leads(link):
    """It ends the wait at once, and does no harm to the connection."""
    connection = link._connection
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.05))
            begun = monotonic()
            with pytest.raises(KeyboardInterrupt):
                link.wait(Awaited(), PATIENCE)
            assert monotonic() - begun < SOON
    finally:
        signal.signal(signal.SIGALRM, before)
    assert link._connection is connection
    assert (link._lead.leader(), link._lead._waiting) == (None, set())


def test_a_timeout_while_somebody_leads(bus, link, queue, tcp_proxy):
    """It ends the wait in time."""
    publish(bus, queue)
    tcp_proxy.hold(DOWN)
    begun = monotonic()
    with pytest.raises(BusTimeoutError):
        publish(bus, queue, timeout=0.2)
    assert 0.2 <= monotonic() - begun < 0.2 + SOON
    tcp_proxy.heal()
    publish(bus, queue)


def test_closing_ends_the_wait_of_who_leads(proxied, queue, tcp_proxy, pool):
    """It learns that there will be no answer, and the sockets are closed."""
    for _ in range(10):
        bus = connect(proxied)
        bus.setup()
        link = bus._publishing.link
        publish(bus, queue)
        tcp_proxy.hold(DOWN)
        answer = pool.submit(publish, bus, queue)
        leads(link)
        shutdown = pool.submit(bus.shutdown)
        with pytest.raises(BusError, match="is closed"):
            answer.result(PATIENCE)
        tcp_proxy.heal()
        shutdown.result(PATIENCE)
        until(lambda: all(sock.fileno() < 0 for sock in link._lead.sockets))  # noqa: B023


def test_a_leader_who_is_gone_without_a_word(bus, link, queue, pool):
    """Interrupted twice, it may have left the lead to nobody; that is noticed, and mended."""
    gone = object()
    link._lead._leaders[None] = gone
    for _ in range(100):
        pool.submit(publish, bus, queue).result(SOON)
    until(lambda: link._lead._leaders.get(None) is not gone)
    awaited = Awaited()
    wait = pool.submit(link.wait, awaited, PATIENCE)
    leads(link)
    awaited.turn_on()
    assert wait.result(PATIENCE)


class Killed(BaseException):
    """What is thrown into a thread."""


@pytest.mark.timeout(120)
def test_whoever_is_interrupted_wherever(bus, link, queue, monkeypatch):
    """No message is lost, nobody waits in vain, and nobody leads in the end."""
    hook = threading.excepthook
    monkeypatch.setattr(threading, "excepthook", lambda args: args.exc_type is Killed or hook(args))
    published, stop, failures = [], threading.Event(), []
    interval = sys.getswitchinterval()

    def work(worker):
        number = 0
        with suppress(Killed):
            while not stop.is_set():
                number += 1
                body = b"%d-%d" % (worker, number)
                try:
                    publish(bus, queue, body, timeout=20)
                    published.append(body)
                except Killed:
                    pass
                except BusError as error:
                    failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            stop.wait(random.uniform(0, 0.01))
            victim = random.choice(threads)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(victim.ident), ctypes.py_object(Killed)
            )
    finally:
        sys.setswitchinterval(interval)
        stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    publish(bus, queue, b"last")
    assert set(bodies_in(bus, queue, b"last")) >= set(published)
    assert not failures
    assert link._lead.leader() is None
