"""The health of services: their states, their buses and dependencies, calls that never end."""

import logging
import threading
import uuid

import pytest

from m3.engine import health as module
from m3.errors import BusError, ComponentError, ConfigError, StageError
from m3.messaging import Bus, Message, Queue, connect
from m3.messaging.memory import MemoryBus
from m3.policies import Backoff
from m3.services import (
    AttributeDependency,
    DecoratorDependency,
    Health,
    Service,
    ServiceContainer,
    ServiceRunner,
    consume,
    rpc,
)


class Held:
    """A service whose calls last until the test lets them end."""

    name = "held"
    begun = may_end = None

    @rpc
    def hold(self):
        self.begun.release()
        self.may_end.wait(20)


class Caller:
    name = "caller"
    held = Service("held")

    @rpc
    def call(self):
        return self.held.hold()


class Store(AttributeDependency):
    """A dependency that says whether it works."""

    error = None

    def acquire_injection(self, worker_ctx):
        return self

    def health(self):
        if self.error is not None:
            raise self.error


class Shop:
    name = "shop"
    store = Store()

    @rpc
    def sell(self):
        pass


class Breaks(DecoratorDependency):
    may_break = threading.Event()

    def produce(self):
        self.may_break.wait(20)
        raise ConnectionError("the line is cut")
        yield


class Broken:
    @Breaks.decorator
    def handle(self):
        pass


class Telling(ServiceContainer):
    """A container that tells when a stop begins."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.begun_to_stop = threading.Event()

    def request_stop(self, timeout=None):
        super().request_stop(timeout)
        self.begun_to_stop.set()


@pytest.fixture
def held():
    Held.begun, Held.may_end = threading.Semaphore(0), threading.Event()
    yield Held
    Held.may_end.set()


@pytest.fixture
def runner(config):
    runner = ServiceRunner(config)
    yield runner
    runner.stop()


def test_each_service_has_one(runner, held):
    """A record for each, by name: starting before the start, ready after it, stopped at the end."""
    runner.add_service(held)
    runner.add_service(Caller)
    assert runner.health() == {
        "held": Health("held", "starting"),
        "caller": Health("caller", "starting"),
    }
    runner.start()
    found = runner.health()
    assert [health.state for health in found.values()] == ["ready", "ready"]
    assert [health.is_ready for health in found.values()] == [True, True]
    assert found["held"].components == {"bus": None}
    assert found["caller"].components == {
        "bus": None,
        "held": None,
        "Replies": None,
    }
    assert runner.health(checked=False)["caller"] == Health("caller", "ready")
    runner.stop()
    assert [health.state for health in runner.health().values()] == ["stopped", "stopped"]


def test_none_is_ready_from_the_request_to_stop_on(runner, held):
    """Those that stop last, because others call them, are draining from the beginning, too."""
    runner.add_service(held)
    runner.add_service(Caller, Telling)
    runner.start()
    runner.container("caller").spawn_worker("call")
    assert held.begun.acquire(timeout=20)
    stopping = threading.Thread(target=runner.stop)
    stopping.start()
    assert runner.container("caller").begun_to_stop.wait(20)
    found = runner.health()
    assert {name: health.state for name, health in found.items()} == {
        "held": "draining",
        "caller": "draining",
    }
    assert found["held"].in_flight == 1
    assert all(health.is_live for health in found.values())
    held.may_end.set()
    stopping.join(20)


def test_a_kill_counts_from_its_beginning(runner, held):
    """So does a kill."""
    runner.add_service(held)
    runner.start()
    runner.kill()
    assert runner.health()["held"].state == "stopped"


def test_a_service_that_was_never_reached(config):
    """If one cannot start, those that were to start after it are stopped, and itself has failed."""
    runner = ServiceRunner(config)
    runner.add_service(Held)
    runner.add_service(Shop)
    runner.add_service(Caller)
    runner.container("shop").replace_dependency("store", Unable())
    with pytest.raises(ComponentError, match="no such store"):
        runner.start()
    states = {name: health.state for name, health in runner.health().items()}
    assert states == {"held": "stopped", "shop": "failed", "caller": "stopped"}


class Unable(Store):
    def start(self, srv_ctx):
        raise LookupError("no such store")


def test_a_dependency_that_does_not_work(runner):
    """It is called by its attribute; the service is alive, and not ready."""
    runner.add_service(Shop)
    runner.start()
    runner.container("shop").dependencies["store"].error = OSError("the store is closed")
    health = runner.health()["shop"]
    assert (health.state, health.is_live, health.is_ready) == ("ready", True, False)
    assert health.why_not_ready() == [
        "store: component Store, in health(): OSError: the store is closed"
    ]
    assert health.components["bus"] is None


def test_a_dependency_called_bus(config):
    """It does not hide how the bus is."""

    class Rider:
        bus = Store()

        @rpc
        def ride(self):
            pass

    with ServiceContainer(Rider, config) as container:
        container.dependencies["bus"].error = OSError("late")
        assert container.health().components == {
            "bus": None,
            "Store": "component Store, in health(): OSError: late",
        }


def test_a_bus_that_does_not_work():
    """A bus in trouble makes a service unready, and leaves it alive."""

    class Unwell(MemoryBus):
        def health(self):
            raise BusError("no connection to it")

    with ServiceContainer(Shop, resources={Bus: Unwell()}) as container:
        health = container.health()
        assert health.components["bus"].endswith("BusError: no connection to it")
        assert (health.is_live, health.is_ready) == (True, False)


class Said(logging.Handler):
    """Lets a test wait until something was logged for both connections of a bus."""

    def __init__(self, text):
        super().__init__()
        self._text = text
        self._times = threading.Semaphore(0)

    def emit(self, record):
        if self._text in record.getMessage():
            self._times.release()

    def wait(self):
        assert self._times.acquire(timeout=20)
        assert self._times.acquire(timeout=20)


@pytest.fixture
def log_of_rabbitmq():
    """The log of buses on RabbitMQ, with all that they say."""
    log = logging.getLogger("m3.messaging.amqp")
    log.setLevel(logging.INFO)
    yield log
    log.handlers.clear()
    log.setLevel(logging.NOTSET)


@pytest.fixture
def queue_of_rabbitmq(rabbitmq):
    """A queue of the test's own."""
    queue = Queue(f"m3-test-{uuid.uuid4().hex}", durable=False)
    yield queue
    with connect(rabbitmq) as bus:
        bus.delete(queue)


@pytest.mark.services
def test_rabbitmq_goes_away_and_comes_back(
    proxied, tcp_proxy, queue_of_rabbitmq, log_of_rabbitmq, monkeypatch
):
    """While its connections are lost, a service is not ready, but alive; then it is ready again."""
    monkeypatch.setattr(module, "FRESH", 0.0)

    class Listening:
        @consume(queue_of_rabbitmq)
        def receive(self, payload):
            pass

    bus = connect(proxied, connect_timeout=1.0, reconnect=Backoff(0.05, maximum=0.1))
    lost, back = Said("is lost"), Said("connected to RabbitMQ again")
    log_of_rabbitmq.addHandler(lost)
    log_of_rabbitmq.addHandler(back)
    with ServiceContainer(Listening, resources={Bus: bus}) as container:
        assert container.health().is_ready
        tcp_proxy.down()
        lost.wait()
        health = container.health()
        assert "no connection to RabbitMQ at" in health.components["bus"]
        assert "guest:guest" not in health.components["bus"]
        assert (health.is_live, health.is_ready) == (True, False)
        tcp_proxy.heal()
        back.wait()
        bus.publish(Message(body=b"{}"), routing_key=queue_of_rabbitmq.name)
        bus.consumer(queue_of_rabbitmq).close()  # by now either connection was used again
        assert container.health().is_ready


def test_a_service_that_fails(runner, held):
    """It is not alive; its peers, which are stopped, are not ready, and finish their calls."""
    Breaks.may_break.clear()
    runner.add_service(held)
    runner.add_service(Broken)
    runner.start()
    runner.container("held").spawn_worker("hold")
    assert held.begun.acquire(timeout=20)
    assert all(health.is_ready for health in runner.health().values())
    Breaks.may_break.set()
    with pytest.raises(StageError, match="the line is cut"):
        runner.container("broken").wait(20)
    health = runner.health()["broken"]
    assert (health.state, health.is_live) == ("failed", False)
    assert "the line is cut" in health.errors[0]
    held.may_end.set()
    with pytest.raises(StageError):
        runner.wait(20)
    assert runner.health()["held"].state == "stopped"


def test_calls_that_never_end(held, config):
    """A service hangs when all its workers have been in their calls for too long, and only then."""
    settings = {**config, "max_workers": 2, "hung_after": 1e-9}
    with ServiceContainer(held, settings) as container:
        assert container.health(checked=False).is_live
        container.spawn_worker("hold")
        assert held.begun.acquire(timeout=20)
        assert container.health(checked=False) == Health("held", "ready", 1)  # one is free
        container.spawn_worker("hold")
        assert held.begun.acquire(timeout=20)
        health = container.health()
        assert (health.is_live, health.is_ready) == (False, False)
        assert health.hung.startswith(
            "all 2 workers have been in their calls for more than 1e-09 s, hold for 0"
        )
        held.may_end.set()
        for _ in range(3):
            container.spawn_worker("hold").result(20)
        assert container.health().is_live


@pytest.mark.parametrize("more", [{}, {"hung_after": 1000}, {"hung_after": "1000"}])
def test_calls_may_take_their_time(held, config, more):
    """Without ``hung_after`` nothing is assumed about it, and with it not before."""
    with ServiceContainer(held, {**config, "max_workers": 1, **more}) as container:
        call = container.spawn_worker("hold")
        assert held.begun.acquire(timeout=20)
        assert container.health().is_ready
        held.may_end.set()
        call.result(20)


@pytest.mark.parametrize("wrong", [0, -1, "soon", True, [5], float("nan")])
def test_no_time(wrong):
    """``hung_after`` is a number of seconds."""
    with pytest.raises(ConfigError, match=r"hung_after is .*; it is a number of seconds above 0"):
        ServiceContainer(Held, {"hung_after": wrong})
