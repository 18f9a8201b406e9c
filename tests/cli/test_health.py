"""Probes and a service manager, answered and told by real processes of ``m3 serve``, ``m3 run``."""

import json
import os
import re
import signal
import socket
import uuid
from http.client import HTTPConnection

import pytest

from m3.services import ClusterRpcProxy

SERVICES = """
import os
import threading

from m3.services import AttributeDependency, DecoratorDependency, Service, rpc


def wait_at(gate):
    os.write(1, f"at the {gate}\\n".encode())
    open(gate).read()


class Orders:
    name = "orders"

    @rpc
    def hold(self):
        wait_at("gate")
        return "held"


class Shop:
    name = "shop"
    orders = Service("orders")

    @rpc
    def hold(self):
        return self.orders.hold()


class SlowStart(AttributeDependency):
    def start(self, srv_ctx):
        wait_at("gate")


class Slow:
    name = "slow"
    slow = SlowStart()

    @rpc
    def nothing(self):
        pass


class Breaks(DecoratorDependency):
    def produce(self):
        wait_at("other")
        raise ConnectionError("the line is cut")
        yield


class Broken:
    name = "broken"

    @Breaks.decorator
    def handle(self):
        pass
"""


class Manager:
    """A service manager, which is told how the process gets on."""

    def __init__(self):
        name = f"m3-{uuid.uuid4().hex}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{name}")
        self.socket.settimeout(30)
        self.environment = {"NOTIFY_SOCKET": f"@{name}"}

    def next(self):
        return self.socket.recv(4096).decode()


@pytest.fixture
def manager():
    manager = Manager()
    yield manager
    manager.socket.close()


@pytest.fixture
def shop(command):
    """The command in a folder with services that wait at FIFOs."""
    (command.folder / "app" / "shop.py").write_text(SERVICES)
    command.gate()
    return command


def port_of(process):
    """Return the port that the process says it can be asked at."""
    while line := process.stderr.readline():
        if found := re.match(rb"m3: health at http://127\.0\.0\.1:(\d+)/livez and http", line):
            return int(found[1])
    raise AssertionError("the process has said nothing of it")


def get(port, path):
    """Return the status and the body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def await_gate(process):
    """Wait until a stage of the class Gate says that it waits."""
    while process.stderr.readline() != b"at the gate\n":
        pass


def open_gate(command, name="gate"):
    (command.folder / name).write_text("")


def test_services_from_sigterm_to_the_end(shop, manager, tmp_path):
    """Ready until SIGTERM, then at once no more, while the call at hand ends; exit code 0."""
    config = {"AMQP_URI": f"sqlite:///{tmp_path}/bus.db"}
    process = shop.start(
        *("serve", "shop:Shop", "shop:Orders", "--broker", config["AMQP_URI"]),
        *("--health", "127.0.0.1:0"),
        environment=manager.environment,
    )
    port = port_of(process)
    assert manager.next() == "READY=1\nSTATUS=serving shop, orders"
    status, body = get(port, "/readyz")
    assert (status, body["ready"], body["services"].keys()) == (200, True, {"shop", "orders"})
    assert body["services"]["orders"]["components"] == {"bus": None}
    with ClusterRpcProxy(config) as cluster:
        reply = cluster.shop.hold.call_async()
        assert process.stdout.readline() == b"at the gate\n"
        process.send_signal(signal.SIGTERM)
        assert manager.next() == "STOPPING=1\nSTATUS=finishing the calls at hand"
        status, body = get(port, "/readyz")
        assert (status, body["problems"]) == (503, ["shop: draining", "orders: draining"])
        assert body["services"]["orders"]["in_flight"] == 1
        assert get(port, "/livez")[0] == 200
        open_gate(shop)
        assert reply.result() == "held"
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    with pytest.raises(ConnectionRefusedError):
        get(port, "/livez")


def test_services_that_start(shop, manager):
    """While a dependency starts, the process is alive and not ready, and nobody is told it is."""
    process = shop.start("serve", "shop:Slow", "--health", "0", environment=manager.environment)
    port = port_of(process)
    assert process.stdout.readline() == b"at the gate\n"
    assert get(port, "/readyz")[1]["problems"] == ["slow: starting"]
    assert get(port, "/livez")[0] == 200
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.next()
    manager.socket.settimeout(30)
    open_gate(shop)
    assert manager.next() == "READY=1\nSTATUS=serving slow"
    assert get(port, "/readyz")[0] == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_service_that_fails(shop, manager, tmp_path):
    """While the others finish their calls the process stops, and is not alive; exit code 1."""
    os.mkfifo(shop.folder / "other")
    config = {"AMQP_URI": f"sqlite:///{tmp_path}/bus.db"}
    process = shop.start(
        *("serve", "shop:Orders", "shop:Broken", "--broker", config["AMQP_URI"], "--health", "0"),
        environment=manager.environment,
    )
    port = port_of(process)
    assert process.stdout.readline() == b"at the other\n"
    with ClusterRpcProxy(config) as cluster:
        reply = cluster.orders.hold.call_async()
        assert process.stdout.readline() == b"at the gate\n"
        assert manager.next() == "READY=1\nSTATUS=serving orders, broken"
        open_gate(shop, "other")
        assert manager.next() == "STOPPING=1\nSTATUS=finishing the calls at hand"
        while (answer := get(port, "/livez"))[0] == 200:
            pass
        assert answer[1]["problems"][0] == "broken: failed"
        assert "the line is cut" in answer[1]["problems"][1]
        assert get(port, "/readyz")[1]["services"]["orders"]["state"] == "draining"
        open_gate(shop)
        assert reply.result() == "held"
    process.communicate(timeout=30)
    assert process.returncode == 1


def test_the_watchdog(shop, manager):
    """The process tells that it is alive, as often as it is asked to."""
    environment = manager.environment | {"WATCHDOG_USEC": "50000"}
    process = shop.start("serve", "shop:Orders", "--quiet", environment=environment)
    ready = "READY=1\nSTATUS=serving orders"
    told = [manager.next()]
    while told.count("WATCHDOG=1") < 5 or ready not in told:
        told.append(manager.next())
    assert sorted({*told}) == [ready, "WATCHDOG=1"]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_run_from_its_setup_to_its_end(command, manager):
    """Starting until all is set up, then ready; draining from SIGTERM on, of which it dies."""
    command.gate()
    process = command.start(
        *("run", "--frontend", "stages_of_test:Endless", "--backend", "null", "--health", "0"),
        *("--transport", "stages_of_test:GateInSetup", "--transport", "stages_of_test:Gate"),
        *("--set", "transport.2.path=other"),
        environment=manager.environment,
    )
    os.mkfifo(command.folder / "other")
    port = port_of(process)
    assert get(port, "/livez")[0] == 200
    await_gate(process)
    assert get(port, "/readyz")[1]["problems"] == ["pipeline: starting"]
    open_gate(command)
    assert manager.next() == "READY=1\nSTATUS=running pipeline"
    status, body = get(port, "/readyz")
    assert (status, body["pipelines"]["pipeline"]["state"]) == (200, "ready")
    await_gate(process)
    process.send_signal(signal.SIGTERM)
    assert manager.next() == "STOPPING=1\nSTATUS=finishing what is under way"
    status, body = get(port, "/readyz")
    assert (status, body["problems"]) == (503, ["pipeline: draining"])
    assert get(port, "/livez")[0] == 200
    open_gate(command, "other")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_a_run_that_ends_by_itself(command, manager):
    """Its end is told, too."""
    process = command.start("run", "--frontend", "stdin", environment=manager.environment)
    assert process.communicate(b"a\nb\n", timeout=30)[0] == b"a\nb\n"
    assert manager.next() == "READY=1\nSTATUS=running pipeline"
    assert manager.next() == "STOPPING=1\nSTATUS=ending"


def test_a_manager_that_is_gone(command):
    """Nothing comes of it that nobody listens any more."""
    done = command.run(
        *("run", "--frontend", "stdin"),
        stdin="a\n",
        NOTIFY_SOCKET="/nowhere/to/be/found",
        WATCHDOG_USEC="1000",
    )
    assert (done.returncode, done.stdout) == (0, "a\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "shop:Slow"),
        ("run", "--frontend", "stages_of_test:Endless", "--transport", "stages_of_test:Gate"),
    ],
)
def test_an_address_in_use(shop, arguments):
    """It is a mistake, told before anything begins."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = shop.run(*arguments, "--health", address)
    assert done.returncode == 2
    assert f"m3: cannot answer probes on '{address}': Address already in use" in done.stderr
    assert "at the gate" not in done.stdout + done.stderr


def test_an_address_in_use_leaves_the_state_alone(command):
    """Nothing is forgotten for a run that does not begin."""
    run = ("run", "--frontend", "stdin", "--state", "st")
    command.run(*run, stdin="a\n")
    before = command.run("state", "show", "st", "--json").stdout
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert command.run(*run, "--from-start", "--health", port).returncode == 2
    assert command.run("state", "show", "st", "--json").stdout == before


def test_wrong_addresses(shop):
    """They are mistakes, also for ``m3 check``, which tells the line."""
    assert (
        "'here' is no address for probes"
        in shop.run("serve", "shop:Orders", "--health", "here").stderr
    )
    (shop.folder / "p.toml").write_text('frontend = {use = "stdin"}\nhealth = "here"\n')
    done = shop.run("check", "p.toml")
    assert done.returncode == 2
    assert "p.toml:2: health: 'here' is no address for probes" in done.stdout + done.stderr


def test_addresses_in_files_and_variables(shop):
    """The file of the services may name it, as a number, too; for a pipeline, a variable may."""
    (shop.folder / "s.toml").write_text('services = ["shop:Orders"]\nhealth = 0\n')
    process = shop.start("serve", "--config", "s.toml")
    assert get(port_of(process), "/livez")[0] == 200
    process = shop.start("run", "--frontend", "stdin", environment={"M3_HEALTH": ":0"})
    assert b"m3: health at http://" in process.stderr.readline()
