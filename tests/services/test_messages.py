"""Publishing to exchanges, and consuming from queues."""

import threading
from types import SimpleNamespace

import pytest

from m3 import Backoff, Retry
from m3.errors import BusError, ConfigError, UndeliverableError
from m3.messaging import Exchange, Message, Queue, connect
from m3.messaging.entities import DEATH_QUEUE, DEATH_REASON, Delivery
from m3.services import Publisher, UnserializableValueError, consume, rpc, run_services
from m3.services.queues import QueueEntrypoint, Received
from m3.testing import entrypoint_hook

LETTERS = Exchange("letters", type="topic")
INBOX = Queue("inbox", LETTERS, "in.*", dead_letter="undelivered")


class Office:
    name = "office"
    publish = Publisher(exchange=LETTERS)
    to_inbox = Publisher(queue=Queue("inbox", LETTERS, "in.here", dead_letter="undelivered"))
    straight = Publisher(queue=Queue("straight"))
    surely = Publisher(LETTERS, mandatory=True)

    @rpc
    def send(self, how, payload, **options):
        getattr(self, how)(payload, **options)


@pytest.fixture
def send(serve):
    """Return a function that has the office send something."""
    container = serve(Office).containers[0]
    with entrypoint_hook(container, "send") as send:
        yield send


def received(bus, queue):
    """Return the next message of a queue."""
    with bus.consumer(queue) as consumer:
        delivery = consumer.receive(20)
        consumer.ack(delivery)
    return delivery.message


def test_to_an_exchange(send, bus):
    """The routing key says which queue gets a payload."""
    bus.declare(INBOX)
    send("publish", {"dear": "you"}, routing_key="in.box")
    send("publish", "nobody reads this", routing_key="out.box")
    assert received(bus, INBOX).body == b'{"dear":"you"}'


def test_to_a_queue(send, bus):
    """With a queue, its routing key is the one; without an exchange, its name."""
    send("to_inbox", 1)
    send("straight", 2)
    assert received(bus, Queue("straight")).body == b"2"
    inbox = Queue("inbox", LETTERS, "in.here", dead_letter="undelivered")
    assert received(bus, inbox).body == b"1"


def test_options_of_a_message(send, bus):
    """What the publisher does not say, a call may."""
    bus.declare(INBOX)
    send("publish", 1, routing_key="in.x", headers={"from": "me"}, priority=3, expiration=60)
    message = received(bus, INBOX)
    assert message.headers["from"] == "me"
    assert (message.priority, message.expiration) == (3, 60)


def test_options_of_one_publisher_are_its_own(send, bus):
    """nameko's leak from one publisher to the other."""
    with pytest.raises(UndeliverableError):
        send("surely", 1, routing_key="out.box")
    send("publish", 1, routing_key="out.box")


def test_mistakes_are_told(send):
    """Options that there are not, and payloads that cannot be sent."""
    with pytest.raises(ConfigError, match="'colour'"):
        Publisher(LETTERS, colour="red")
    with pytest.raises(ConfigError, match="'colour'"):
        send("publish", 1, colour="red")
    with pytest.raises(UnserializableValueError):
        send("publish", {1, 2})


def consumer_of(queue, handle, **options):
    """Return a service that consumes from a queue."""

    class Reader:
        name = "reader"

        @consume(queue, **options)
        def read(self, payload):
            handle(payload)

    return Reader


def test_a_message_is_consumed_and_gone(serve, bus):
    """The method gets the payload; what it has returned for is acknowledged."""
    seen, done = [], threading.Semaphore(0)

    def handle(payload):
        seen.append(payload)
        done.release()

    runner = serve(consumer_of(INBOX, handle))
    for body in (b'"a"', b"[1, null]"):
        bus.publish(Message(body=body), exchange="letters", routing_key="in.x")
    for _ in range(2):
        assert done.acquire(timeout=20)
    report = runner.containers[0].stop()
    assert sorted(seen, key=str) == [[1, None], "a"]
    assert (report.delivered, report.failed) == (2, 0)
    with bus.consumer(INBOX) as consumer:
        assert consumer.receive(0) is None


@pytest.mark.parametrize(
    ("options", "calls"),
    [({}, 1), ({"requeue_on_error": Retry(3, Backoff(initial=0))}, 3)],
)
def test_a_message_that_cannot_be_handled(serve, bus, options, calls):
    """It goes to the dead letters of its queue, after as many calls as it is worth."""
    seen = []

    def handle(payload):
        seen.append(payload)
        raise ValueError(payload)

    serve(consumer_of(INBOX, handle, **options))
    bus.publish(Message(body=b'"bad"'), exchange="letters", routing_key="in.x")
    assert received(bus, Queue("undelivered")).body == b'"bad"'
    assert seen == ["bad"] * calls


@pytest.mark.parametrize(
    "message",
    [
        Message(body=b"\x80\x04\x95", content_type="application/x-python-serialize"),
        Message(body=b"\x00" * 1000, headers={"compression": "application/x-gzip"}),
        Message(body=b"{"),
    ],
    ids=["pickle", "damaged", "not json"],
)
def test_bodies_that_are_not_read(serve, bus, message):
    """They are dead letters, and the consumer lives."""
    done = threading.Event()
    runner = serve(consumer_of(INBOX, lambda payload: done.set()))
    bus.publish(message, exchange="letters", routing_key="in.x")
    bus.publish(Message(body=b"1"), exchange="letters", routing_key="in.x")
    assert received(bus, Queue("undelivered")).body == message.body
    assert done.wait(20)
    assert runner.containers[0].report().state == "running"


PLAIN = Queue("plain")


def fail(payload):
    """Handle a payload as badly as can be."""
    raise ValueError(payload)


def publish_bad(bus, queue):
    """Publish what fails, and what cannot be read."""
    bus.publish(Message(body=b'"bad"', headers={"from": "me"}), routing_key=queue.name)
    bus.publish(Message(body=b"{", message_id="7", expiration=60), routing_key=queue.name)


def test_a_queue_without_dead_letters_loses_nothing(serve, bus):
    """What fails for good is with the dead letters of the service, and says where it was."""
    runner = serve(consumer_of(PLAIN, fail))
    publish_bad(bus, PLAIN)
    dead = sorted((received(bus, Queue("dead-reader")) for _ in range(2)), key=lambda m: m.body)
    assert [message.body for message in dead] == [b'"bad"', b"{"]
    for message in dead:
        assert message.headers[DEATH_QUEUE] == "plain"
        assert message.headers[DEATH_REASON] == "rejected"
        assert message.expiration is None
    assert (dead[0].headers["from"], dead[1].message_id) == ("me", "7")
    assert runner.containers[0].entrypoint("read").trigger()["dead_letters"] == "dead-reader"
    runner.stop()
    with bus.consumer(PLAIN) as consumer:
        assert consumer.receive(0) is None


def test_another_queue_for_dead_letters(serve, bus):
    """``dead_letters`` of the configuration is for messages, too."""
    serve(consumer_of(PLAIN, fail), dead_letters="elsewhere")
    publish_bad(bus, PLAIN)
    assert received(bus, Queue("elsewhere")).headers[DEATH_QUEUE] == "plain"


def test_a_message_stays_until_it_is_a_dead_letter(serve, bus, monkeypatch):
    """If the bus does not take the dead letter, the message goes back, and comes again."""
    calls = []

    def handle(payload):
        calls.append(payload)
        fail(payload)

    entrypoint = serve(consumer_of(PLAIN, handle)).containers[0].entrypoint("read")
    publish, problems = entrypoint.bus.publish, [BusError("not now")]

    def publish_later(message, **options):
        if problems:
            raise problems.pop()
        publish(message, **options)

    monkeypatch.setattr(entrypoint.bus, "publish", publish_later)
    bus.publish(Message(body=b'"bad"'), routing_key="plain")
    assert received(bus, Queue("dead-reader")).body == b'"bad"'
    assert calls == ["bad"] * 2


@pytest.mark.parametrize(
    ("queue", "options"),
    [(PLAIN, {"dead_letters": False}), (Queue("dead-reader"), {})],
    ids=["not wanted", "dead letters themselves"],
)
def test_what_is_discarded_is_told(serve, bus, caplog, monkeypatch, queue, options):
    """Where there is no place for dead letters, the start and the failure say so."""
    consumer = serve(consumer_of(queue, fail), **options).containers[0].entrypoint("read").consumer
    rejected, reject = threading.Semaphore(0), consumer.reject

    def reject_and_tell(delivery):
        reject(delivery)
        rejected.release()

    monkeypatch.setattr(consumer, "reject", reject_and_tell)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    for text in ("service 'reader'", "read", repr(queue.name), "discarded", "dead_letter"):
        assert text in told[0]
    publish_bad(bus, queue)
    for _ in range(2):
        assert rejected.acquire(timeout=20)
    lost = f"a message in {queue.name!r} is discarded"
    assert sum(text.startswith(lost) for text in caplog.messages) == 2


@pytest.mark.services
def test_the_dead_letters_of_rabbitmq_itself(own_rabbitmq, caplog):
    """A queue with its own arguments for them is left to the broker."""
    options = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "its-own"}
    queue = Queue("with-arguments", options=options)
    with connect(own_rabbitmq) as bus:
        bus.declare(Queue("its-own"))
        config = {"AMQP_URI": own_rabbitmq}
        with run_services(config, consumer_of(queue, fail)) as runner:
            bus.publish(Message(body=b'"bad"'), routing_key=queue.name)
            assert received(bus, Queue("its-own")).body == b'"bad"'
            trigger = runner.containers[0].entrypoint("read").trigger()
    assert trigger["dead_letters"] is None
    assert not [text for text in caplog.messages if "discarded" in text]


def test_a_bus_that_goes_while_a_message_becomes_a_dead_letter():
    """A message whose service loses its bus just then goes back to its queue."""
    entrypoint, back = QueueEntrypoint(), []
    delivery = Delivery(Message(body=b"1"), "inbox", object(), False, 1)

    class Going:
        def publish(self, *_, **__):
            del entrypoint.bus
            raise UndeliverableError("nobody has declared the queue")

        def declare(self, *_):
            raise BusError("the bus is not connected")

    entrypoint.bus, entrypoint._dead_queue = Going(), "dead"
    entrypoint._consumer = SimpleNamespace(requeue=lambda delivery, _: back.append(delivery))
    entrypoint.nack(Received(delivery), ValueError())
    assert back == [delivery]
