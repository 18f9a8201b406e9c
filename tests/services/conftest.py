"""What the tests of services share: a bus of their own, and services that run on it."""

import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

import m3
from m3.messaging import Message, Queue, connect
from m3.services import ClusterRpcProxy, ServiceContainer, run_services

ROOT = str(Path(m3.__file__).parent.parent)


@pytest.fixture
def start_process():
    """Return a function that runs a program of Python until the test ends, with pipes."""
    processes = []

    def start(program, *arguments):
        streams = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        command = [sys.executable, "-c", program, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": ROOT}
        process = subprocess.Popen(command, env=environment, **streams)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(params=["memory", "sqlite", pytest.param("amqp", marks=pytest.mark.services)])
def bus_url(request, tmp_path):
    """Return the URL of a bus that no other test uses, of each kind in turn."""
    if request.param == "amqp":
        return request.getfixturevalue("own_rabbitmq")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bus.db"
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def config(bus_url):
    """Return what a container is given."""
    return {"AMQP_URI": bus_url, "stop_timeout": 20}


@pytest.fixture
def bus(bus_url):
    """Return the bus, connected, so that what is on it outlives the services."""
    with connect(bus_url) as bus:
        yield bus


@pytest.fixture
def serve(bus, config):
    """Return a function that runs services until the test ends, and returns their runner."""
    with ExitStack() as stack:

        def serve(*services, **options):
            return stack.enter_context(run_services({**config, **options}, *services))

        yield serve


@pytest.fixture
def outlive(bus):
    """Return a function that waits until all has expired that was to within so many seconds."""
    name = f"m3-test-{uuid.uuid4().hex}"
    clock, end = Queue(name, dead_letter=f"{name}-end"), Queue(f"{name}-end")
    bus.declare(clock)

    def outlive(seconds):
        with bus.consumer(end) as consumer:
            bus.publish(Message(body=b"", expiration=seconds), routing_key=name)
            consumer.ack(consumer.receive(20))

    yield outlive
    bus.delete(clock, end)


@pytest.fixture
def cluster(bus, config):
    """Return all services of the bus."""
    with ClusterRpcProxy(config) as cluster:
        yield cluster


class Arrivals:
    """Collects what was handled, and lets a test wait for it."""

    def __init__(self):
        self.seen = []
        self._changed = threading.Condition()

    def add(self, *what):
        with self._changed:
            self.seen.append(what if len(what) > 1 else what[0])
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, 20), self.seen
        return self.seen


@pytest.fixture
def arrivals():
    return Arrivals()


@pytest.fixture
def clock():
    """Return the clock of the services, None for that of the machine."""


@pytest.fixture
def start(config, bus, clock):
    """Return a function that starts an instance of a service, until the test ends."""
    containers = []

    def start(service_cls, **options):
        container = ServiceContainer(service_cls, {**config, **options}, clock=clock)
        container.start()
        containers.append(container)
        return container

    yield start
    for container in containers:
        container.stop()


@pytest.fixture
def berlin(monkeypatch):
    """Let the machine be in Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
