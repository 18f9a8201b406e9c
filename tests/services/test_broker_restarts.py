"""A RabbitMQ of the test's own is restarted under load: no event is missing, no call hangs."""

import itertools
import random
import socket
import threading
from collections import Counter
from contextlib import suppress
from time import monotonic

import pytest

from m3.errors import BusError
from m3.policies import Backoff
from m3.services import ClusterRpcProxy, RpcTimeout, event_dispatcher

pytestmark = pytest.mark.services

PATIENCE = 60
RATE = 1000
"""Events a second, of all publishers together."""

PUBLISHERS = 20
CALLERS = 2
CALL_TIMEOUT = 8.0
GRACE = 2.5
"""Seconds that a caller may need to be told that its time is over, on a busy machine."""

INSTANCES = 2
OPTIONS = {"heartbeat": 4, "reconnect": Backoff(initial=0.05, maximum=0.5)}

SERVICE = """
import os
import sys
import time

from m3.policies import Backoff
from m3.services import ServiceContainer, event_handler, rpc

url, path = sys.argv[1:]
file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

class Counting:
    name = "counting"

    @event_handler("numbers", "number")
    def note(self, number):
        os.write(file, b"%d %f\\n" % (number, time.monotonic()))

    @rpc
    def double(self, number):
        return 2 * number

options = {"heartbeat": 4, "reconnect": Backoff(initial=0.05, maximum=0.5)}
with ServiceContainer(Counting, {"AMQP_URI": url, "bus_options": options}):
    print("serving", flush=True)
    sys.stdin.read()
"""


class Load:
    """Threads that dispatch numbered events, and threads that call, until it is over."""

    def __init__(self, url):
        self.config = {"AMQP_URI": url, "bus_options": OPTIONS}
        self.over = threading.Event()
        self.published = [[] for _ in range(PUBLISHERS)]
        self.retries = 0
        self.calls = []
        self.problems = []
        work = [(self.publish, number) for number in range(PUBLISHERS)]
        work += [(self.call, number) for number in range(CALLERS)]
        self.threads = [threading.Thread(target=self.do, args=one, daemon=True) for one in work]

    def __enter__(self):
        self.dispatcher = event_dispatcher(self.config)
        self.dispatch = self.dispatcher.__enter__()
        self.cluster = ClusterRpcProxy(self.config, timeout=CALL_TIMEOUT).start()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        self.cluster.stop()
        self.dispatcher.__exit__()
        assert not any(thread.is_alive() for thread in self.threads), "it hangs"

    def do(self, method, number):
        try:
            method(number)
        except Exception as error:
            self.problems.append(error)

    def publish(self, publisher):
        due = monotonic()
        for number in itertools.count(publisher, PUBLISHERS):
            if self.over.is_set():
                return
            while not self.is_dispatched(number):
                self.retries += 1
            self.published[publisher].append(number)
            due = max(due + PUBLISHERS / RATE, monotonic() - 1)
            self.over.wait(max(0, due - monotonic()))

    def is_dispatched(self, number):
        try:
            self.dispatch("numbers", "number", number)
        except BusError:
            return False
        return True

    def call(self, caller):
        for number in itertools.count():
            if self.over.wait(0.02):
                return
            began = monotonic()
            try:
                assert self.cluster.counting.double(number) == 2 * number
                outcome = "answered"
            except (RpcTimeout, BusError) as error:
                outcome = type(error).__name__
            self.calls.append((outcome, monotonic() - began))


class Restarts:
    """Has a node go and come back, and knows since when it takes connections."""

    def __init__(self, node):
        self.node = node
        self.ups = []

    def restart(self, way):
        if way == "kill":
            self.node.kill()
        else:
            self.node.control("stop_app")
        watch = threading.Thread(target=self.watch, daemon=True)
        watch.start()
        if way == "kill":
            self.node.start()
        else:
            self.node.control("start_app")
        watch.join(PATIENCE)

    def watch(self):
        pause = threading.Event()
        while not pause.wait(0.01):
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", self.node.port), 1) as one,
            ):
                one.sendall(b"AMQP\x00\x00\x09\x01")
                if one.recv(1):
                    self.ups.append(monotonic())
                    return


def handled_in(path):
    """Return the numbers that were handled, and the moments at which something was."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return Counter(int(number) for number, _ in lines), sorted(float(when) for _, when in lines)


def wait_for_all(path, published):
    until = monotonic() + PATIENCE
    while not (handled_in(path)[0].keys() >= published):
        assert monotonic() < until, f"missing: {sorted(published - handled_in(path)[0].keys())[:9]}"
        threading.Event().wait(0.1)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(["restart", "kill"], id="twice"),
        pytest.param(["restart"] * 14 + ["kill"] * 6, id="20 times", marks=pytest.mark.stress),
    ],
)
def test_nothing_is_missing_when_rabbitmq_is_restarted_under_load(
    ways, rabbit_node, start_process, tmp_path
):
    """What was dispatched is handled, by one instance or the other; each call ends in its time."""
    path = tmp_path / "handled"
    for _ in range(INSTANCES):
        process = start_process(SERVICE, rabbit_node.url, path)
        assert process.stdout.readline() == b"serving\n"
    restarts = Restarts(rabbit_node)
    began = monotonic()
    with Load(rabbit_node.url) as load:
        for way in random.sample(ways, len(ways)):
            load.over.wait(random.uniform(1, 3))
            restarts.restart(way)
        load.over.wait(2)
    seconds = monotonic() - began
    published = {number for numbers in load.published for number in numbers}
    wait_for_all(path, published)
    assert load.problems == []
    assert max(seconds for _, seconds in load.calls) < CALL_TIMEOUT + GRACE
    counts, moments = handled_in(path)
    first = [next(when for when in moments if when >= up) - up for up in sorted(restarts.ups)]
    tell(len(ways), seconds, counts, load, sorted(first))


def tell(times, seconds, counts, load, recoveries):
    twice = sum(counts.values()) - len(counts)
    outcomes = Counter(outcome for outcome, _ in load.calls)
    print(
        f"\n{times} restarts in {seconds:.0f} s: {len(counts):,} events, 0 missing, {twice} twice"
    )
    print(f"dispatched again: {load.retries}; calls: {dict(outcomes)}, ", end="")
    print(f"the longest {max(duration for _, duration in load.calls):.2f} s")
    p50, p99 = recoveries[len(recoveries) // 2], recoveries[-1]
    print(f"recovery: p50 {p50:.2f} s, at most {p99:.2f} s")
