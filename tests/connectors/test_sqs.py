"""Messages of SQS, taken and sent."""

import json
import logging
import secrets
import threading
from types import SimpleNamespace

import pytest
from aws_stages import REGION

from m3 import DROP, BatchError, Pipeline
from m3.aws.services import SqsPool
from m3.connectors.sqs import SqsBackend, SqsFrontend
from m3.errors import PlanError
from m3.testing import BackendBattery, FrontendBattery

pytestmark = pytest.mark.once

WORDS = [f"word {number}" for number in range(10)]


def new_queue(client, *, suffix="", **attributes):
    """Make a queue of a name of its own; return its URL."""
    name = f"q-{secrets.token_hex(6)}{suffix}"
    return client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def send(client, url, bodies, **options):
    for body in bodies:
        client.send_message(QueueUrl=url, MessageBody=body, **options)


def drain(client, url):
    """Take all messages from a queue and delete them; return their bodies."""
    bodies = []
    while True:
        response = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
        messages = response.get("Messages", [])
        if not messages:
            return bodies
        bodies += [each["Body"] for each in messages]
        for each in messages:
            client.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])


def await_visible(client, url):
    """Wait until no message of a queue is hidden, for whoever took it may be dead."""
    name = "ApproximateNumberOfMessagesNotVisible"
    while int(client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]):
        threading.Event().wait(0.05)


@pytest.mark.usefixtures("on_moto")
@pytest.mark.timeout(300)
class TestSqsFrontend(FrontendBattery):
    def prepare(self):
        self.client = self.aws.client("SqsPool")
        self.url = new_queue(self.client, VisibilityTimeout="1")
        send(self.client, self.url, WORDS)

    def make(self, **options):
        options = {"idle_timeout": 0, "wait_time": 0, "retry_after": 0, **options}
        return self.aws.given(SqsFrontend(queue=self.url, **options))

    def make_blocked(self):
        return self.make(idle_timeout=None, wait_time=1)

    def expected(self):
        return WORDS

    def _kill(self, point):
        super()._kill(point)
        await_visible(self.client, self.url)


@pytest.mark.usefixtures("on_moto")
@pytest.mark.timeout(300)
class TestSqsBackend(BackendBattery):
    def prepare(self):
        self.client = self.aws.client("SqsPool")
        self.url = new_queue(self.client)
        self.seen = []

    def make(self):
        return self.aws.given(SqsBackend(queue=self.url))

    def read_back(self):
        self.seen += drain(self.client, self.url)
        return self.seen

    def unwritable(self):
        return b"\xff\xfe"


# -- messages that are being worked on


@pytest.fixture
def client(moto):
    return moto.client("SqsPool")


@pytest.fixture
def frontend(moto):
    """Return what makes a frontend of a queue that ends when there is nothing."""

    def make(url, **options):
        return moto.given(SqsFrontend(queue=url, idle_timeout=0, **options))

    return make


def received(client, url, seconds=0):
    """Return the bodies of the messages that another consumer gets within so many seconds."""
    response = client.receive_message(
        QueueUrl=url, WaitTimeSeconds=seconds, MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    return [each["Body"] for each in response.get("Messages", [])]


class Work:
    """A transport that works on an item until it is told to end."""

    def __init__(self):
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def transport(self, data):
        self.has_begun.set()
        assert self.may_end.wait(30)
        return data


@pytest.mark.parametrize(("options", "others_get"), [({}, []), ({"max_processing": 0}, ["slow"])])
def test_a_message_is_hidden_as_long_as_it_is_worked_on(client, frontend, options, others_get):
    """Work may take longer than the visibility timeout, up to max_processing: deliveries 1."""
    url = new_queue(client)
    send(client, url, ["slow"])
    work, delivered = Work(), []
    pipeline = Pipeline(frontend(url, visibility=1, **options)).transport(work)
    engine = pipeline.backend(delivered.append).engine()
    engine.start(block=False)
    assert work.has_begun.wait(20)
    assert received(client, url, seconds=3) == others_get
    work.may_end.set()
    engine.wait()
    assert delivered == ["slow"]


def test_what_a_stop_leaves_undone_is_visible_at_once(client, frontend):
    """Others need not wait for the visibility timeout of what was given up."""
    url = new_queue(client)
    send(client, url, WORDS)
    work = Work()
    pipeline = Pipeline(frontend(url, visibility=600)).transport(work, queue_size=1)
    engine = pipeline.backend(print).engine()
    engine.start(block=False)
    assert work.has_begun.wait(20)
    engine.abandon()
    work.may_end.set()
    engine.wait()
    assert sorted(received(client, url)) == WORDS


def refuse(_):
    raise ValueError("refused")


@pytest.mark.parametrize(
    ("policy", "left"), [("dead_letter", []), ("skip", ["bad"]), (lambda _: DROP, [])]
)
def test_a_message_that_failed_comes_again_unless_it_is_kept(
    client, frontend, tmp_path, policy, left
):
    """A dead letter is deleted from the queue, and what was dropped; what was skipped is not."""
    url = new_queue(client)
    send(client, url, ["bad"])
    pipeline = Pipeline(frontend(url), dead_letters=tmp_path / "letters.jsonl")
    pipeline.transport(refuse, on_error=policy).backend(print).run()
    hidden = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    names = ("ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessages")
    assert sum(int(hidden[name]) for name in names) == len(left)


def test_a_message_that_failed_comes_again_after_the_time_that_is_given(client, frontend):
    """With retry_after it does not wait for the end of its visibility timeout."""
    url = new_queue(client)
    send(client, url, ["bad"])
    source = frontend(url, visibility=600, retry_after=0)
    Pipeline(source).transport(refuse, on_error="skip").backend(print).run()
    assert received(client, url, seconds=3) == ["bad"]


def test_a_message_that_was_received_too_often_is_a_dead_letter(client, frontend, tmp_path):
    """It is not worked on any more, and not in the queue any more."""
    url = new_queue(client)
    send(client, url, ["poison"])
    for _ in range(2):
        assert received(client, url) == ["poison"]
    letters = tmp_path / "letters.jsonl"
    report = (
        Pipeline(frontend(url, max_receives=2), dead_letters=letters)
        .backend(refuse, on_error="fail")
        .run()
    )
    assert report.dead_lettered == 1
    assert "received 3 times" in letters.read_text()
    assert received(client, url) == []


def test_a_message_that_is_held_no_more_is_told_of(client, frontend, caplog):
    """If another has got it meanwhile, it cannot be deleted: it comes twice, and a log says so."""
    url = new_queue(client)
    send(client, url, ["late"])
    source = frontend(url, visibility=1, max_processing=0)

    def steal(_):
        client.receive_message(QueueUrl=url, WaitTimeSeconds=3)

    refused = {"Id": "0", "Code": "ReceiptHandleIsInvalid", "SenderFault": True}
    source.sqs = SimpleNamespace(regions=SimpleNamespace(default=Refusing(client, refused)))
    with caplog.at_level(logging.WARNING):
        Pipeline(source).backend(steal).run()
    assert "comes again" in caplog.text


def test_an_instance_has_one_worker():
    """Several would share what holds their messages; they are refused before anything runs."""
    with pytest.raises(PlanError, match="can have 1 worker"):
        Pipeline(SqsFrontend(queue="q"), workers=3).backend(print).engine()


def test_several_workers_are_several_receivers(client):
    """Each has an instance of the class: all is delivered and deleted, and no thread is left."""
    url = new_queue(client)
    send(client, url, WORDS)
    options = {"queue": url, "idle_timeout": 0, "wait_time": 0, "visibility": 600}
    pool, delivered = SqsPool(regions=REGION), []
    pipeline = Pipeline(SqsFrontend, workers=3, resources={SqsPool: pool}, **options)
    pipeline.backend(delivered.append).run()
    assert {*delivered} == {*WORDS}  # moto may give a message to two who ask at once
    assert "m3-sqs-visibility" not in {thread.name for thread in threading.enumerate()}
    assert drain(client, url) == []


@pytest.mark.usefixtures("moto")
def test_workers_may_share_an_instance_that_sends(client):
    """What its setup keeps is the same for all of them."""
    url = new_queue(client)
    pool = SqsPool(regions=REGION)
    pipeline = Pipeline(map(str, range(200)), resources={SqsPool: pool})
    assert pipeline.backend(SqsBackend(queue=url), workers=3).run().delivered == 200
    assert sorted(map(int, drain(client, url))) == [*range(200)]


class Refusing:
    """A client whose deletions are refused."""

    def __init__(self, client, refused):
        self.client = client
        self.refused = refused

    def delete_message_batch(self, **_):
        return {"Failed": [self.refused]}

    def __getattr__(self, name):
        return getattr(self.client, name)


# -- what a message is


def test_a_message_can_be_what_it_says_in_json(client, frontend):
    """What is no JSON is a failure with the text as its value."""
    url = new_queue(client)
    send(client, url, ['{"a": 1}', "{"])
    items = []
    report = Pipeline(frontend(url, form="json"), on_error="skip").backend(items.append).run()
    assert items == [{"a": 1}]
    assert report.failed == 1


def test_a_message_can_be_a_mapping_of_all_its_parts(client, frontend):
    """Its attributes, its group and how often it was received are in it."""
    url = new_queue(client, suffix=".fifo", FifoQueue="true")
    attributes = {"kind": {"DataType": "String", "StringValue": "x"}}
    options = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
    send(client, url, ["body"], MessageAttributes=attributes, **options)
    items = []
    Pipeline(frontend(url, form="message")).backend(items.append).run()
    (item,) = items
    assert item.pop("id")
    assert item == {"body": "body", "attributes": {"kind": "x"}, "group": "g", "receives": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"form": "xml"},
        {"wait_time": 21},
        {"visibility": 0},
        {"retry_after": -1},
        {"max_receives": 0},
        {"max_processing": 50_000},
    ],
)
def test_an_option_out_of_its_range_is_refused(options):
    """The message names the option, what was given and what can be."""
    with pytest.raises(ValueError, match=next(iter(options))):
        SqsFrontend(queue="q", **options)


# -- sending


def test_a_fifo_message_has_a_group_and_an_id(client, moto):
    """The group is made of the item; the same text is there once, unless an id says otherwise."""
    url = new_queue(client, suffix=".fifo", FifoQueue="true")
    backend = moto.given(SqsBackend(queue=url, group_id="customer-{customer}"))
    backend.setup()
    backend.process_batch([{"customer": 1}, {"customer": 2}, {"customer": 1}])
    response = client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
    )
    groups = [each["Attributes"]["MessageGroupId"] for each in response["Messages"]]
    assert groups == ["customer-1", "customer-2"]
    named = moto.given(
        SqsBackend(queue=url, group_id="all", deduplication_id=lambda item: str(item["id"]))
    )
    named.setup()
    named.process_batch([{"id": 1, "x": "a"}, {"id": 1, "x": "b"}, {"id": 2, "x": "a"}])
    assert [json.loads(body)["id"] for body in drain(client, url)] == [1, 2]


def test_a_fifo_queue_needs_a_group():
    """Without one, no message could be sent; and only FIFO queues have deduplication ids."""
    with pytest.raises(ValueError, match="group_id"):
        SqsBackend(queue="orders.fifo")
    with pytest.raises(ValueError, match="deduplication_id"):
        SqsBackend(queue="orders", deduplication_id="{id}")


class Full:
    """A client that refuses some messages, for so many times."""

    def __init__(self, **times):
        self.times = times
        self.calls = []

    def send_message_batch(self, QueueUrl, Entries):  # noqa: N803 - AWS's names
        self.calls.append([each["MessageBody"] for each in Entries])
        return {"Failed": [*filter(None, map(self.refused, Entries))]}

    def refused(self, entry):
        times = self.times.get(entry["MessageBody"], 0)
        if times:
            self.times[entry["MessageBody"]] -= 1
            code = "InternalError" if times < 100 else "InvalidMessageContents"
            return {"Id": entry["Id"], "SenderFault": times >= 100, "Code": code}
        return None


def sending(instant, **times):
    backend = instant(SqsBackend(queue="https://queue"))
    backend.sqs = SimpleNamespace(regions=SimpleNamespace(default=Full(**times)))
    backend.setup()
    return backend, backend.sqs.regions.default.calls


def test_messages_that_were_refused_for_now_are_sent_again(instant):
    """A call has 10 messages at most, and only what was refused is sent again."""
    backend, calls = sending(instant, b=2)
    backend.process_batch([*"abcdefghijkl"])
    assert calls == [[*"abcdefghij"], ["b"], ["b"], ["k", "l"]]


def test_what_is_refused_for_good_is_an_error_of_its_item(instant):
    """It is not sent again, and the others are."""
    backend, calls = sending(instant, b=100, c=1)
    with pytest.raises(BatchError) as caught:
        backend.process_batch([*"abc"])
    assert caught.value.errors.keys() == {1}
    assert "InvalidMessageContents" in str(caught.value.errors[1])
    assert calls == [[*"abc"], ["c"]]


@pytest.mark.parametrize(
    ("item", "says"),
    [("", "empty"), ("a\0b", "character"), (b"\xff", "utf-8"), ("x" * 1_048_577, "1,048,576")],
)
def test_what_no_message_can_have_is_an_error_of_its_item(instant, item, says):
    """The error says what is wrong, and nothing is sent of it."""
    backend, calls = sending(instant)
    with pytest.raises(BatchError) as caught:
        backend.process_batch(["good", item])
    assert says in str(caught.value.errors[1])
    assert calls == [["good"]]


def test_a_call_has_no_more_bytes_than_sqs_takes(instant):
    """All messages of a call together have 1 MiB."""
    backend, calls = sending(instant)
    backend.process_batch(["x" * 600_000, "y" * 600_000])
    assert [len(call) for call in calls] == [1, 1]
