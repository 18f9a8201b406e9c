"""The bus in a file: several processes, those that are killed, stopped or forked among them."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager

import pytest

from m3.errors import BusError, BusTimeoutError, ConfigError
from m3.messaging import Message, Queue, connect
from m3.messaging._sqlite import messages
from m3.messaging._sqlite.clerk import Clerk
from m3.messaging._sqlite.database import Database

JOBS = Queue("jobs")
PATIENCE = 30.0
NEVER = 3600.0

HEAD = """
import os, sys
from m3.messaging import Message, Queue, connect
bus = connect(sys.argv[1], lease=float(sys.argv[2]))
bus.setup()
jobs = Queue("jobs")
def say(word):
    os.write(1, word + b"\\n")
"""

WORK = (
    HEAD
    + """
consumer = bus.consumer(jobs, prefetch=10)
while delivery := consumer.receive():
    say(delivery.message.body)
    consumer.ack(delivery)
"""
)

HOLD = (
    HEAD
    + """
consumer = bus.consumer(jobs)
delivery = consumer.receive()
say(delivery.message.body)
sys.stdin.readline()
consumer.ack(delivery)
again = consumer.receive()
say(b"late %d" % consumer.late)
say(again.message.body)
consumer.ack(again)
bus.shutdown()
"""
)

PUBLISH = (
    HEAD
    + """
bus.declare(jobs)
for number in range(int(sys.argv[3])):
    bus.publish(Message(body=b"%d" % number), routing_key="jobs")
    say(b"%d" % number)
bus.shutdown()
"""
)

FORK = (
    HEAD
    + """
import warnings
warnings.simplefilter("ignore")
consumer = bus.consumer(jobs)
child = os.fork()
if not child:
    try:
        bus.publish(Message(body=b"child"), routing_key="jobs")
    except ConnectionError as error:
        say(b"refused" if b"forked" in str(error).encode() else b"?")
    try:
        consumer.receive()
    except ConnectionError as error:
        say(b"refused" if b"forked" in str(error).encode() else b"?")
    consumer.stop()
    bus.shutdown()
    sys.exit()
os.waitpid(child, 0)
bus.publish(Message(body=b"parent"), routing_key="jobs")
say(consumer.receive().message.body)
bus.shutdown()
"""
)


@pytest.fixture
def url(tmp_path):
    """The URL of a bus that is not there yet."""
    return f"sqlite:///{tmp_path}/bus.db"


@pytest.fixture
def bus(url):
    """A bus that would take nothing away from a process that is only slow."""
    with connect(url, lease=NEVER) as bus:
        bus.declare(JOBS)
        yield bus


@contextmanager
def program(text, url, *arguments, lease=NEVER):
    """Run a program; it is killed at the end, at the latest."""
    command = [sys.executable, "-c", text, url, str(lease), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def publish(bus, *bodies):
    for body in bodies:
        bus.publish(Message(body=body), routing_key="jobs")


def take(consumer):
    """Return the body of the next message, which has to come, and acknowledge it."""
    delivery = consumer.receive(PATIENCE)
    assert delivery is not None
    consumer.ack(delivery)
    return delivery.message.body


@contextmanager
def locked(path):
    """Keep everybody else from writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


# -- several processes


def test_a_publisher_wakes_another_process(bus, url):
    """A message reaches a consumer that waits in another process, and an answer comes back."""
    with program(WORK, url) as worker:
        for number in range(50):
            publish(bus, b"%d" % number)
            assert worker.stdout.readline() == b"%d\n" % number


def test_what_was_published_is_there(bus, url):
    """When ``publish`` has returned, the end of the process changes nothing."""
    with program(PUBLISH, url, "100000") as publisher:
        said = [publisher.stdout.readline().strip() for _ in range(50)]
        publisher.kill()
        said += publisher.stdout.read().split()
    consumer = bus.consumer(JOBS, prefetch=10)
    assert [take(consumer) for _ in said] == said


def test_several_buses_of_one_process_outlive_one_of_another(bus, url):
    """A process that comes and goes takes nothing away from one with two buses on the file."""
    with connect(url) as second:
        consumer = second.consumer(JOBS)
        for number in range(3):
            with program(PUBLISH, url, "1") as publisher:
                assert publisher.stdout.readline() == b"0\n"
                assert publisher.wait(PATIENCE) == 0
            assert take(consumer) == b"0"
            publish(bus, b"%d" % number)
            assert take(consumer) == b"%d" % number


def test_a_killed_consumer_gives_back_at_once(bus, url):
    """What a process had when it was killed comes to one that waits, long before its lease."""
    publish(bus, b"1")
    with program(HOLD, url) as holder:
        assert holder.stdout.readline() == b"1\n"
        received = []
        consumer = bus.consumer(JOBS)
        waiting = threading.Thread(target=lambda: received.append(consumer.receive(PATIENCE)))
        waiting.start()
        holder.kill()
        waiting.join()
    assert [(one.message.body, one.attempts) for one in received] == [(b"1", 2)]


def test_a_killed_consumer_has_given_back_when_nobody_was_there(url):
    """The next one that comes finds what a killed process had in hand."""
    with connect(url) as bus:
        bus.declare(JOBS)
        publish(bus, b"1")
    with program(HOLD, url) as holder:
        assert holder.stdout.readline() == b"1\n"
    with connect(url) as bus:
        assert take(bus.consumer(JOBS)) == b"1"
    with connect(url) as bus:
        assert os.listdir(bus.path.with_name("bus.db-bus")) == [bus._clerk._whistle.name]


def kill_consumers(bus, url, rounds):
    """Kill one consumer after the other in the middle; return how often each message was done."""
    total, done = 40 * rounds, Counter()
    for round_ in range(rounds):
        publish(bus, *(b"%d" % (40 * round_ + number) for number in range(40)))
        with program(WORK, url) as worker:
            for _ in range(random.randrange(1, 30)):
                done[worker.stdout.readline().strip()] += 1
            worker.kill()
            done.update(worker.stdout.read().split())
    consumer = bus.consumer(JOBS, prefetch=10)
    while len(done) < total:
        done[take(consumer)] += 1
    return done


def test_what_is_not_settled_in_the_file_counts(bus, monkeypatch):
    """A session never owns more than its prefetch, even while settlements are being written."""
    publish(bus, b"1", b"2", b"3", b"4")
    owned, claim = [], messages.claim

    def claim_and_count(database, *arguments):
        deliveries = claim(database, *arguments)
        query = "SELECT count(*) FROM messages WHERE owner IS NOT NULL"
        owned.append(database.execute(query).fetchone()[0])
        return deliveries

    monkeypatch.setattr(messages, "claim", claim_and_count)
    consumer = bus.consumer(JOBS, prefetch=2)
    in_hand = [consumer.receive(PATIENCE) for _ in range(2)]
    begun, may_end = threading.Event(), threading.Event()
    bus._clerk.do_later(lambda _: begun.set() or may_end.wait(PATIENCE), lambda _: None)
    assert begun.wait(PATIENCE)
    for delivery in in_hand:
        consumer.ack(delivery)
    received = []
    waiting = threading.Thread(target=lambda: received.append(consumer.receive(PATIENCE)))
    waiting.start()
    while not consumer._is_hungry:
        waiting.join(0.001)
    may_end.set()
    waiting.join()
    assert received[0].message.body == b"3"
    assert max(owned) == 2


def test_killed_consumers_lose_nothing(bus, url):
    """However a consumer ends, each message is done; those that it had in hand, perhaps twice."""
    rounds = 5
    done = kill_consumers(bus, url, rounds)
    assert sorted(map(int, done)) == list(range(40 * rounds))
    assert done.total() - len(done) <= 10 * rounds


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_a_hundred_killed_consumers_lose_nothing(bus, url):
    """The same 100 times."""
    done = kill_consumers(bus, url, 100)
    print(f"done {len(done)}, again {done.total() - len(done)}")
    assert sorted(map(int, done)) == list(range(4000))
    assert done.total() - len(done) <= 1000


def test_a_process_that_is_stopped_loses_its_lease(url):
    """
    When its lease is over, others get what a stopped process had in hand.

    When it goes on, what it acknowledges is too late, and it goes on receiving.
    """
    with connect(url, lease=0.5) as bus, program(HOLD, url, lease=0.5) as holder:
        publish_to = bus.consumer(JOBS)
        publish_to.close()
        publish(bus, b"1")
        assert holder.stdout.readline() == b"1\n"
        holder.send_signal(signal.SIGSTOP)
        consumer = bus.consumer(JOBS)
        assert take(consumer) == b"1"
        consumer.close()
        publish(bus, b"2")
        holder.send_signal(signal.SIGCONT)
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        assert holder.stdout.read().split() == [b"late", b"1", b"2"]
        assert holder.wait() == 0


def test_the_child_of_a_fork_cannot_use_it(url):
    """A child is told to connect anew, and harms nothing when it ends."""
    with program(FORK, url) as process:
        assert process.stdout.read().split() == [b"refused", b"refused", b"parent"]
        assert process.wait() == 0


# -- within one


def test_what_nobody_has_called_out_is_found(bus):
    """A message whose publisher was killed before it woke anybody is received all the same."""
    consumer = bus.consumer(JOBS)
    assert consumer.receive(0) is None
    database = Database(bus.path)
    with database.transaction(durable=False):
        messages.publish(database, messages.write(Message(body=b"1")), "", "jobs", mandatory=True)
    database.close()
    assert take(consumer) == b"1"


def test_a_locked_database_is_waited_for(bus):
    """While another process writes, publishing ends in time; acknowledgements are done later."""
    consumer = bus.consumer(JOBS, prefetch=2)
    publish(bus, b"1", b"2")
    first, second = consumer.receive(PATIENCE), consumer.receive(PATIENCE)
    with locked(bus.path):
        consumer.ack(first)
        consumer.requeue(second)
        with pytest.raises(BusTimeoutError):
            bus.publish(Message(body=b"3"), routing_key="jobs", timeout=0.05)
    bus.health()
    consumer.close()
    assert consumer.late == 0
    consumer = bus.consumer(JOBS)
    assert take(consumer) == b"2"


def test_commits_are_shared(bus, monkeypatch):
    """What comes together while the clerk is busy is written in one transaction."""
    clerk, written = bus._clerk, []
    write, take_job = clerk._write, clerk._take
    is_asked, go_on = threading.Semaphore(0), threading.Event()
    monkeypatch.setattr(clerk, "_write", lambda jobs: (written.append(len(jobs)), write(jobs)))
    monkeypatch.setattr(clerk, "_take", lambda job: (take_job(job), is_asked.release()))
    clerk.do_later(lambda _: go_on.wait(PATIENCE), lambda _: None)
    publishers = [threading.Thread(target=publish, args=(bus, b"%d" % n)) for n in range(8)]
    for publisher in publishers:
        publisher.start()
    for _ in (None, *publishers):
        is_asked.acquire(timeout=PATIENCE)
    go_on.set()
    for publisher in publishers:
        publisher.join()
    assert sum(written) == 9
    assert len(written) <= 2


@pytest.mark.parametrize(("persistent", "synchronous"), [(True, "FULL"), (False, "NORMAL")])
def test_persistent_messages_are_synchronised(bus, persistent, synchronous):
    """What has to outlive a loss of power waits for the disk; nothing else does."""
    bus.publish(Message(body=b"1", persistent=persistent), routing_key="jobs")
    assert bus._clerk._database._synchronous == synchronous


# -- files


def test_a_file_of_something_else_is_refused(tmp_path):
    """A database that is not a bus, and a file that is no database, are left as they are."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE mine (x)")
    (tmp_path / "text.db").write_text("no database at all, but a text" * 100)
    for name, why in (("other.db", "something else"), ("text.db", "not a database")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(BusError, match=why):
            connect(f"sqlite:///{tmp_path}/{name}").setup()
        assert (tmp_path / name).read_bytes() == before


def test_a_later_version_is_refused(url, tmp_path):
    """A file of a later version of m3 is not written to."""
    connect(url).__enter__().shutdown()
    with closing(sqlite3.connect(tmp_path / "bus.db")) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(BusError, match="later version"):
        connect(url).setup()


def test_a_folder_that_is_not_there(tmp_path):
    """The error of a file that cannot be made names it."""
    with pytest.raises(BusError, match=r"nowhere/bus\.db"):
        connect(f"sqlite:///{tmp_path}/nowhere/bus.db").setup()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://bus.db"])
def test_a_url_without_a_file(url):
    """A URL that names no file is refused before anything is done."""
    with pytest.raises(ConfigError, match="names no file"):
        connect(url)


# -- what goes wrong


def test_many_may_come_at_once(url):
    """Buses that are set up in one moment, on a file that is not there yet, all work."""
    buses = [connect(url) for _ in range(8)]
    barrier, failed = threading.Barrier(len(buses)), []

    def setup(bus):
        barrier.wait()
        try:
            bus.setup()
            bus.declare(JOBS)
        except BusError as error:
            failed.append(error)

    threads = [threading.Thread(target=setup, args=(bus,)) for bus in buses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number, bus in enumerate(buses):
        publish(bus, b"%d" % number)
    consumer = buses[0].consumer(JOBS, prefetch=8)
    assert sorted(take(consumer) for _ in buses) == [b"%d" % number for number in range(8)]
    for bus in buses:
        bus.shutdown()


def test_a_pipe_that_was_removed_is_no_death(bus, url):
    """Without its pipe a process is not woken at once, but it keeps what it has."""
    consumer = bus.consumer(JOBS, prefetch=2)
    publish(bus, b"1")
    delivery = consumer.receive(PATIENCE)
    (bus.path.with_name("bus.db-bus") / bus._clerk._whistle.name).unlink()
    with connect(url) as other:
        publish(other, b"2")
        assert take(consumer) == b"2"
        assert other.consumer(JOBS).receive(0) is None
    consumer.ack(delivery)
    bus.health()
    assert consumer.late == 0


def test_a_damaged_file_is_an_error_for_all(bus):
    """If the database does not work any more, who publishes and who receives are told."""
    consumer = bus.consumer(JOBS)
    with closing(sqlite3.connect(bus.path)) as other:
        other.execute("DROP TABLE messages")
    with pytest.raises(BusError, match="no such table"):
        publish(bus, b"1")
    with pytest.raises(BusError, match="no such table"):
        consumer.receive(PATIENCE)


def test_a_full_queue_in_another_process(bus, url):
    """A publisher that waits for room goes on when another process has made some."""
    full = Queue("full", options={"max_length": 1})
    with connect(url) as other:
        bus.declare(full)
        bus.publish(Message(body=b"1"), routing_key="full")
        message = Message(body=b"2")
        publisher = threading.Thread(
            target=bus.publish, args=(message,), kwargs={"routing_key": "full"}
        )
        publisher.start()
        consumer = other.consumer(full)
        assert take(consumer) == b"1"
        publisher.join()
        assert take(consumer) == b"2"


@pytest.mark.parametrize("place", ["_work", "_stay", "_claim"])
def test_a_clerk_that_fails_tells_everybody(bus, caplog, place):
    """If its thread has to end, the bus fails as a component, and every call says why."""
    consumer = bus.consumer(JOBS)

    def fail(*arguments):
        raise OSError("no more descriptors")

    received = []

    def receive():
        try:
            received.append(consumer.receive())
        except BusError as error:
            received.append(error)

    waiting = threading.Thread(target=receive)
    waiting.start()
    setattr(bus._clerk, place, fail)
    for _ in range(2):
        with pytest.raises(BusError, match="no more descriptors"):
            publish(bus, b"1")
            bus.health()
    waiting.join()
    assert "no more descriptors" in str(received[0])
    assert "failed while it was not in use" in caplog.text


def test_receiving_ends_in_time_while_the_database_is_locked(bus):
    """A consumer that waits for a moment does not wait for another process that writes."""
    consumer = bus.consumer(JOBS)
    publish(bus, b"1")
    delivery = consumer.receive(PATIENCE)
    with locked(bus.path):
        consumer.ack(delivery)
        assert consumer.receive(0.01) is None
    bus.health()
    assert consumer.late == 0


def test_a_shutdown_just_before_a_consumer_looks_for_messages(tmp_path, monkeypatch):
    """Who receives is told that nothing more comes, also if the bus is closed at that moment."""
    with connect(f"sqlite:///{tmp_path}/bus.db") as bus:
        consumer = bus.consumer(JOBS)
        look = Clerk.look

        def look_late(clerk):
            monkeypatch.undo()
            bus.shutdown()
            look(clerk)

        monkeypatch.setattr(Clerk, "look", look_late)
        assert consumer.receive(PATIENCE) is None
