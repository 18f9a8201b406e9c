"""Many services, started and stopped again and again: what they took is given back."""

import gc
import resource
import threading
import time
import uuid
from pathlib import Path

import pytest

from m3.messaging import Queue, connect
from m3.services import ClusterRpcProxy, event_dispatcher, event_handler, rpc, run_services, timer
from m3.services.events import event_exchange

STRESS = [pytest.mark.stress, pytest.mark.timeout(1800)]
SIZES = [
    pytest.param("memory", 3, 30, id="memory"),
    pytest.param("sqlite", 3, 20, id="sqlite"),
    pytest.param("amqp", 3, 5, id="amqp", marks=pytest.mark.services),
    pytest.param("memory", 100, 100, id="memory-10000", marks=STRESS),
    pytest.param("sqlite", 100, 100, id="sqlite-10000", marks=STRESS),
    pytest.param("amqp", 20, 20, id="amqp-400", marks=[pytest.mark.services, *STRESS]),
]
WARM = 2
"""Rounds after which everything that is made once is there."""

MOST_MORE_OBJECTS = 100
MOST_MORE_MEMORY = 20 * 1024 * 1024


@pytest.fixture
def prefix():
    """Return what the names of the services begin with."""
    return f"many-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def url(request, tmp_path, prefix):
    """Return a function that makes the URL of a bus of some kind."""
    return {
        "memory": lambda: f"memory://{prefix}",
        "sqlite": lambda: f"sqlite:///{tmp_path}/bus.db",
        "amqp": lambda: request.getfixturevalue("rabbitmq"),
    }


class Roll:
    """Who has handled the event of a round."""

    def __init__(self):
        self._changed = threading.Condition()
        self._names = set()

    def add(self, name):
        with self._changed:
            self._names.add(name)
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._names) == count, 60), self._names
            self._names.clear()


def service(number, prefix, roll):
    """Return a service with some of each."""

    class One:
        name = f"{prefix}-{number}"

        @rpc
        def echo(self, value):
            return value

        @event_handler(prefix, "happened", reliable_delivery=False)
        def handle(self, payload):
            roll.add(self.name)

        @timer(interval=3600)
        def tick(self):
            """Not yet."""

        @timer(interval=3600, singleton=True)
        def tock(self):
            """Not yet."""

    return One


def taken():
    """Return what the process has: threads, descriptors, objects, bytes of memory."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    descriptors = sum(1 for _ in Path("/dev/fd").iterdir())
    return threading.active_count(), descriptors, len(gc.get_objects()), resident


@pytest.mark.parametrize(("kind", "rounds", "at_once"), SIZES)
def test_all_is_given_back(kind, rounds, at_once, url, prefix):
    """After any number of rounds there are as many threads, descriptors and objects as before."""
    roll = Roll()
    services = [service(number, prefix, roll) for number in range(at_once)]
    config = {"AMQP_URI": url[kind](), "stop_timeout": 60}
    before, seen = taken(), []
    for round_ in range(rounds):
        with run_services(config, *services):
            event_dispatcher(config)(prefix, "happened", round_)
            roll.wait(at_once)
            with ClusterRpcProxy(config) as cluster:
                assert cluster[services[-1].name].echo(round_) == round_
        seen.append(taken())
    forget(config, services, prefix)
    print(f"threads, descriptors, objects, bytes: {[before, *seen[:: max(1, rounds // 10)]]}")
    threads, descriptors, objects, memory = zip(*seen, strict=True)
    assert set(threads) == {before[0]}
    assert set(descriptors[WARM - 1 :]) == {descriptors[WARM - 1]} <= {before[1]}
    assert max(objects) - objects[WARM - 1] < MOST_MORE_OBJECTS
    if rounds > 10 * WARM:
        assert memory[-1] - memory[rounds // 10] < MOST_MORE_MEMORY


def forget(config, services, prefix):
    """Delete what is left on a broker."""
    if config["AMQP_URI"].startswith("amqp"):
        with connect(config["AMQP_URI"]) as bus:
            bus.delete(event_exchange(prefix))
            for name in (each.name for each in services):
                queues = f"rpc-{name}", f"dead-{name}", f"timer-{name}-tock-begun"
                bus.delete(*map(Queue, queues))


@pytest.mark.parametrize("many", [100, pytest.param(500, marks=STRESS)])
def test_services_that_are_idle_take_no_time(many, prefix):
    """Nothing polls: while no call is made, next to no time of the processor is used."""
    services = [service(number, prefix, Roll()) for number in range(many)]
    still = threading.Event()
    with run_services({"AMQP_URI": f"memory://{prefix}", "max_workers": 1}, *services):
        still.wait(0.5)  # the last of them are getting ready
        begin = time.process_time()
        still.wait(2)
        assert time.process_time() - begin < 0.02 + many / 10_000
