"""What becomes of consumers when the bus in a file fails, is closed, or is set up twice."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from m3.errors import BusError
from m3.messaging import Message, Queue, connect
from m3.messaging._sqlite.clerk import Clerk

JOBS = Queue("jobs")
PATIENCE = 30.0


@pytest.fixture
def bus(tmp_path):
    with connect(f"sqlite:///{tmp_path}/bus.db") as bus:
        yield bus


def fail(*_):
    raise OSError("no more descriptors")


def have_failed(bus):
    """Let the thread of a bus end with an error."""
    bus._clerk._work = fail
    with pytest.raises(BusError, match="no more descriptors"):
        bus.health()
    bus._clerk._thread.join(PATIENCE)


def test_receiving_from_a_bus_that_has_failed(bus):
    """Whoever receives is told each time that the bus has failed, and never waits."""
    consumer, told = bus.consumer(JOBS), []
    have_failed(bus)

    def receive():
        for _ in range(4):
            try:
                consumer.receive(0.01)
            except BusError as error:
                told.append("no more descriptors" in str(error))

    receiving = threading.Thread(target=receive, daemon=True)
    receiving.start()
    receiving.join(PATIENCE)
    assert told == [True] * 4


def test_a_bus_that_fails_takes_nothing_more(bus):
    """When a consumer learns that its bus has failed, nothing can be asked of that any more."""
    consumer, told = bus.consumer(JOBS), []

    def failed(error):
        with pytest.raises(BusError, match="no more descriptors"):
            bus._clerk.look()
        told.append(error)

    consumer.fail = failed
    have_failed(bus)
    assert len(told) == 1


def test_closing_a_consumer_twice(bus):
    """The second time does nothing: a queue stays as long as another consumer has it."""
    queue = Queue("shared", auto_delete=True)
    first, second = bus.consumer(queue), bus.consumer(queue)
    first.close()
    first.close()
    bus.publish(Message(body=b"1"), routing_key="shared", mandatory=True)
    assert second.receive(PATIENCE).message.body == b"1"


def test_two_threads_set_a_bus_up(tmp_path, monkeypatch):
    """It has one thread of its own, which ends when it is shut down."""
    bus = connect(f"sqlite:///{tmp_path}/bus.db")
    start, clerks = Clerk.start, []

    def start_slowly(clerk):
        clerks.append(clerk)
        if len(clerks) == 1:
            pool.submit(bus.setup).add_done_callback(lambda _: is_done.set())
            is_done.wait(0.5)
        start(clerk)

    is_done = threading.Event()
    monkeypatch.setattr(Clerk, "start", start_slowly)
    with ThreadPoolExecutor() as pool:
        bus.setup()
    bus.shutdown()
    assert len(clerks) == 1
