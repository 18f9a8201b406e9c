"""Whatever comes over a bus, it is answered or a dead letter, and the service lives."""

import bz2
import json
import logging
import pickle
import resource
import uuid
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest

from m3.messaging import Exchange, Message, Queue, connect
from m3.services import (
    ClusterRpcProxy,
    MalformedRequest,
    RemoteError,
    consume,
    event_handler,
    rpc,
    run_services,
)

PATIENCE = 30
CALL = b'{"args": ["nut"], "kwargs": {}}'


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def bomb(size):
    """Return zeros, packed with zlib."""
    packer = zlib.compressobj()
    zeros = bytes(10_000_000)
    return b"".join([*(packer.compress(zeros) for _ in range(size // len(zeros))), packer.flush()])


def packed(body, name):
    return {"body": body, "headers": {"compression": name}}


GZIP = "application/x-gzip"

UNREADABLE = {
    "pickle": {"body": b"", "content_type": "application/x-python-serialize"},
    "yaml": {"body": b"!!python/object/apply:os.system [true]", "content_type": "text/yaml"},
    "a type that is none": {"body": b"1", "content_type": "\x1b[2J" * 40},
    "no type": {"body": b"1", "content_type": ""},
    "no UTF-8": {"body": b'"\xff\xfe"'},
    "UTF-16": {"body": '"text"'.encode("utf-16")},
    "nothing": {"body": b""},
    "half of JSON": {"body": b'{"args": ['},
    "two values": {"body": b"1 2"},
    "brackets": {"body": b"[" * 100_000},
    "objects": {"body": b'{"a":' * 100_000},
    "not a number": {"body": b"[NaN]"},
    "infinity": {"body": b"-Infinity"},
    "a number of 5,000 digits": {"body": b"1" * 5000},
    "bzip2": packed(bz2.compress(b"1"), "application/x-bz2"),
    "a compression that is none": packed(b"1", "\n"),
    "a compression that is a list": packed(b"1", [GZIP]),
    "compressed by half": packed(zlib.compress(b"1" * 1000)[:-5], GZIP),
    "not compressed": packed(b"1", GZIP),
    "a small bomb": packed(bomb(100_000_000), GZIP),
}
"""Bodies that nobody reads."""

NO_CALLS = {
    "a list": {"body": b"[1, 2]"},
    "arguments that are none": {"body": b'{"args": "nut", "kwargs": {}}'},
    "names that are none": {"body": b'{"args": [], "kwargs": [["value", 1]]}'},
    "no names": {"body": b'{"args": []}'},
    "an answer": {"body": b'{"result": 1, "error": null}'},
    "null": {"body": b"null"},
}
"""Bodies that can be read, and make no call."""

ODD_HEADERS = {
    "a time that is none": {"m3-timeout": "soon"},
    "a time that is a truth": {"m3-timeout": True},
    "a time without end": {"m3-timeout": 1e308},
    "a large time": {"m3-timeout": 2**62},
    "a table of ids": {"m3.call_id_stack": {"a": [1, {"b": None}]}},
    "a number of ids": {"m3.call_id_stack": 7},
    "ids that are none": {"m3.call_id_stack": [1, None]},
    "no name": {"m3.": 1},
    "control characters": {"m3.\n\x1b[2J": "\r\n\x00"},
    "deep lists": {"m3.user_id": json.loads("[" * 50 + "]" * 50)},
}
"""Headers that are ignored, or go on as they are."""

ONLY_AMQP = {
    "bytes": {"m3.user_id": b"\xff\xfe"},
    "a date": {"m3.user_id": datetime(2026, 1, 1, tzinfo=UTC)},
    "a decimal number": {"m3-timeout": Decimal("1.5")},
}

BUSES = ["memory", "sqlite", pytest.param("amqp", marks=pytest.mark.services)]


@pytest.fixture(params=BUSES)
def place(request, tmp_path):
    """A bus of each kind with a service on it, whose names no other test has."""
    url = {"memory": f"memory://{uuid.uuid4().hex}", "sqlite": f"sqlite:///{tmp_path}/bus.db"}
    url["amqp"] = request.getfixturevalue("rabbitmq") if request.param == "amqp" else ""
    name = f"m3-test-{uuid.uuid4().hex[:8]}"
    place = SimpleNamespace(kind=request.param, url=url[request.param], name=name)
    place.config = {"AMQP_URI": place.url, "rpc_exchange": f"{name}-rpc", "stop_timeout": 20}
    place.inbox = Queue(f"{name}-inbox", dead_letter=f"{name}-undelivered")
    place.queues = {
        "rpc": f"rpc-{name}",
        "event": f"evt-{name}-happened--{name}.note",
        "consume": place.inbox.name,
    }
    place.dead = {"event": f"dead-{name}", "consume": place.inbox.dead_letter}
    with connect(place.url) as place.bus:
        yield place
        queues = [Queue(queue) for queue in (*place.queues.values(), *place.dead.values())]
        exchanges = [Exchange(f"{name}-rpc"), Exchange(f"{name}.events")]
        place.bus.delete(*queues, *exchanges)


@pytest.fixture
def seen(place):
    """Run the service; return what its methods were called with."""
    seen = []

    class Shop:
        name = place.name

        @rpc
        def count(self, value):
            seen.append(value)
            return {"of": value}

        @rpc(sensitive_arguments="password")
        def enter(self, **options):
            raise LookupError

        @event_handler(place.name, "happened")
        def note(self, payload):
            seen.append(payload)

        @consume(place.inbox)
        def take(self, payload):
            seen.append(payload)

    with run_services(place.config, Shop):
        yield seen


def send(place, kind, body=CALL, **options):
    """Send a message to a method of a kind."""
    if kind == "rpc":
        options["headers"] = {"m3-method": "count", **options.get("headers", {})}
    message = Message(body=body, **options)
    place.bus.publish(message, routing_key=place.queues[kind], mandatory=True)


def answer_to(place, **message):
    """Send what may be no call, and return the answer."""
    address = uuid.uuid4().hex
    with place.bus.consumer(Queue(address, exclusive=True, auto_delete=True)) as consumer:
        send(place, "rpc", reply_to=address, **message)
        delivery = consumer.receive(PATIENCE)
        assert delivery is not None, "there is no answer"
        consumer.ack(delivery)
    return json.loads(delivery.message.body)


def dead_letter(place, kind):
    """Return the next dead letter of a kind of method."""
    with place.bus.consumer(Queue(place.dead[kind])) as consumer:
        delivery = consumer.receive(PATIENCE)
        assert delivery is not None, "there is no dead letter"
        consumer.ack(delivery)
    return delivery.message


def is_alive(place):
    with ClusterRpcProxy(place.config) as cluster:
        return cluster[place.name].count("bolt") == {"of": "bolt"}


def test_what_is_no_call_is_answered(place, seen):
    """The caller is told, no method is called, and the next call is answered."""
    cases = UNREADABLE | NO_CALLS
    answers = {what: answer_to(place, **cases[what]) for what in cases}
    types = {what: answer["error"]["exc_type"] for what, answer in answers.items()}
    assert types == dict.fromkeys(cases, "MalformedRequest")
    assert max(len(json.dumps(answer)) for answer in answers.values()) < 5000
    assert seen == []
    assert is_alive(place)


@pytest.mark.parametrize("kind", ["event", "consume"])
def test_what_cannot_be_read_is_a_dead_letter(kind, place, seen):
    """The message is put aside as it was, and the next one is handled."""
    for what, message in UNREADABLE.items():
        send(place, kind, **message)
        assert (what, dead_letter(place, kind).body) == (what, message["body"])
    assert seen == []
    assert is_alive(place)


@pytest.mark.parametrize("kind", ["rpc", "event", "consume"])
def test_pickle_is_not_read(kind, place, seen, tmp_path):
    """A message that would touch a file if it were unpickled touches none."""
    path = tmp_path / "touched"
    body = pickle.dumps(Touch(path))
    for content_type in ("application/x-python-serialize", "application/json"):
        if kind == "rpc":
            answer_to(place, body=body, content_type=content_type)
        else:
            send(place, kind, body, content_type=content_type)
            assert dead_letter(place, kind).body == body
    assert not path.exists()
    assert is_alive(place)


def test_headers_of_wrong_types_do_no_harm(place, seen):
    """What says nothing is ignored: the call is made, and so are those that come after."""
    cases = ODD_HEADERS | ONLY_AMQP if place.kind == "amqp" else ODD_HEADERS
    answers = {what: answer_to(place, headers=headers) for what, headers in cases.items()}
    assert {what: answer["error"] for what, answer in answers.items()} == dict.fromkeys(cases)
    for headers in cases.values():
        send(place, "event", b'"news"', headers=headers)
    while seen.count("news") < len(cases):
        pass
    assert is_alive(place)


def test_a_call_whose_time_is_over_is_not_made(place, seen):
    """Nobody waits for it."""
    for seconds in (-1, -1e300, 0, -(2**62)):
        send(place, "rpc", headers={"m3-timeout": seconds})
    assert is_alive(place)
    assert seen == ["bolt"]


def test_the_last_of_two_values_counts(place, seen):
    """A name that an object has twice is read as by most programs."""
    body = b'{"args": [1], "args": [2], "kwargs": {}, "kwargs": {}}'
    assert answer_to(place, body=body)["result"] == {"of": 2}


def test_a_call_without_an_address_is_made(place, seen):
    """Without ``reply_to`` or ``correlation_id`` nobody is answered, and nobody else disturbed."""
    send(place, "rpc")
    send(place, "rpc", reply_to="")
    send(place, "rpc", reply_to="no-such-queue", correlation_id="\x00\n")
    assert is_alive(place)
    assert sorted(seen) == ["bolt", "nut", "nut", "nut"]


@pytest.mark.parametrize("kind", ["rpc", "event", "consume"])
def test_an_answer_to_a_queue_of_services_makes_no_loop(kind, place, seen, caplog):
    """An answer that goes where calls or events go is one more message, and asks for none."""
    send(place, "rpc", reply_to=place.queues[kind])
    assert is_alive(place)
    if kind == "rpc":
        while "refuses a message" not in caplog.text:
            pass
        assert caplog.text.count("refuses a message") == 1
    else:
        while len(seen) < 3:
            pass
    assert is_alive(place)
    answers = [one for one in seen if isinstance(one, dict)]
    assert answers == [{"result": {"of": "nut"}, "error": None}] * (kind != "rpc")


def test_an_answer_that_nobody_takes_is_given_up(place, seen):
    """A full queue as the address holds a call up, and the service goes on."""
    full = Queue(uuid.uuid4().hex, options={"max_length": 1})
    place.bus.declare(full)
    try:
        place.bus.publish(Message(body=b"1"), routing_key=full.name)
        send(place, "rpc", reply_to=full.name, headers={"m3-timeout": 0.1})
        assert is_alive(place)
    finally:
        place.bus.delete(full)


# -- what is shown


def test_what_callers_make_up_is_shown_in_one_line(place, seen, caplog):
    """Names of methods and arguments cannot pass for other lines of the log."""
    fake = "x\n2026-01-01 ERROR all is lost\x1b[2J\u202e"
    with ClusterRpcProxy(place.config) as cluster:
        with pytest.raises(Exception, match="has no method"):
            cluster[place.name][fake]()
        with pytest.raises(RemoteError):
            cluster[place.name].enter(**{fake: 1, "y" * 10_000: 2})
        with pytest.raises(Exception, match="unexpected keyword"):
            cluster[place.name].count(1, **{fake * 1000: 1})
    own = [record for record in caplog.records if record.name.startswith("m3.services")]
    lines = [record.getMessage() for record in own]
    assert len(lines) == 3
    assert not any(sign in line for line in lines for sign in "\n\x1b\u202e")
    assert max(map(len, lines)) < 2000


def test_secrets_in_calls_are_not_shown(place, seen, caplog):
    """Neither where a method takes any name, nor where a message is no call at all."""
    caplog.set_level(logging.DEBUG)
    with ClusterRpcProxy(place.config) as cluster, pytest.raises(RemoteError):
        cluster[place.name].enter(password="hunter2", user="anna")
    answer = answer_to(place, body=b'{"args": {"password": "hunter2"}, "kwargs": {}}')
    assert "anna" in caplog.text
    assert "hunter2" not in caplog.text + json.dumps(answer)


# -- answers


HARMFUL = {
    "os.system": {"exc_type": "system", "exc_path": "os.system", "exc_args": ["touch {path}"]},
    "subprocess": {
        "exc_type": "Popen",
        "exc_path": "subprocess.Popen",
        "exc_args": [["touch", "{path}"]],
    },
    "exit": {"exc_type": "SystemExit", "exc_path": "builtins.SystemExit", "exc_args": [0]},
    "interrupt": {"exc_type": "KeyboardInterrupt", "exc_path": "builtins.KeyboardInterrupt"},
    "types": {"exc_type": ["a"], "exc_path": {"b": 1}, "exc_args": "c", "value": 1, "traceback": 2},
    "another class": {"exc_type": "M3Error", "exc_path": "m3.errors.M3Error", "exc_args": []},
    "nothing": {},
}


@pytest.fixture
def answered(place):
    """Return a function that calls a false service, which answers as it is told."""
    queue = Queue(place.queues["rpc"], Exchange(place.config["rpc_exchange"], "topic"), "#")
    with (
        place.bus.consumer(queue) as consumer,
        ClusterRpcProxy(place.config, timeout=10) as cluster,
    ):

        def answered(*answers):
            reply = cluster[place.name].count.call_async("nut")
            request = consumer.receive(PATIENCE)
            consumer.ack(request)
            for answer in answers:
                properties = {"correlation_id": request.message.correlation_id} | answer
                message = Message(**properties)
                place.bus.publish(message, routing_key=request.message.reply_to)
            return reply.result()

        yield answered


def test_no_answer_says_what_is_imported_or_called(answered, tmp_path):
    """An error that is not in the table is a RemoteError, whatever it names."""
    path = tmp_path / "touched"
    for error in HARMFUL.values():
        body = json.dumps({"result": None, "error": error}).replace("{path}", str(path))
        with pytest.raises(RemoteError) as caught:
            answered({"body": body.encode()})
        assert type(caught.value) is RemoteError
    assert not path.exists()


def test_an_answer_that_cannot_be_read_is_an_error(answered):
    """The caller has it at once, and does not wait for its deadline."""
    for answer in UNREADABLE.values():
        with pytest.raises(MalformedRequest):
            answered(answer)


def test_an_answer_that_is_none_is_an_error(answered):
    """Half an answer is none."""
    for body in (b"1", b"{}", b'{"result": 1}', b'{"error": "no"}', b'{"error": [1]}'):
        with pytest.raises(MalformedRequest, match="an answer that is none"):
            answered({"body": body})


def test_answers_to_nobody_are_discarded(answered):
    """Whoever calls gets the first answer with the id of the call, and no other."""
    good = b'{"result": "good", "error": null}'
    bad = b'{"result": "bad", "error": null}'
    strangers = [{"body": bad, "correlation_id": one} for one in (None, "", "other", "\x00")]
    assert answered(*strangers, {"body": good}, {"body": bad}) == "good"


def test_headers_of_an_answer_do_no_harm(answered):
    """They say nothing to the caller."""
    answer = {"body": b'{"result": 1, "error": null}', "headers": {"m3-timeout": [], "x-death": 3}}
    assert answered(answer) == 1


# -- memory


@pytest.fixture(scope="module")
def gigabyte():
    """A gigabyte of zeros, packed into one megabyte."""
    return packed(bomb(10**9), GZIP)


def test_a_bomb_of_a_gigabyte_is_small(place, seen, gigabyte):
    """What a compressed body becomes is bounded, and so is what it costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send(place, "consume", **gigabyte)
    assert len(dead_letter(place, "consume").body) < 2_000_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{grown / 1024:.0f} MiB more, at the most")
    assert grown < 400 * 1024  # which the gigabyte would be far beyond
    assert is_alive(place)
