"""Timers that call once in the cluster: by one instance of all, whatever becomes of it."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest
from tcp_proxy import DOWN, UP

from m3 import Backoff
from m3.errors import BusTimeoutError
from m3.messaging import Message, Queue, connect
from m3.services import ServiceContainer, timer
from m3.testing import FakeClock

BEGIN = 1_700_000_000.0
"""A time on the grid of the timers here."""

BUSES = ["memory", "sqlite", pytest.param("amqp", marks=pytest.mark.services)]
SHARED = BUSES[1:]
"""The buses of several processes."""


@pytest.fixture
def name():
    """Return the name of a service that no other test has."""
    return f"sweeper-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def bus_url(request, tmp_path, name):
    """Return the URL of each bus in turn; what is left on RabbitMQ is deleted."""
    kind = request.param
    if kind == "amqp":
        url = request.getfixturevalue("rabbitmq")
        yield url
        with connect(url) as bus:
            bus.delete(Queue(f"timer-{name}-sweep-begun"))
    else:
        yield f"sqlite:///{tmp_path}/bus.db" if kind == "sqlite" else f"memory://{name}"


class Calls:
    """What was called, and by which instance."""

    def __init__(self, clock):
        self.clock = clock
        self.made = []

    def add(self, instance):
        self.made.append((self.clock.time() - BEGIN, instance))

    @property
    def times(self):
        return [when for when, _ in self.made]

    @property
    def leaders(self):
        return list(dict.fromkeys(instance for _, instance in self.made))


@pytest.fixture
def clock():
    return FakeClock(BEGIN + 1)


@pytest.fixture
def calls(clock):
    return Calls(clock)


@pytest.fixture
def instance(bus_url, name, calls, clock):
    """Return a function that starts one more instance of the service, until the test ends."""
    with connect(bus_url), ExitStack() as stack:

        def instance(number, *, own_clock=None, config=(), during=lambda: None, **options):
            class Sweeper:
                @timer(interval=5, singleton=True, **options)
                def sweep(self):
                    calls.add(number)
                    during()

            Sweeper.name = name
            config = {"AMQP_URI": bus_url, "stop_timeout": 20, **dict(config)}
            container = ServiceContainer(Sweeper, config, clock=own_clock or clock)
            stack.enter_context(container)
            return container

        yield instance


@pytest.mark.parametrize("bus_url", BUSES, indirect=True)
def test_each_time_has_one_call(instance, calls, clock):
    """Of three instances one calls, at every time of the grid, which is that of the wall clock."""
    for number in range(3):
        instance(number)
    clock.run(600)
    assert calls.times == [5.0 * number for number in range(1, 121)]
    assert len(calls.leaders) == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("bus_url", BUSES, indirect=True)
def test_another_one_goes_on(instance, calls, clock, how):
    """When the instance that calls is stopped, or killed, the next call is another one's."""
    containers = [instance(number) for number in range(3)]
    for _ in range(2):
        clock.run(50)
        getattr(containers[calls.leaders[-1]], how)()
    clock.run(50)
    assert calls.times == [5.0 * number for number in range(1, 31)]
    assert len(calls.leaders) == 3


@pytest.mark.parametrize("bus_url", BUSES, indirect=True)
def test_clocks_that_are_apart(instance, calls):
    """What a fast instance has called before it was stopped, a slow one does not call again."""
    fast, slow = FakeClock(BEGIN), FakeClock(BEGIN - 2)
    calls.clock = fast
    first, _ = instance("fast", own_clock=fast), instance("slow", own_clock=slow)
    fast.run(10)
    first.stop()
    calls.clock = slow
    slow.run(18)
    assert calls.made == [(5, "fast"), (10, "fast"), (15, "slow")]


@pytest.mark.parametrize("bus_url", BUSES, indirect=True)
def test_calls_do_not_overlap_in_the_cluster(instance, calls, clock):
    """While a call lasts no other instance makes one, also if its own is being stopped."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def during():
        begun.release()
        may_end.wait(20)

    containers = [instance(number, during=during) for number in range(2)]
    clock.await_sleepers()
    clock.advance(4)
    assert begun.acquire(timeout=20)
    for _ in range(2):
        clock.await_sleepers(1)
        clock.advance(5)
    containers[calls.leaders[0]].request_stop()
    clock.await_sleepers()
    clock.advance(5)
    clock.await_sleepers()
    assert calls.times == [5]
    may_end.set()
    containers[calls.leaders[0]].wait(20)
    clock.run(5)
    assert calls.times == [5, 25]
    assert len(calls.leaders) == 2


@pytest.mark.parametrize("bus_url", BUSES, indirect=True)
def test_an_eager_call_is_made_once(instance, calls, clock):
    """Of the instances that are started, the first one calls at once, and the others do not."""
    for number in range(3):
        instance(number, eager=True)
        clock.await_sleepers()
    clock.run(4)
    assert calls.made == [(1, 0), (5, 0)]


@pytest.mark.parametrize("queue", ["lead", "begun"])
@pytest.mark.parametrize("bus_url", ["memory", "sqlite"], indirect=True)
def test_a_queue_that_somebody_deletes(queue, bus_url, name, instance, calls, clock):
    """It is declared again, and at most the next time has no call."""
    for number in range(2):
        instance(number)
    clock.run(10)
    with connect(bus_url) as bus:
        bus.delete(Queue(f"timer-{name}-sweep-{queue}"))
    clock.run(20)
    assert len(calls.times) == len(set(calls.times))
    assert {5, 10, 15, 20, 25, 30} - set(calls.times) <= {15}


@pytest.mark.parametrize("bus_url", ["memory"], indirect=True)
def test_two_timers_of_a_method_have_turns_of_their_own(bus_url, clock):
    """Neither takes the other's."""
    times = []

    class Two:
        @timer(interval=4, singleton=True)
        @timer(cron="* * * * *", singleton=True)
        def tick(self):
            times.append(clock.time())

    config = {"AMQP_URI": bus_url}
    with ServiceContainer(Two, config, clock=clock), ServiceContainer(Two, config, clock=clock):
        clock.run(240)
    assert len(times) == 240 // 4 + 240 // 60


@pytest.mark.services
@pytest.mark.parametrize("fault", [("reset",), ("down",), ("hold", UP, DOWN)])
@pytest.mark.parametrize("bus_url", ["amqp"], indirect=True)
def test_a_leader_that_is_cut_off_calls_no_longer(
    fault, instance, calls, clock, tcp_proxy, proxied, monkeypatch
):
    """No time has two calls, and another instance makes them once the broker knows."""
    monkeypatch.setattr("m3.services.turns.PATIENCE", 0.5)
    quick = {"heartbeat": 2, "reconnect": Backoff(initial=0.1, maximum=0.1)}
    instance("cut off", config={"AMQP_URI": proxied, "bus_options": quick})
    clock.run(10)
    instance("other")
    clock.run(10)
    assert calls.leaders == ["cut off"]
    getattr(tcp_proxy, fault[0])(*fault[1:])
    while calls.leaders == ["cut off"] and len(calls.made) < 50:
        clock.run(5)
    assert fault == ("reset",) or calls.leaders == ["cut off", "other"]
    tcp_proxy.heal()
    clock.run(100)
    assert len(calls.times) == len(set(calls.times))
    assert calls.times[-20:] == [clock.time() - BEGIN - 1 - 5 * back for back in range(19, -1, -1)]


# -- processes

INSTANCE = """
import json, os, sys, threading
from m3.services import ServiceRunner, timer

name, url, options = sys.argv[1:]

class Sweeper:
    @timer(interval=0.1, singleton=True)
    def sweep(self):
        os.write(1, b"%d\\n" % os.getpid())

Sweeper.name = name
runner = ServiceRunner({"AMQP_URI": url, "bus_options": json.loads(options)})
runner.add_service(Sweeper)
runner.start()
runner.wait()
"""


@contextmanager
def processes(count, name, url, **options):
    """Run instances; give their processes by pid, and the end of a pipe on which they write."""
    reading, writing = os.pipe()
    command = [sys.executable, "-c", INSTANCE, name, url, json.dumps(options)]
    with ExitStack() as stack, open(reading) as lines:
        found = {}
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(command, stdout=writing))
            stack.callback(process.kill)
            found[process.pid] = process
        os.close(writing)
        yield found, lines


def called(lines, count=5):
    """Return who has made the next calls."""
    return [int(lines.readline()) for _ in range(count)]


@pytest.mark.parametrize("bus_url", SHARED, indirect=True)
def test_another_process_goes_on_when_one_is_killed(bus_url, name):
    """With ``kill -9``, again and again until none is left, there is one that calls."""
    with processes(3, name, bus_url) as (alive, lines):
        leader = None
        while alive:
            while (caller := called(lines, 1)[0]) == leader:
                pass  # what it had written before it was killed
            leader = caller
            assert set(called(lines)) == {leader}
            process = alive.pop(leader)
            process.kill()
            process.wait()


@pytest.mark.parametrize("bus_url", ["sqlite"], indirect=True)
def test_a_process_that_was_stuck_does_not_lead_any_more(bus_url, name):
    """Another one has gone on when its lease was over; when it goes on itself, it makes no call."""
    with processes(2, name, bus_url, lease=0.5) as (alive, lines):
        leader = called(lines)[-1]
        with connect(bus_url) as bus:
            freeze(leader, bus)
        other = next(pid for pid in alive if pid != leader)
        while called(lines, 1) != [other]:
            pass
        os.kill(leader, signal.SIGCONT)
        assert Counter(called(lines, 20))[other] >= 19
        assert set(called(lines, 5)) == {other}


def freeze(pid, bus):
    """Stop a process, at a moment at which it does not hold the file of the bus locked."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        try:
            bus.publish(Message(body=b""), routing_key="nobody", timeout=1)
        except BusTimeoutError:
            os.kill(pid, signal.SIGCONT)
        else:
            return
