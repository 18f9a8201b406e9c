"""What becomes of consumers when the bus in a file fails, is closed, or is set up twice."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from waiting import until

from m3.errors import BusError, BusTimeoutError
from m3.messaging import Message, Queue, connect
from m3.messaging._sqlite import clerk as clerks
from m3.messaging._sqlite import topology
from m3.messaging._sqlite.clerk import Clerk
from m3.messaging.sqlite import publishing

JOBS = Queue("jobs")
SEAT = Queue("seat", durable=False, exclusive=True)
PATIENCE = 30.0

in_a_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""What a thread of the bus raises in the end comes out there."""


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


@in_a_thread
def test_all_are_told_of_a_failure(bus):
    """Who receives is told that the bus has failed, also if telling of that raises before."""
    consumer, told = bus.consumer(JOBS), []
    bus._clerk._tell_failure = fail
    consumer.fail = told.append
    have_failed(bus)
    assert len(told) == 1


@in_a_thread
def test_who_waits_for_room_is_told_of_the_end(bus, monkeypatch):
    """Whoever publishes is told that the bus is closed, also if something of it cannot be."""
    bus.declare(Queue("one", options={"max_length": 1}))
    message, told = Message(body=b""), []
    bus.publish(message, routing_key="one")

    def publish():
        try:
            bus.publish(message, routing_key="one", timeout=None)
        except BusError as error:
            told.append("was closed" in str(error))

    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    clerk = bus._clerk
    until(lambda: clerk._full)
    close = clerk._whistle.close
    monkeypatch.setattr(clerk._whistle, "close", fail)
    bus.shutdown()
    publisher.join(PATIENCE)
    close()
    assert told == [True]


def test_a_shutdown_that_is_interrupted_goes_on_to_its_end(bus, monkeypatch):
    """Its thread ends, and its messages are given back, whatever closing a consumer raises."""

    def interrupted():
        raise KeyboardInterrupt

    clerk = bus._clerk
    monkeypatch.setattr(bus.consumer(JOBS), "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.shutdown()
    assert not clerk._thread.is_alive()


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_setup_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    """Who does not wait for the database to be open has no thread, and nobody in its file."""
    bus = connect(f"sqlite:///{tmp_path}/bus.db")
    monkeypatch.setattr(clerks.Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bus.setup()
    monkeypatch.undo()
    assert "m3-sqlite-bus" not in [thread.name for thread in threading.enumerate()]
    with closing(sqlite3.connect(bus.path)) as connection:
        assert connection.execute("SELECT * FROM sessions").fetchall() == []


# -- consumers that come and go


def give_up(clerk, job):
    clerk.finish(job, 0.0)


@pytest.mark.parametrize(
    ("end", "error"), [(give_up, BusTimeoutError), (interrupt, KeyboardInterrupt)]
)
def test_who_is_not_admitted_in_time_has_no_queue(bus, monkeypatch, end, error):
    """What is written of a consumer after it has given up is undone."""
    is_added, is_given_up = threading.Event(), threading.Event()
    add = topology.add_consumer

    def add_slowly(*arguments):
        add(*arguments)
        is_added.set()
        assert is_given_up.wait(PATIENCE)

    def finish(clerk, job, _):
        assert is_added.wait(PATIENCE)
        monkeypatch.undo()
        return end(clerk, job)

    monkeypatch.setattr(topology, "add_consumer", add_slowly)
    monkeypatch.setattr(Clerk, "finish", finish)
    with pytest.raises(error):
        bus.consumer(SEAT)
    is_given_up.set()
    bus.health()
    with bus.consumer(SEAT) as consumer:
        bus.publish(Message(body=b"1"), routing_key="seat", mandatory=True)
        assert consumer.receive(PATIENCE).message.body == b"1"


def test_a_consumer_closed_while_the_database_is_locked(bus, monkeypatch):
    """Its queue is free as soon as that can be written, though nobody waits for it any longer."""
    consumer = bus.consumer(SEAT)
    monkeypatch.setattr(clerks, "PATIENCE", 0.0)
    with closing(sqlite3.connect(bus.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        consumer.close()
        connection.execute("ROLLBACK")
    monkeypatch.undo()
    bus.health()
    bus.consumer(SEAT).close()


def test_who_gets_no_thread_to_listen_has_no_queue(bus, monkeypatch):
    """A listener that cannot begin leaves its queue to others."""

    def start(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            bus.listen(SEAT, id, id)
    bus.consumer(SEAT).close()


@pytest.mark.parametrize("is_fed", [True, False])
def test_what_came_for_who_was_interrupted_is_for_others(bus, is_fed):
    """A signal while a consumer waits leaves to another what it had got, or gets just then."""
    first, second = bus.consumer(JOBS), bus.consumer(JOBS)
    is_committed, is_over = threading.Event(), threading.Event()

    def committed(_):
        is_committed.set()
        assert is_fed or is_over.wait(PATIENCE)

    class Interrupted:
        """Stands for a bell: a message comes while it is waited for, and then a signal."""

        def wait(self, timeout=None):
            job = publishing(Message(body=b"1"), "", "jobs", True)
            job.future.add_done_callback(committed)
            bus._clerk.begin(job)
            assert is_committed.wait(PATIENCE)
            if is_fed:
                bus.health()
            raise KeyboardInterrupt

        def ring(self):
            pass

    first._bell = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        first.receive()
    is_over.set()
    delivery = second.receive(10)
    assert delivery is not None
    assert delivery.attempts == 1
