"""``m3 serve``: a real process that runs services."""

import signal

import pytest

from m3.services import ClusterRpcProxy, UnknownService

SERVICES = """
import threading
from m3.services import DecoratorDependency, Service, once, rpc
from m3.stages import Item

class Stock:
    name = "stock"

    @rpc
    def count(self):
        return 3

class Orders:
    name = "orders"
    stock = Service("stock")

    @once
    def begin(self):
        print("counted", self.stock.count(), flush=True)

    @rpc
    def hold(self):
        print("holding", flush=True)
        threading.Event().wait(1)
        return "held"

class Breaks(DecoratorDependency):
    def produce(self):
        raise ConnectionError("the line is cut")
        yield

class Broken:
    @Breaks.decorator
    def handle(self):
        pass

class NoService:
    pass
"""


@pytest.fixture
def shop(command):
    """The command in a folder with services."""
    (command.folder / "app" / "shop.py").write_text(SERVICES)
    return command


@pytest.fixture
def serving(shop, tmp_path):
    """Two services that run in another process, on a bus in a file; and the URL of the bus."""
    url = f"sqlite:///{tmp_path}/bus.db"
    process = shop.start("serve", "shop:Stock", "shop:Orders", "--broker", url)
    assert process.stdout.readline() == b"counted 3\n"
    return process, url


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(serving, number):
    """The call at hand is answered, and the exit code is 0."""
    process, url = serving
    with ClusterRpcProxy({"AMQP_URI": url}) as cluster:
        assert cluster.stock.count() == 3
        reply = cluster.orders.hold.call_async()
        assert process.stdout.readline() == b"holding\n"
        process.send_signal(number)
        assert reply.result() == "held"
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert b"serving stock, orders on sqlite:///" in err
    assert b"stopping; " in err


def test_a_call_outlives_the_process_that_was_to_answer_it(shop, serving):
    """Killed in mid-call: another process makes the call again, and the caller has its answer."""
    process, url = serving
    with ClusterRpcProxy({"AMQP_URI": url}) as cluster:
        reply = cluster.orders.hold.call_async()
        assert process.stdout.readline() == b"holding\n"
        process.kill()
        other = shop.start("serve", "shop:Stock", "shop:Orders", "--broker", url)
        assert reply.result() == "held"
    lines = [other.stdout.readline() for _ in range(2)]
    assert sorted(lines) == [b"counted 3\n", b"holding\n"]


def test_a_failing_service_ends_all(shop):
    """The exit code is 1, and the error is told."""
    done = shop.run("serve", "shop:Stock", "shop:Broken", "--quiet")
    assert done.returncode == 1
    assert "the line is cut" in done.stderr


def test_the_configuration_is_toml(shop, tmp_path):
    """A file names services and bus, with variables; options come before it."""
    (tmp_path / "services.toml").write_text(
        'AMQP_URI = "sqlite:///${PLACE}/bus.db"\nmax_workers = 2\nservices = ["shop:Stock"]\n'
    )
    process = shop.start(
        *("serve", "--config", "services.toml", "--max-workers", "3", "--log-format", "json"),
        environment={"PLACE": str(tmp_path)},
    )
    lines = b""
    while b"serving stock" not in lines:
        lines += process.stderr.readline()
    with ClusterRpcProxy({"AMQP_URI": f"sqlite:///{tmp_path}/bus.db"}) as cluster:
        assert cluster.stock.count() == 3
        with pytest.raises(UnknownService):
            cluster.orders.hold()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


LOGGING = """
AMQP_URI = "memory://"
services = ["shop:Stock"]

[LOGGING]
version = 1
disable_existing_loggers = false
formatters.short.format = "%(name)s says %(message)s"
handlers.file = {class = "logging.FileHandler", filename = "serve.log", formatter = "short"}
root = {level = "INFO", handlers = ["file"]}
"""


def test_the_configuration_says_how_it_is_logged(shop, tmp_path):
    """LOGGING is as of logging.config; what that cannot use is a mistake."""
    (tmp_path / "services.toml").write_text(LOGGING)
    process = shop.start("serve", "--config", "services.toml")
    while b"serving stock" not in process.stderr.readline():
        """It starts."""
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert "m3.services says service 'stock' is started" in (tmp_path / "serve.log").read_text()
    (tmp_path / "services.toml").write_text(LOGGING.replace('"file"]', '"nowhere"]'))
    done = shop.run("serve", "--config", "services.toml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "LOGGING cannot be used: Unable to configure root logger" in done.stderr


def test_variables_that_are_not_set_are_told_with_their_place(shop, tmp_path):
    """All of them at once, each with file, line and key."""
    (tmp_path / "services.toml").write_text(
        'AMQP_URI = "${BUS}"\nservices = "shop:Stock"\n\n[bus_options]\nname = ["x", "${NAME}"]\n'
    )
    done = shop.run("serve", "--config", "services.toml")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("m3: services.toml:1: AMQP_URI: the environment variable BUS is not")
    assert second.startswith("m3: services.toml:5: bus_options.name.2: the environment variable")


@pytest.mark.parametrize("command_name", ["serve", "shell"])
def test_an_extra_that_is_missing_is_a_mistake(shop, command_name):
    """It is told how to install it, in one line and with exit code 2."""
    (shop.folder / "app" / "kombu.py").write_text("raise ModuleNotFoundError(name='kombu')")
    services = ["shop:Stock"] if command_name == "serve" else []
    done = shop.run(command_name, *services, "--broker", "amqp://here")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install 'm3-pipeline[amqp]'" in done.stderr


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("services = 3", "services is 3; it is a list of MODULE:CLASS"),
        ('services = ["shop:Stock"]\nbus_options = 3', "bus_options is 3"),
        ('services = ["shop:Stock"]\nmax_workers = "x"', "max_workers is 'x'"),
    ],
)
def test_mistakes_in_the_configuration_are_told(shop, line, text):
    """With the key, and without a traceback."""
    (shop.folder / "wrong.toml").write_text(line + "\n")
    done = shop.run("serve", "--config", "wrong.toml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert text in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no service is named"),
        (("shop:Stok",), "did you mean 'Stock'"),
        (("shop:NoService",), "NoService has no entrypoint"),
        (("nowhere",), "there is no module 'nowhere'"),
        (("os",), "the module 'os' has no class with entrypoints"),
        (("shop:Stock", "--config", "missing.toml"), "--config missing.toml: cannot be read"),
        (("shop:Stock", "--broker", "redis://here"), "names no bus"),
    ],
)
def test_mistakes_are_told(shop, arguments, text):
    """Exit code 2, and one line that says what is wrong."""
    done = shop.run("serve", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert text in done.stderr
