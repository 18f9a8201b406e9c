"""Processes that run a service are killed in mid-call, again and again: no call is lost."""

import threading
import uuid

import pytest

from m3.errors import HungWorkerError
from m3.messaging import Exchange, Message, Queue, connect
from m3.services import (
    ClusterRpcProxy,
    ServiceContainer,
    consume,
    event_dispatcher,
    event_handler,
    rpc,
)
from m3.testing import entrypoint_waiter

SERVICE = """
import os
import sys

from m3.messaging import Queue
from m3.services import ServiceContainer, consume, event_handler, rpc

url, name = sys.argv[1:]


def tell(text):
    os.write(1, f"{text}\\n".encode())


def work(number):
    tell(f"begun {number}")
    sys.stdin.readline()
    tell(f"done {number}")
    return number


class Work:
    @rpc
    def call(self, number):
        return work(number)

    @event_handler(name, "number")
    def note(self, number):
        work(number)

    @consume(Queue(f"{name}-inbox"))
    def take(self, number):
        work(number)


Work.name = name
config = {"AMQP_URI": url, "rpc_exchange": f"{name}-rpc", "max_workers": 1}
with ServiceContainer(Work, config) as container:
    tell("serving -")
    container.wait()
"""

BUSES = ["sqlite", pytest.param("amqp", marks=pytest.mark.services)]
ROUNDS = [5, pytest.param(100, marks=pytest.mark.stress)]


@pytest.fixture(params=BUSES)
def url(request, tmp_path):
    """Return the URL of a bus of each kind that processes share."""
    if request.param == "amqp":
        return request.getfixturevalue("rabbitmq")
    return f"sqlite:///{tmp_path}/bus.db"


@pytest.fixture
def name(url):
    """Return the name of the service, of which nothing is left after the test."""
    name = f"m3-test-{uuid.uuid4().hex[:8]}"
    yield name
    queues = [f"rpc-{name}", f"evt-{name}-number--{name}.note", f"{name}-inbox", f"dead-{name}"]
    with connect(url) as bus:
        bus.delete(*map(Queue, queues), Exchange(f"{name}-rpc"), Exchange(f"{name}.events"))


class Worker:
    """A process that runs the service; it goes on with a call when it is told to."""

    def __init__(self, process):
        self.process = process

    def read(self, word):
        """Wait until it says *word*; return what it says of it."""
        while (line := self.process.stdout.readline().decode().split()) and line[0] != word:
            pass
        assert line, "it has ended"
        return line[1]

    def begun(self):
        """Wait until a call has begun; return its number."""
        return int(self.read("begun"))

    def finish(self):
        """Let the call at hand end; return its number."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return int(self.read("done"))

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_no_call_is_lost_when_a_service_is_killed(rounds, url, name, start_process):
    """A call whose process was killed is made by another, and its caller gets the answer."""
    config = {"AMQP_URI": url, "rpc_exchange": f"{name}-rpc"}
    worker = Worker(start_process(SERVICE, url, name))
    worker.read("serving")
    with ClusterRpcProxy(config, timeout=500) as cluster:
        replies = []
        for number in range(rounds):
            replies.append(cluster[name].call.call_async(number))
            assert worker.begun() == number
            worker.kill()
            worker = Worker(start_process(SERVICE, url, name))
            assert worker.begun() == number
            assert worker.finish() == number
        assert [reply.result() for reply in replies] == list(range(rounds))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("kind", ["event", pytest.param("message", marks=pytest.mark.stress)])
def test_no_message_is_lost_when_a_service_is_killed(kind, rounds, url, name, start_process):
    """Events and messages whose process was killed are handled by another, those before once."""
    worker = Worker(start_process(SERVICE, url, name))
    worker.read("serving")
    total = 3 * rounds
    with event_dispatcher({"AMQP_URI": url}) as dispatch, connect(url) as bus:
        for number in range(total):
            if kind == "event":
                dispatch(name, "number", number)
            else:
                message = Message(body=b"%d" % number)
                bus.publish(message, routing_key=f"{name}-inbox", mandatory=True)
    done = []
    for _ in range(rounds):
        worker.begun()
        done.append(worker.finish())
        worker.begun()
        worker.kill()
        worker = Worker(start_process(SERVICE, url, name))
    while len(set(done)) < total:
        worker.begun()
        done.append(worker.finish())
    assert set(done) == set(range(total))
    print(f"{rounds} kills: 0 of {total} missing, {len(done) - total} done twice")


class Slow:
    """A service whose calls go on when it is killed, and then end in one way or another."""

    name = "slow"
    ending = None

    def _hold(self):
        self.begun.release()
        self.may_end.wait(20)
        if self.ending is not None:
            raise self.ending

    @rpc
    def call(self):
        self._hold()
        return "an answer"

    @event_handler("ship", "arrived")
    def handle(self, payload):
        self._hold()

    @consume(Queue("slow-inbox"))
    def read(self, payload):
        self._hold()


@pytest.fixture
def slow(monkeypatch):
    """Return the service, whose calls last until the test lets them end."""
    monkeypatch.setattr(Slow, "begun", threading.Semaphore(0), raising=False)
    monkeypatch.setattr(Slow, "may_end", threading.Event(), raising=False)
    yield Slow
    Slow.may_end.set()


def cause(kind, bus, config, cluster):
    """Have a method of the service called; return the answer, if there is one."""
    if kind == "call":
        return cluster.slow.call.call_async()
    if kind == "handle":
        return event_dispatcher(config)("ship", "arrived", 1)
    return bus.publish(Message(body=b"1"), routing_key="slow-inbox")


@pytest.mark.parametrize("ending", [None, ValueError("too bad")], ids=["returns", "raises"])
@pytest.mark.parametrize("kind", ["call", "handle", "read"])
def test_what_ends_after_a_kill(slow, bus, config, cluster, caplog, monkeypatch, kind, ending):
    """Its message went back, and another instance has it: it is not answered, and no error."""
    monkeypatch.setattr(slow, "ending", ending)
    container = ServiceContainer(slow, config)
    container.start()
    reply = cause(kind, bus, config, cluster)
    assert slow.begun.acquire(timeout=20)
    with entrypoint_waiter(container, kind):
        container.kill()
        slow.may_end.set()
    with pytest.raises(HungWorkerError):
        container.wait(20)
    assert "AttributeError" not in caplog.text
    monkeypatch.setattr(slow, "ending", None)
    with ServiceContainer(slow, config):
        assert slow.begun.acquire(timeout=20)
        assert reply is None or reply.result() == "an answer"
    with bus.consumer(Queue("dead-slow")) as consumer:
        assert consumer.receive(0) is None
