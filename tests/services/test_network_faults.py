"""The network between a service and RabbitMQ fails: noticed, nothing missing, nothing hangs."""

import threading
import uuid
from contextlib import suppress
from time import monotonic

import pytest
from tcp_proxy import DOWN, FAULTS

from m3.errors import BusError, UndeliverableError
from m3.messaging import Exchange, Message, Queue, connect
from m3.policies import Backoff
from m3.services import (
    ClusterRpcProxy,
    RpcTimeout,
    Service,
    ServiceContainer,
    event_dispatcher,
    event_handler,
    rpc,
)

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rabbitmq")]

PATIENCE = 30
HEARTBEAT = 2
OPTIONS = {
    "heartbeat": HEARTBEAT,
    "connect_timeout": 1.0,
    "reconnect": Backoff(initial=0.05, maximum=0.2),
}
CALL_TIMEOUT = 3.0
GRACE = 2.5
"""Seconds beyond a deadline, on a busy machine."""

EVENTS = 200


def slow(proxy):
    proxy.latency = 0.05


def narrow(proxy):
    proxy.rate = 1000


class Town:
    """A service behind the proxy, one before it, and somebody who dispatches events and calls."""

    def __init__(self, url, proxied):
        self.name = name = f"m3-test-{uuid.uuid4().hex[:8]}"
        self.config = {"AMQP_URI": url, "rpc_exchange": f"{name}-rpc", "bus_options": OPTIONS}
        self.handled, self.twice = set(), 0
        self.all_handled = threading.Event()
        self.calls = []
        self.over = threading.Event()
        town = self

        class Far:
            name = f"{self.name}-far"
            near = Service(f"{self.name}-near", timeout=CALL_TIMEOUT)

            @event_handler(town.name, "number")
            def note(self, number):
                town.note(number)

            @rpc
            def double(self, number):
                return 2 * number

            @rpc
            def relay(self, number):
                return self.near.double(number)

        class Near:
            name = f"{self.name}-near"

            @rpc
            def double(self, number):
                return 2 * number

        self.far = ServiceContainer(Far, {**self.config, "AMQP_URI": proxied, "stop_timeout": 20})
        self.near = ServiceContainer(Near, self.config)

    def __enter__(self):
        self.near.start()
        self.far.start()
        self.cluster = ClusterRpcProxy(self.config, timeout=CALL_TIMEOUT).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.cluster.stop()
        self.far.stop()
        self.near.stop()
        queues = [f"rpc-{self.name}-far", f"rpc-{self.name}-near", f"dead-{self.name}-far"]
        queues.append(f"evt-{self.name}-number--{self.name}-far.note")
        with connect(self.config["AMQP_URI"]) as bus:
            bus.delete(*map(Queue, queues), Exchange(f"{self.name}-rpc"))
            bus.delete(Exchange(f"{self.name}.events"))

    def note(self, number):
        self.twice += number in self.handled
        self.handled.add(number)
        if len(self.handled) == EVENTS:
            self.all_handled.set()

    def dispatch(self, numbers):
        with event_dispatcher(self.config) as dispatch:
            for number in numbers:
                dispatch(self.name, "number", number)

    def call(self, method):
        """Call again and again until it is over; take note of what came, and when."""
        far = self.cluster[f"{self.name}-far"]
        for number in range(100_000):
            if self.over.is_set():
                return
            began = monotonic()
            try:
                outcome = far[method](number) == 2 * number
            except (RpcTimeout, BusError) as error:
                outcome = type(error).__name__
            except Exception as error:  # a RemoteError of the service, which had no connection
                outcome = str(error).partition(" ")[0]
            self.calls.append((outcome, monotonic() - began))

    def answers(self, method):
        return self.cluster[f"{self.name}-far"][method](21) == 42


@pytest.fixture
def town(rabbitmq, proxied):
    with Town(rabbitmq, proxied) as town:
        yield town


def trouble_of(container):
    """Return whether the bus of a container says that something is wrong."""
    bus = next(iter(container._resources.values()))
    try:
        bus.health()
    except BusError:
        return True
    return False


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_service_outlives_a_broken_network(fault, town, tcp_proxy):
    """It is noticed within two heartbeats; then all events are handled, and calls answered."""
    callers = [
        threading.Thread(target=town.call, args=(method,), daemon=True)
        for method in ("double", "relay")
    ]
    for caller in callers:
        caller.start()
    town.dispatch(range(EVENTS // 2))
    began = monotonic()
    FAULTS[fault](tcp_proxy)
    pause = threading.Event()
    while not trouble_of(town.far):
        assert monotonic() - began < 2 * HEARTBEAT + GRACE, "it is not noticed"
        pause.wait(0.01)
    noticed = monotonic() - began
    town.dispatch(range(EVENTS // 2, EVENTS))
    pause.wait(CALL_TIMEOUT / 2)
    tcp_proxy.heal()
    assert town.all_handled.wait(PATIENCE), f"missing: {EVENTS - len(town.handled)}"
    answered_within(PATIENCE, town)
    town.over.set()
    for caller in callers:
        caller.join(PATIENCE)
        assert not caller.is_alive(), "it hangs"
    longest = max(seconds for _, seconds in town.calls)
    assert longest < CALL_TIMEOUT + GRACE
    assert {outcome for outcome, _ in town.calls} <= {True, "RpcTimeout", "BusError"}
    print(f"{fault}: noticed after {noticed:.2f} s; {town.twice} of {EVENTS} twice; ", end="")
    print(f"{len(town.calls)} calls, the longest {longest:.2f} s")


def answered_within(seconds, town):
    """Wait until the service answers again, and can call others."""
    until = monotonic() + seconds
    for method in ("double", "relay"):
        is_answered = False
        while not is_answered:
            assert monotonic() < until, "it does not answer again"
            with suppress(RpcTimeout, BusError):
                is_answered = town.answers(method)


@pytest.mark.parametrize("fault", [slow, narrow])
def test_a_service_on_a_slow_network_only_takes_longer(fault, town, tcp_proxy):
    """Latency and 1 KB/s are no reason to give a connection up, nor to lose or double anything."""
    connections = tcp_proxy.connections
    fault(tcp_proxy)
    reply = town.cluster[f"{town.name}-far"].relay.call_async(21)
    with event_dispatcher(town.config) as dispatch:
        for number in range(10):
            dispatch(town.name, "number", number)
    with suppress(RpcTimeout):
        reply.result()
    pause, until = threading.Event(), monotonic() + PATIENCE
    while len(town.handled) < 10:
        assert monotonic() < until
        pause.wait(0.05)
    tcp_proxy.heal()
    assert town.answers("relay")
    assert (town.twice, tcp_proxy.connections) == (0, connections)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["down", "black hole"])
def test_a_service_without_a_broker_can_be_stopped(fault, town, tcp_proxy):
    """A stop does not wait for a broker, nor does a kill."""
    town.dispatch(range(3))
    FAULTS[fault](tcp_proxy)
    began = monotonic()
    town.far.stop(10)
    assert monotonic() - began < 10 + GRACE
    tcp_proxy.heal()


@pytest.mark.parametrize("moment", ["before it is given", "on its way"])
def test_an_answer_outlives_the_connection_that_waits_for_it(moment, rabbitmq, proxied, tcp_proxy):
    """An answer that its caller's connection is lost before arrives on the next connection."""
    begun, may_end = threading.Event(), threading.Event()

    class Slow:
        name = f"m3-test-{uuid.uuid4().hex[:8]}"

        @rpc
        def work(self):
            begun.set()
            assert may_end.wait(PATIENCE)
            return "done"

    config = {"AMQP_URI": rabbitmq, "rpc_exchange": f"{Slow.name}-rpc", "bus_options": OPTIONS}
    container = ServiceContainer(Slow, config)
    container.start()
    with connect(rabbitmq) as bus:
        with ClusterRpcProxy({**config, "AMQP_URI": proxied}) as cluster:
            reply = cluster[Slow.name].work.call_async()
            assert begun.wait(PATIENCE)
            if moment == "before it is given":
                tcp_proxy.down()
                may_end.set()
            else:
                tcp_proxy.seen[DOWN].watch(b"done")
                tcp_proxy.hold(DOWN)
                may_end.set()
                assert tcp_proxy.seen[DOWN].wait(1, PATIENCE)
                tcp_proxy.down()
            container.stop()
            assert not reply.is_there()
            tcp_proxy.heal()
            assert reply.result() == "done"
            address = reply._replies.address
        with pytest.raises(UndeliverableError):
            bus.publish(Message(body=b""), routing_key=address, mandatory=True)
        bus.delete(Queue(f"rpc-{Slow.name}"), Exchange(f"{Slow.name}-rpc"))
