"""Messages of buses, in and out, on each bus."""

import threading
import uuid

import pytest

from m3 import Pipeline, Reject
from m3.connectors.amqp import AmqpBackend, AmqpFrontend
from m3.engine.delivery import levels, lowest
from m3.errors import BatchError, BodyError, BusError, ConfigError, PlanError, UndeliverableError
from m3.messaging import Exchange, Message, Queue, connect
from m3.testing import BackendBattery, FrontendBattery, MemorySink

IDLE = {"memory": 0.05, "sqlite": 0.5, "amqp": 3.0}
"""After so many seconds without a message a queue is empty, by the kind of its bus."""

PATIENCE = 20


@pytest.fixture(params=["memory", "sqlite", pytest.param("rabbitmq", marks=pytest.mark.services)])
def url(request, tmp_path):
    """Return the URL of a bus, of each kind in turn."""
    if request.param == "rabbitmq":
        return request.getfixturevalue("rabbitmq")
    return f"sqlite:///{tmp_path}/bus" if request.param == "sqlite" else f"memory://{uuid.uuid4()}"


@pytest.fixture
def idle(url):
    """Return for how long nothing comes from a queue that is empty: a broker takes its time."""
    return IDLE[url.partition(":")[0]]


@pytest.fixture
def bus(url):
    """Return that bus, connected, so that what is on it outlives the pipelines."""
    with connect(url) as bus:
        yield bus


@pytest.fixture
def name(bus):
    """Return a name of the test's own, of a queue and an exchange that are deleted after it."""
    name = f"m3-test-{uuid.uuid4().hex}"
    yield name
    bus.delete(Queue(name), Queue(f"dead-{name}"), Exchange(name))


def put(bus, name, *messages):
    """Make the queue that a frontend makes, and publish messages to it."""
    bus.declare(Queue(name, dead_letter=f"dead-{name}"))
    for message in messages:
        bus.publish(message, routing_key=name)


def taken(bus, name, count):
    """Take so many messages of a queue."""
    found = []
    with bus.consumer(Queue(name), prefetch=count) as consumer:
        for _ in range(count):
            delivery = consumer.receive(PATIENCE)
            assert delivery is not None
            consumer.ack(delivery)
            found.append(delivery.message)
    return found


def is_empty(bus, queue):
    """Return whether nothing is left in a queue."""
    with bus.consumer(queue) as consumer:
        return consumer.receive(IDLE["sqlite"]) is None


def test_items_travel_from_one_pipeline_to_another(bus, url, name, idle):
    """Text, bytes and values arrive as what they were, in order, and are acknowledged."""
    items = ["text", b"\xff\x00", {"n": 1}, [1, None], 2.5]
    bus.declare(
        queue := Queue(name, Exchange(name, type="topic"), "a.#", dead_letter=f"dead-{name}")
    )
    Pipeline(items).backend("amqp", url=url, exchange=name, routing_key="a.b").run()
    sink = MemorySink()
    source = AmqpFrontend(
        url=url, queue=name, exchange=name, routing_key="a.#", idle_timeout=idle, prefetch=2
    )
    report = Pipeline(source).backend(sink).run()
    assert (sink.items, report.delivered) == (items, len(items))
    assert is_empty(bus, queue)


def test_a_routing_key_may_have_fields_of_the_item(bus, url, name):
    """Each item goes to the queue that its field names."""
    bus.declare(Queue(name))
    queue = name.rpartition("-")[2]
    Pipeline([{"to": queue}]).backend("amqp", url=url, routing_key="m3-test-{to}").run()
    assert [message.body for message in taken(bus, name, 1)] == [b'{"to":"%s"}' % queue.encode()]


def test_messages_as_they_are(bus, url, name, idle):
    """With ``form="message"`` an item is the message, and a message is published as it is."""
    put(bus, name, Message(body=b"{", headers={"n": 1}, content_type="x/y"))
    bus.declare(Queue(f"dead-{name}"))
    source = AmqpFrontend(url=url, queue=name, form="message", idle_timeout=idle)
    Pipeline(source).backend("amqp", url=url, routing_key=f"dead-{name}").run()
    (message,) = taken(bus, f"dead-{name}", 1)
    assert (message.body, message.content_type, message.headers["n"]) == (b"{", "x/y", 1)


def test_a_body_that_cannot_be_read_goes_to_the_dead_letters(bus, url, name, idle):
    """It is a failure of the input, others go on, and it does not come again."""
    put(bus, name, Message(body=b"{"), Message(body=b"1"), Message(body=b"", content_type="x/y"))
    sink = MemorySink()
    source = AmqpFrontend(url=url, queue=name, idle_timeout=idle)
    report = Pipeline(source, on_error="skip").backend(sink).run()
    assert (sink.items, report.failed) == ([1], 2)
    assert [message.body for message in taken(bus, f"dead-{name}", 2)] == [b"{", b""]


def test_what_fails_comes_again_and_then_is_a_dead_letter(bus, url, name):
    """A message is tried *attempts* times; one that is bad for good only once."""
    put(bus, name, Message(body=b'"fails"'), Message(body=b'"bad"'), Message(body=b'"good"'))
    seen, all_are_seen = [], threading.Event()

    def work(item):
        seen.append(item)
        if len(seen) == 5:
            all_are_seen.set()
        if item == "bad":
            raise Reject("bad")
        if item == "fails":
            raise ValueError(item)

    source = AmqpFrontend(url=url, queue=name, attempts=3, retry_after=0)
    engine = Pipeline(source).backend(work, on_error="skip").engine()
    engine.start(block=False)
    assert all_are_seen.wait(PATIENCE)
    engine.stop(timeout=PATIENCE)
    assert sorted(seen) == ["bad", "fails", "fails", "fails", "good"]
    dead = [message.body for message in taken(bus, f"dead-{name}", 2)]
    assert sorted(dead) == [b'"bad"', b'"fails"']


def test_a_dead_letter_of_the_run_is_none_of_the_queue(bus, url, name, idle, tmp_path):
    """What the run itself keeps is acknowledged."""
    put(bus, name, Message(body=b"1"))
    source = AmqpFrontend(url=url, queue=name, idle_timeout=idle)
    pipeline = Pipeline(source, dead_letters=tmp_path / "letters.jsonl")
    report = pipeline.backend(lambda item: 1 / 0, on_error="dead_letter").run()
    assert report.dead_lettered == 1
    assert is_empty(bus, Queue(f"dead-{name}"))


def test_being_idle_is_having_room_for_more(bus, url, name, idle):
    """While it has as many messages as it may have, the frontend does not end."""
    put(bus, name, Message(body=b"1"), Message(body=b"2"))
    waited, seen = threading.Event(), []

    def work(item):
        seen.append(item)
        waited.wait(1.5 * idle)

    source = AmqpFrontend(url=url, queue=name, prefetch=1, idle_timeout=idle)
    Pipeline(source).backend(work).run()
    assert seen == [1, 2]


def test_a_stop_wakes_it_and_gives_back_what_is_not_done(bus, url, name):
    """A frontend that waits for messages ends at once; what it holds can be received again."""
    put(bus, name, Message(body=b"1"))
    frontend = AmqpFrontend(url=url, queue=name)
    frontend.setup()
    things = frontend.produce()
    next(things)
    ended = threading.Thread(target=lambda: list(things))
    ended.start()
    frontend.stop()
    ended.join(PATIENCE)
    assert not ended.is_alive()
    frontend.cleanup()
    with bus.consumer(Queue(name, dead_letter=f"dead-{name}")) as consumer:
        assert consumer.receive(PATIENCE).message.body == b"1"


def test_a_message_that_nobody_gets_is_an_error_of_its_item(bus, url, name):
    """Unless it is not mandatory; and so is an item that cannot be sent."""
    report = (
        Pipeline(["lost", {1, 2}])
        .backend("amqp", url=url, exchange=name, routing_key="k", on_error="skip")
        .run()
    )
    assert report.failed == 2
    Pipeline(["lost"]).backend("amqp", url=url, exchange=name, mandatory=False).run()


def test_errors_of_items_say_what_they_are(bus, url, name):
    """Each item of a batch has its own, and those without one are published, in order."""
    bus.declare(Queue(name))
    backend = AmqpBackend(url=url, routing_key="m3-test-{to}")
    backend.setup()
    queue = name.rpartition("-")[2]
    items = [{"to": queue, "n": 1}, {"to": "nobody"}, {"to": queue, "n": {2}}, {}]
    with pytest.raises(BatchError) as caught:
        backend.process_batch([*items, {"to": queue, "n": 3}])
    backend.cleanup()
    kinds = {place: type(error) for place, error in caught.value.errors.items()}
    fault = kinds.pop(3)
    assert kinds == {1: UndeliverableError, 2: BodyError}
    assert not issubclass(fault, BusError)
    assert [b'"n":%d' % n in m.body for n, m in zip((1, 3), taken(bus, name, 2), strict=True)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"url": "http://h"}, "names no bus"),
        ({"form": "xml"}, "form='xml': it can be value, message"),
        ({"prefetch": 0}, "prefetch=0"),
        ({"attempts": 0}, "attempts=0"),
        ({"retry_after": -1}, "retry_after=-1"),
        ({"idle_timeout": -1}, "idle_timeout=-1"),
        ({"exchange": "e", "exchange_type": "headers"}, "topic"),
        ({"queue": Queue("q"), "exchange": "e"}, "leave exchange"),
    ],
)
def test_options_are_checked_when_the_frontend_is_made(options, complaint):
    """Nothing is connected for that."""
    with pytest.raises(ConfigError, match=complaint):
        AmqpFrontend(**{"url": "memory://", "queue": "q", **options})


def test_a_backend_has_to_know_where_to():
    """There is neither an exchange nor a queue."""
    with pytest.raises(ConfigError, match="name an exchange"):
        AmqpBackend(url="memory://")


def test_a_routing_key_has_whole_fields():
    """A brace that is left open is a mistake that names the option."""
    with pytest.raises(ConfigError, match=r"routing_key='{a': .* a field of the item is written"):
        AmqpBackend(url="memory://", routing_key="{a")


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(AmqpFrontend(url="memory://", queue="q"), workers=2).backend(print),
        Pipeline([]).backend(AmqpBackend(url="memory://", routing_key="q"), workers=2),
    ],
)
def test_an_instance_has_one_worker(pipeline):
    """It has one connection, and each worker needs its own: several are refused."""
    with pytest.raises(PlanError, match="can have 1 worker"):
        pipeline.engine()


def test_each_worker_of_a_class_has_a_connection(bus, url, name, idle):
    """Several workers send and receive: what is sent is received once."""
    put(bus, name)
    Pipeline(range(100)).backend("amqp", workers=3, url=url, routing_key=name).run()
    found = MemorySink()
    Pipeline("amqp", workers=3, url=url, queue=name, idle_timeout=idle).backend(found).run()
    assert sorted(found.items) == [*range(100)]


@pytest.mark.parametrize("make", [AmqpFrontend, AmqpBackend])
def test_a_setup_that_fails_leaves_no_connection(make):
    """An exchange is there and is different: the bus in memory is gone with its last user."""
    url = f"memory://{uuid.uuid4()}"
    options = {"queue": "q"} if make is AmqpFrontend else {}
    with connect(url) as bus:
        bus.declare(Exchange("e", type="fanout"))
        with pytest.raises(BusError):
            make(url=url, exchange="e", exchange_type="direct", **options).setup()
    with connect(url) as bus:
        bus.declare(Exchange("e", type="direct"))


def test_both_deliver_at_least_once():
    """A pipeline from bus to bus says so."""
    pipeline = Pipeline("amqp", url="memory://", queue="a")
    pipeline.backend("amqp", url="memory://", routing_key="b")
    assert lowest(levels(pipeline.plan())).level == "at_least_once"


class TestAmqpFrontend(FrontendBattery):
    acks_last = False  # the bus has them a moment later
    idle = IDLE["sqlite"]

    def prepare(self):
        self.url = f"sqlite:///{self.folder}/bus"
        self.fill()

    def fill(self):
        with connect(self.url) as bus:
            put(bus, "q", *(Message(body=b"%d" % number) for number in range(10)))

    def make(self):
        return AmqpFrontend(url=self.url, queue="q", retry_after=0, idle_timeout=self.idle)

    def make_blocked(self):
        return AmqpFrontend(url=self.url, queue="q")

    def expected(self):
        return list(range(10))


@pytest.mark.services
@pytest.mark.stress  # many of its runs end by being idle, for as long as a broker may take
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("own_rabbitmq_of_each_scenario")
class TestAmqpFrontendOnRabbitMQ(TestAmqpFrontend):
    idle = IDLE["amqp"]

    def prepare(self):
        self.url = self.own_rabbitmq()
        self.fill()


class TestAmqpBackend(BackendBattery):
    def prepare(self):
        self.url = f"sqlite:///{self.folder}/bus"
        self.begin()

    def begin(self):
        self.seen = []
        with connect(self.url) as bus:
            bus.declare(Queue("q"))

    def make(self):
        return AmqpBackend(url=self.url, routing_key="q")

    def read_back(self):
        with connect(self.url) as bus, bus.consumer(Queue("q")) as consumer:
            bus.publish(Message(body=b"end"), routing_key="q")
            while (delivery := consumer.receive(PATIENCE)).message.body != b"end":
                self.seen.append(delivery.message.body.decode())
                consumer.ack(delivery)
            consumer.ack(delivery)
        return self.seen

    def unwritable(self):
        return {1, 2}


@pytest.mark.services
@pytest.mark.usefixtures("own_rabbitmq_of_each_scenario")
class TestAmqpBackendOnRabbitMQ(TestAmqpBackend):
    def prepare(self):
        self.url = self.own_rabbitmq()
        self.begin()
