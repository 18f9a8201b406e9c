"""Without a broker nothing hangs: there is a clear error within the time that a call has."""

import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

import m3
from m3.errors import BusError, M3Error
from m3.messaging import Exchange, Queue, connect
from m3.services import (
    ClusterRpcProxy,
    EventDispatcher,
    RpcTimeout,
    Service,
    ServiceContainer,
    ServiceRpcProxy,
    UnknownService,
    event_dispatcher,
    rpc,
    run_services,
)

PATIENCE = 30
AT_ONCE = 5.0
"""Seconds that what needs no waiting may take on a busy machine."""

ROOT = str(Path(m3.__file__).parent.parent)


class Shop:
    name = "shop"
    dispatch = EventDispatcher()

    @rpc
    def count(self):
        return 3


def start_container(config):
    ServiceContainer(Shop, config).start()


def start_runner(config):
    with run_services(config, Shop):
        pass


def start_proxy(config):
    with ClusterRpcProxy(config) as cluster:
        cluster.shop.count()


def start_proxy_of_one(config):
    with ServiceRpcProxy("shop", config) as shop:
        shop.count()


def dispatch_once(config):
    event_dispatcher(config)("shop", "sold", 1)


def dispatch_in_a_block(config):
    with event_dispatcher(config) as dispatch:
        dispatch("shop", "sold", 1)


WAYS = [
    start_container,
    start_runner,
    start_proxy,
    start_proxy_of_one,
    dispatch_once,
    dispatch_in_a_block,
]


@pytest.fixture
def nowhere():
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"amqp://guest:hunter2@127.0.0.1:{port}/"


@pytest.fixture
def silent():
    """Return a port at which somebody listens who never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://guest:hunter2@127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture
def intruder(rabbitmq):
    """Return RabbitMQ with a wrong password."""
    parts = urlsplit(rabbitmq)
    host = f"{parts.hostname}:{parts.port or 5672}"
    return f"amqp://{parts.username}:hunter2@{host}/"


@pytest.fixture
def elsewhere(rabbitmq):
    """Return a virtual host that is not there."""
    return urlsplit(rabbitmq)._replace(path="/nowhere").geturl()


SERVICES = pytest.mark.services

PLACES = [
    pytest.param("nowhere", "Connection refused"),
    pytest.param("silent", "timed out"),
    pytest.param("intruder", "ACCESS_REFUSED", marks=SERVICES),
    pytest.param("elsewhere", "vhost nowhere not found", marks=SERVICES),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("place", "text"), PLACES)
def test_what_has_no_broker_does_not_start(way, place, text, request):
    """The error names host and reason, never the password; nothing is left behind."""
    url = request.getfixturevalue(place)
    threads = set(threading.enumerate())
    options = {"connect_timeout": 0.5 if place == "silent" else AT_ONCE / 2}
    began = monotonic()
    with pytest.raises(M3Error) as caught:
        way({"AMQP_URI": url, "bus_options": options, "rpc_timeout": 2})
    assert monotonic() - began < AT_ONCE
    assert text in str(caught.value)
    assert f"127.0.0.1:{urlsplit(url).port or 5672}" in str(caught.value)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def served(start_process, tmp_path):
    """Return a function that runs ``m3 serve`` with a bus."""
    (tmp_path / "shop.py").write_text(
        "from m3.services import rpc\n"
        "class Shop:\n"
        "    name = 'shop'\n"
        "    @rpc\n"
        "    def count(self):\n"
        "        return 3\n"
    )
    path = os.pathsep.join([ROOT, str(tmp_path)])

    def serve(url):
        command = [sys.executable, "-m", "m3", "serve", "shop:Shop", "--broker", url]
        return subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
        )

    return serve


@pytest.mark.parametrize(("place", "text"), [PLACES[0], PLACES[2]])
def test_serve_ends_without_a_broker(place, text, request, served):
    """The exit code is 1, and one line says why."""
    process = served(request.getfixturevalue(place))
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert text in told.splitlines()[-1]
    assert "Traceback" not in told
    assert "hunter2" not in told


@pytest.mark.services
def test_serve_ends_well_when_its_broker_is_gone(served, proxied, tcp_proxy):
    """A signal ends it with 0 while there is no connection; it has told that there is none."""
    process = served(proxied)
    lines = iter(process.stderr.readline, "")
    assert any("serving shop" in line for line in lines)
    tcp_proxy.down()
    assert any("is lost" in line for line in lines)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


# -- something goes while it is used


@pytest.fixture
def name(rabbitmq):
    """Return the name of a service, of which nothing is left on RabbitMQ after the test."""
    name = f"m3-test-{uuid.uuid4().hex[:8]}"
    yield name
    with connect(rabbitmq) as bus:
        bus.delete(Queue(f"rpc-{name}"), Queue(f"rpc-{name}-outer"), Exchange(f"{name}-rpc"))


@pytest.fixture
def shop(rabbitmq, name):
    """Run a service, and one that calls it; return the configuration."""
    config = {"AMQP_URI": rabbitmq, "rpc_exchange": f"{name}-rpc", "stop_timeout": 20}

    class Inner:
        begun, may_end = threading.Event(), threading.Event()

        @rpc
        def count(self):
            return 3

        @rpc
        def wait(self):
            self.begun.set()
            self.may_end.wait(PATIENCE)
            return "waited"

    class Outer:
        inner = Service(name, timeout=2)

        @rpc
        def relay(self):
            return self.inner.count()

    Inner.name, Outer.name = name, f"{name}-outer"
    with run_services(config, Inner, Outer):
        yield config, Inner
        Inner.may_end.set()


@pytest.mark.services
def test_a_reply_queue_that_is_deleted(shop, name):
    """A call in the middle is answered, or is a timeout in its time; the next one is answered."""
    config, inner = shop
    with ClusterRpcProxy(config, timeout=2) as cluster:
        reply = cluster[name].wait.call_async()
        assert inner.begun.wait(PATIENCE)
        replies = cluster._caller._replies
        replies.bus._consuming.link.call(
            lambda connection: connection.channel().queue_delete(replies.address), PATIENCE
        )
        inner.may_end.set()
        began = monotonic()
        with suppress(RpcTimeout):
            assert reply.result() == "waited"
        assert monotonic() - began < 2 + AT_ONCE
        assert cluster[name].count() == 3


@pytest.mark.services
def test_an_exchange_that_is_deleted(shop, name, rabbitmq):
    """Calls fail at once, and say what is missing; so they do in a service."""
    config, _ = shop
    with ClusterRpcProxy(config, timeout=5) as cluster, connect(rabbitmq) as bus:
        assert cluster[f"{name}-outer"].relay() == 3
        reply = cluster[f"{name}-outer"].relay.call_async()
        reply.result()
        bus.delete(Exchange(config["rpc_exchange"]))
        began = monotonic()
        with pytest.raises(BusError, match="no exchange"):
            cluster[name].count()
        assert monotonic() - began < AT_ONCE
    with ClusterRpcProxy(config) as cluster, pytest.raises(UnknownService):
        cluster[name].count()


@pytest.mark.services
def test_a_queue_of_a_service_that_is_deleted(shop, name, rabbitmq):
    """The service declares it again, and answers."""
    config, _ = shop
    with ClusterRpcProxy(config, timeout=5) as cluster:
        with connect(rabbitmq) as bus:
            bus.delete(Queue(f"rpc-{name}"))
        answer, until = None, monotonic() + PATIENCE
        while answer is None:
            assert monotonic() < until
            with suppress(UnknownService):
                answer = cluster[name].count()
    assert answer == 3


@pytest.mark.parametrize(
    "url", ["memory://nobody", "sqlite:///{}/bus.db", pytest.param("amqp", marks=SERVICES)]
)
def test_a_service_that_never_was_is_unknown(url, request, tmp_path):
    """Also on a bus on which nothing has ever been."""
    if url == "amqp":
        url = request.getfixturevalue("rabbitmq")
    exchange = f"m3-test-{uuid.uuid4().hex}"
    config = {"AMQP_URI": url.format(tmp_path), "rpc_exchange": exchange}
    with ClusterRpcProxy(config) as cluster, pytest.raises(UnknownService):
        cluster.nobody.call()
    with connect(config["AMQP_URI"]) as bus:
        bus.delete(Exchange(exchange))


@pytest.mark.services
def test_calls_end_in_their_time_while_there_is_no_broker(proxied, tcp_proxy, name):
    """Calls and events of a program, and calls that a service makes, have their deadlines."""
    config = {"AMQP_URI": proxied, "rpc_exchange": f"{name}-rpc", "stop_timeout": 5}

    class Inner:
        @rpc
        def count(self):
            return 3

    class Outer:
        inner = Service(name, timeout=0.5)

        @rpc
        def relay(self):
            return self.inner.count()

    Inner.name, Outer.name = name, f"{name}-outer"
    with (
        run_services(config, Inner, Outer) as runner,
        ClusterRpcProxy(config, timeout=0.5) as cluster,
    ):
        tcp_proxy.down()
        began = monotonic()
        with pytest.raises(RpcTimeout, match=r"within 0\.5 s"):
            cluster[name].count()
        direct = runner.container(f"{name}-outer").spawn_worker("relay")
        with pytest.raises((RpcTimeout, BusError)):
            direct.result(PATIENCE)
        assert monotonic() - began < 1 + AT_ONCE
        tcp_proxy.heal()
