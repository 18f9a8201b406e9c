"""Extensions as nameko 2 has them, and what its containers have for them."""

import logging
import threading
from queue import SimpleQueue

import pytest

from m3.errors import StageError
from m3.services import (
    DependencyProvider,
    Entrypoint,
    ExtensionNotFound,
    ServiceContainer,
    ServiceRunner,
    rpc,
)
from m3.services import managed as managed_threads
from m3.services.container import bus_of
from m3.testing import (
    dummy,
    entrypoint_hook,
    entrypoint_waiter,
    get_container,
    get_extension,
)

PATIENCE = 20.0


class Inbox(Entrypoint):
    """Has a call made with whatever is put into its queue; exceptions are raised."""

    def setup(self):
        self.messages, self.handled = SimpleQueue(), SimpleQueue()

    def start(self):
        self.container.spawn_managed_thread(self.run, identifier="inbox")

    def run(self):
        while (message := self.messages.get()) is not None:
            if isinstance(message, Exception):
                raise message
            self.container.spawn_worker(self, (message,), handle_result=self.handle)

    def stop(self):
        self.messages.put(None)

    def handle(self, worker_ctx, result, exc_info):
        self.handled.put((worker_ctx.args, result, exc_info and exc_info[0]))
        return ("handled", None) if exc_info else (f"{result}!", None)


inbox = Inbox.decorator


class Service:
    name = "service"

    @inbox
    def read(self, message):
        if message == "bad":
            raise ValueError(message)
        return message.upper()


@pytest.fixture
def container(config):
    """A container of the service, whose inbox is ``container.inbox``."""
    container = ServiceContainer(Service, config)
    container.inbox = get_extension(container, Inbox)
    return container


def test_an_entrypoint_that_spawns_workers(container):
    """What its thread spawns is called, and the result goes to its handler, which may change it."""
    with container, entrypoint_waiter(container, "read") as result:
        container.inbox.messages.put("good")
    assert result.get() == "GOOD!"
    assert container.inbox.handled.get(timeout=PATIENCE) == (("good",), "GOOD", None)


def test_a_handler_is_told_of_exceptions_too(container):
    """It is called once, with what ``sys.exc_info`` returns, and decides what is left of it."""
    with container:
        call = container.spawn_worker("read", ("bad",), handle_result=container.inbox.handle)
        assert call.result(PATIENCE) == "handled"
        with pytest.raises(ValueError, match="bad"):
            container.spawn_worker("read", ("bad",)).result(PATIENCE)
    assert container.inbox.handled.get(timeout=PATIENCE) == (("bad",), None, ValueError)
    assert container.inbox.handled.empty()


def test_a_managed_thread_that_raises_ends_the_service(container):
    """What it has raised is why; nothing is only logged."""
    container.start()
    container.inbox.messages.put(OSError("the inbox is gone"))
    with pytest.raises(StageError) as caught:
        container.wait(PATIENCE)
    assert repr(caught.value.error) == "OSError('the inbox is gone')"


def test_a_managed_thread_ends_with_its_service(container):
    """That it cannot have another worker ends it well, and the stop waits for it."""
    begun = threading.Event()

    def call_and_call():
        while True:
            container.spawn_worker("read", ("again",)).result(PATIENCE)
            begun.set()

    with container:
        thread = container.spawn_managed_thread(call_and_call)
        assert begun.wait(PATIENCE)
    assert not thread.is_alive()
    assert container.wait(PATIENCE).failed == 0


def test_a_managed_thread_that_does_not_end_is_left_behind(config, monkeypatch, caplog):
    """The stop waits so long and no longer, and says where the thread is."""
    monkeypatch.setattr(managed_threads, "PATIENCE", 0.01)
    may_end, threads = threading.Event(), []

    class Stuck(DependencyProvider):
        def start(self):
            threads.append(self.container.spawn_managed_thread(may_end.wait))

    class Needy:
        stuck = Stuck()

        @dummy
        def work(self):
            """Nothing."""

    with caplog.at_level(logging.WARNING), ServiceContainer(Needy, config):
        """It is stopped at once."""
    may_end.set()
    threads[0].join(PATIENCE)
    assert "m3-needy-Event.wait does not end and is left behind" in caplog.text
    assert "self._cond.wait" in caplog.text


class Database(DependencyProvider):
    """Overrides everything that nameko 2 calls, and calls nothing that it overrides."""

    def setup(self):
        self.log = ["setup"]

    def start(self):
        self.log.append(f"start {self.container.service_name}")

    def stop(self):
        self.log.append("stop")

    def get_dependency(self, worker_ctx):
        return worker_ctx.data.get("user")


class User:
    name = "user"
    database = Database()

    @rpc
    def who(self):
        return self.database


def test_a_provider_is_set_up_and_then_started(config, bus):
    """``setup``, ``start`` and ``stop`` take no arguments; ``worker_ctx.data`` is what travels."""
    container = ServiceContainer(User, config)
    with container, entrypoint_hook(container, "who", {"user": "ann"}) as who:
        assert who() == "ann"
    assert container.dependencies["database"].log == ["setup", "start user", "stop"]


def test_extensions_are_found(config):
    """By class and attributes, among all that the service declares; what is not there is told."""
    runner = ServiceRunner(config)
    runner.add_service(User)
    container = get_container(runner, User)
    assert get_extension(container, Database) is container.dependencies["database"]
    found = get_extension(container, DependencyProvider, attr_name="database")
    assert found in container.extensions
    with pytest.raises(ExtensionNotFound, match="no Database, attr_name='other'"):
        get_extension(container, Database, attr_name="other")


def test_a_service_without_entrypoints_starts(config, caplog):
    """It may have dependencies that work; but that nothing calls it is said."""

    class Quiet:
        database = Database()

    container = ServiceContainer(Quiet, config)
    with caplog.at_level(logging.WARNING), container:
        assert container.dependencies["database"].log == ["setup", "start quiet"]
    assert "service 'quiet' has no entrypoint: nothing calls it" in caplog.text


def test_the_scheme_of_kombu():
    """A URL of kombu's for RabbitMQ names the same bus."""
    pytest.importorskip("kombu")
    bus = bus_of({"AMQP_URI": "pyamqp://guest:guest@127.0.0.1/here"})
    assert "127.0.0.1:5672/here" in repr(bus)
