"""Pipelines that are offered as services: items submitted over RPC."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from m3 import DROP, Batch, Pipeline
from m3.engine.delivery import levels, lowest
from m3.errors import BatchError
from m3.messaging import Exchange, connect
from m3.services import (
    ClusterRpcProxy,
    IncorrectSignature,
    MethodNotFound,
    RemoteError,
    RpcTimeout,
    Service,
    ServiceRpcProxy,
    UnknownService,
    deserialize_to_instance,
    rpc,
)
from m3.services.calls import queue_of_calls
from m3.services.submit import SubmitFrontend
from m3.services.wire import METHOD, message_of
from m3.testing import FrontendBattery, MemorySink

PATIENCE = 20
IDLE = 0.5
ROOT = Path(__file__).parents[2]
EXCHANGE = Exchange("m3-rpc", type="topic")

LOADER = """
import os, sys
from m3 import Pipeline

def work(item):
    print(item, flush=True)
    sys.stdin.readline()

Pipeline("submit", url=sys.argv[1], service=sys.argv[2]).backend(work).run()
"""


@pytest.fixture
def name(bus):
    """Return the name of a service that no other test has."""
    name = f"m3-test-{uuid.uuid4().hex}"
    yield name
    bus.delete(queue_of_calls(name, EXCHANGE))


@pytest.fixture
def offer(bus_url, name):
    """Return a function that runs a pipeline as a service, and returns its engine."""
    with ExitStack() as stack:

        def offer(backend, *transports, frontend=None, **options):
            pipeline = Pipeline("submit", url=bus_url, service=name, **frontend or {})
            for transport in transports:
                pipeline.transport(transport, **options)
            engine = pipeline.backend(backend, **options).engine()
            stack.callback(engine.stop, PATIENCE)
            engine.start(block=False)
            return engine

        yield offer


@pytest.fixture
def loader(name, cluster):
    """Return the service that the pipeline is."""
    return cluster[name]


class Gate:
    """A backend that lets items through when it is told to."""

    def __init__(self):
        self.items = []
        self.reached = threading.Semaphore(0)
        self.may_go_on = threading.Event()

    def __call__(self, item):
        self.reached.release()
        assert self.may_go_on.wait(PATIENCE)
        self.items.append(item)


@deserialize_to_instance
class Spoilt(Exception):
    pass


def test_a_call_returns_when_its_item_is_delivered(offer, loader):
    """Not before, and then the item has been through all stages."""
    gate = Gate()
    offer(gate, lambda item: item * 2)
    reply = loader.submit.call_async(21)
    assert gate.reached.acquire(timeout=PATIENCE)
    assert not reply.is_there()
    gate.may_go_on.set()
    assert reply.result() is None
    assert gate.items == [42]


def test_items_are_whatever_json_has(offer, loader):
    """An item comes as it was submitted; by place and by name is the same."""
    sink = MemorySink()
    offer(sink)
    items = ["text", None, {"n": [1, 2.5]}, False]
    for item in items:
        loader.submit(item)
    loader.submit(item="named", wait=True)
    assert sink.items == [*items, "named"]


def test_an_item_that_is_dropped_is_done(offer, loader):
    """A filter is no error, and several things made of an item are waited for."""
    sink = MemorySink()

    def spread(item):
        yield from range(item)

    offer(sink, lambda item: item or DROP, spread)
    assert loader.submit(0) is None
    assert loader.submit(3) is None
    assert sink.items == [0, 1, 2]


def test_an_error_of_a_stage_comes_back(offer, loader):
    """It names the stage and the error; the others go on."""

    def parse(item):
        return int(item)

    sink = MemorySink()
    offer(sink, parse, on_error="skip")
    with pytest.raises(RemoteError) as caught:
        loader.submit("seven")
    error = caught.value
    assert (error.exc_type, error.stage) == ("ValueError", "parse")
    assert str(error) == (
        "ValueError invalid literal for int() with base 10: 'seven' (in stage 'parse')"
    )
    assert "return int(item)" in error.__notes__[0]
    loader.submit("7")
    assert sink.items == [7]


def test_an_error_that_both_sides_know_comes_back_as_itself(offer, loader):
    """As from any service; its stage is in a note."""

    def check(item):
        raise Spoilt(item)

    offer(check, on_error="skip")
    with pytest.raises(Spoilt) as caught:
        loader.submit("milk")
    assert caught.value.args == ("milk",)
    assert any("in stage 'check'" in note for note in caught.value.__notes__)


def test_each_item_of_a_batch_has_its_own_answer(offer, loader):
    """What a backend says of some items of a batch comes to those who have submitted these."""

    class Store:
        batch = Batch(count=3, period=PATIENCE)

        def process_batch(self, items):
            raise BatchError({items.index("bad"): ValueError("bad")})

    offer(Store, on_error="skip")
    replies = {item: loader.submit.call_async(item) for item in ("good", "bad", "fine")}
    assert replies["good"].result() is replies["fine"].result() is None
    with pytest.raises(RemoteError, match="ValueError bad"):
        replies["bad"].result()


def test_a_dead_letter_is_an_error_of_the_call(bus_url, name, loader, tmp_path):
    """The item is kept, its caller is told, and it does not come again."""
    pipeline = Pipeline(
        "submit", url=bus_url, service=name, dead_letters=tmp_path / "letters.jsonl"
    )
    engine = pipeline.backend(lambda item: 1 / 0, on_error="dead_letter").engine()
    with engine:
        with pytest.raises(RemoteError, match="ZeroDivisionError"):
            loader.submit("poison")
        assert engine.report().dead_lettered == 1
    assert "poison" in (tmp_path / "letters.jsonl").read_text()


def test_a_pipeline_that_fails_answers_whose_item_it_was(offer, bus, name, loader):
    """The others go back to the queue, for another instance."""
    gate = Gate()

    def fall(item):
        gate.reached.release()
        assert gate.may_go_on.wait(PATIENCE)
        raise ValueError(item)

    engine = offer(fall)
    first = loader.submit.call_async("first")
    assert gate.reached.acquire(timeout=PATIENCE)
    second = loader.submit.call_async("second")
    gate.may_go_on.set()
    with pytest.raises(RemoteError, match="ValueError first"):
        first.result()
    with pytest.raises(Exception, match="first"):
        engine.wait(PATIENCE)
    sink = MemorySink()
    offer(sink)
    assert second.result() is None
    assert sink.items == ["second"]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda loader: loader.submit(), IncorrectSignature, "submit(item, *, wait=True): missing"),
        (lambda loader: loader.submit(1, 2), IncorrectSignature, "too many positional"),
        (lambda loader: loader.health(1), IncorrectSignature, "health(): too many"),
        (lambda loader: loader.put(1), MethodNotFound, "'put' to be called; it has health, submit"),
    ],
)
def test_a_mistake_in_a_call_is_answered_and_no_item(offer, loader, call, error, text):
    """Whatever the policy for errors is, it costs the pipeline nothing."""
    engine = offer(MemorySink())
    with pytest.raises(error) as caught:
        call(loader)
    assert text in str(caught.value)
    assert loader.submit(1) is None
    assert (engine.report().produced, engine.report().failed) == (1, 0)


def test_a_pipeline_that_was_never_there_is_an_unknown_service(loader):
    """Nobody listens."""
    with pytest.raises(UnknownService):
        loader.submit(1)


def test_health_is_the_report(offer, loader):
    """Counts, queues and stages as the report has them, and the level of delivery."""
    sink = MemorySink()
    offer(sink, lambda item: item, on_error="skip")
    loader.submit(1)
    health = loader.health()
    assert (health["state"], health["delivery"]) == ("running", "at_least_once")
    assert (health["produced"], health["delivered"], health["in_flight"]) == (1, 1, 0)
    assert [stage["kind"] for stage in health["stages"]] == ["frontend", "transport", "backend"]
    assert health["stages"][1]["queue"]["maxsize"] > 0


def test_health_that_cannot_be_told_is_an_error_of_who_asks(offer, loader, monkeypatch):
    """The run goes on."""
    engine = offer(MemorySink())
    monkeypatch.setattr(engine, "report", lambda: 1 / 0)
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        loader.health()
    assert loader.submit(1) is None


def test_health_is_answered_while_the_pipeline_is_full(offer, loader):
    """Calls wait for room, those of ``health`` do not."""
    gate = Gate()
    offer(gate, frontend={"prefetch": 2})
    replies = [loader.submit.call_async(number) for number in range(5)]
    assert gate.reached.acquire(timeout=PATIENCE)
    assert loader.health()["delivered"] == 0
    gate.may_go_on.set()
    assert [reply.result() for reply in replies] == [None] * 5
    assert loader.health()["delivered"] == 5


def test_no_more_calls_are_taken_than_prefetch(offer, loader, bus, name):
    """The others wait on the bus, where other instances can have them."""
    gate = Gate()
    engine = offer(gate, frontend={"prefetch": 2})
    replies = [loader.submit.call_async(number) for number in range(4)]
    assert gate.reached.acquire(timeout=PATIENCE)
    second = MemorySink()
    offer(second)
    others = replies[2:]
    assert [reply.result() for reply in others] == [None, None]
    assert sorted(second.items) == [2, 3]
    gate.may_go_on.set()
    assert [reply.result() for reply in replies] == [None] * 4
    assert engine.report().produced == 2


def test_an_item_may_be_left_to_the_pipeline(offer, loader):
    """With ``wait=False`` the call returns while the item is on its way."""
    gate = Gate()
    offer(gate)
    assert loader.submit("later", wait=False) is None
    assert gate.items == []
    gate.may_go_on.set()
    loader.submit("now")
    assert gate.items == ["later", "now"]


def test_an_item_that_is_left_to_the_pipeline_outlives_its_call(offer, config, name, outlive):
    """It does not expire when its caller would have given up, unlike one that is waited for."""
    gate = Gate()
    engine = offer(gate, frontend={"prefetch": 2})
    with ServiceRpcProxy(name, config, timeout=1) as loader:
        loader.submit("first", wait=False)
        assert gate.reached.acquire(timeout=PATIENCE)
        loader.submit("second", wait=False)
        with pytest.raises(RpcTimeout):
            loader.submit("third")
    outlive(1)
    engine.abandon()
    gate.may_go_on.set()
    engine.stop(PATIENCE)
    sink = MemorySink()
    offer(sink)
    with ServiceRpcProxy(name, config) as loader:
        loader.submit("last")
    assert gate.items == ["first"]
    assert sorted(sink.items) == ["last", "second"]


def test_a_call_that_nobody_waits_for_is_an_item(offer, bus, name):
    """A message without a place for an answer is taken, and nothing is answered."""
    seen = threading.Event()
    offer(lambda item: seen.set())
    call = message_of({"args": ["a"], "kwargs": {}}, "a call", headers={METHOD: "submit"})
    bus.publish(call, routing_key=f"rpc-{name}")
    assert seen.wait(PATIENCE)


def test_a_call_whose_caller_has_given_up_is_not_made(offer, bus, config, name, outlive):
    """It expires on the bus, and is no item of the next run."""
    bus.declare(queue_of_calls(name, EXCHANGE))
    with ServiceRpcProxy(name, config, timeout=0.1) as loader, pytest.raises(RpcTimeout):
        loader.submit("too late")
    outlive(0.1)
    sink = MemorySink()
    offer(sink)
    with ServiceRpcProxy(name, config) as loader:
        loader.submit("in time")
    assert sink.items == ["in time"]


def test_a_stop_ends_and_answers_what_is_at_hand(offer, loader):
    """Calls that come after it wait for the next run."""
    gate = Gate()
    engine = offer(gate, frontend={"prefetch": 2})
    replies = [loader.submit.call_async(number) for number in range(3)]
    assert gate.reached.acquire(timeout=PATIENCE)
    engine.request_stop(PATIENCE)
    gate.may_go_on.set()
    report = engine.stop(PATIENCE)
    assert report.delivered == report.produced
    assert gate.items == list(range(report.produced))
    sink = MemorySink()
    offer(sink)
    assert [reply.result() for reply in replies] == [None] * 3
    assert sink.items == list(range(report.produced, 3))


def test_items_that_are_given_up_go_to_another_instance(offer, loader):
    """Who has submitted them waits on, and gets the answer of that one."""
    gate = Gate()
    engine = offer(gate, frontend={"prefetch": 3})
    replies = [loader.submit.call_async(number) for number in range(3)]
    assert gate.reached.acquire(timeout=PATIENCE)
    engine.abandon()
    gate.may_go_on.set()
    engine.stop(PATIENCE)
    sink = MemorySink()
    offer(sink)
    assert [reply.result() for reply in replies] == [None] * 3
    assert sorted([*gate.items, *sink.items]) == [0, 1, 2]


def test_instances_share_the_calls(offer, loader):
    """Each call comes to one of them."""
    gates = [Gate(), Gate()]
    for gate in gates:
        offer(gate, frontend={"prefetch": 1})
    replies = [loader.submit.call_async(number) for number in range(2)]
    assert all(gate.reached.acquire(timeout=PATIENCE) for gate in gates)
    for gate in gates:
        gate.may_go_on.set()
    assert [reply.result() for reply in replies] == [None, None]
    assert sorted(gates[0].items + gates[1].items) == [0, 1]


def test_a_service_submits_to_a_pipeline(offer, serve, cluster, name):
    """A dependency of a service calls it as it calls any other."""
    target = name

    class Shop:
        name = f"shop-{target}"
        loader = Service(target)

        @rpc
        def sell(self, thing):
            self.loader.submit({"sold": thing})
            return "thanks"

    sink = MemorySink()
    offer(sink)
    serve(Shop)
    assert cluster[Shop.name].sell("tea") == "thanks"
    assert sink.items == [{"sold": "tea"}]


def test_many_callers_at_once(offer, config, name):
    """Every item is delivered once, and every call is answered, with several workers."""
    items, done = [], []
    offer(items.append, lambda item: item, workers=2)

    def submit(first):
        with ServiceRpcProxy(name, config) as loader:
            replies = [loader.submit.call_async(number) for number in range(first, 100, 4)]
            done.extend(reply.result() for reply in replies)

    threads = [threading.Thread(target=submit, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert done == [None] * 100
    assert sorted(items) == list(range(100))


def test_it_delivers_at_least_once(bus_url):
    """A pipeline with it says so."""
    pipeline = Pipeline("submit", url=bus_url, service="loader").backend("null")
    assert lowest(levels(pipeline.plan())).level == "at_least_once"


def start_loader(url, name):
    command = [sys.executable, "-c", LOADER, url, name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("rabbitmq", marks=pytest.mark.services)])
def test_another_instance_ends_what_a_killed_one_has_begun(kind, tmp_path, request):
    """Killed in the middle of an item: who has submitted it gets the answer of the other one."""
    is_file = kind == "sqlite"
    url = f"sqlite:///{tmp_path}/bus" if is_file else request.getfixturevalue("rabbitmq")
    name = f"m3-test-{uuid.uuid4().hex}"
    with connect(url) as bus, ClusterRpcProxy({"AMQP_URI": url}) as cluster, ExitStack() as stack:
        bus.declare(queue_of_calls(name, EXCHANGE))
        stack.callback(bus.delete, queue_of_calls(name, EXCHANGE))
        reply = cluster[name].submit.call_async("precious")
        for number in range(2):
            process = stack.enter_context(start_loader(url, name))
            stack.callback(process.kill)
            assert process.stdout.readline() == b"precious\n"
            assert not reply.is_there()
            if number == 0:
                process.send_signal(signal.SIGKILL)
                process.wait(PATIENCE)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert reply.result() is None


def test_the_command_line_offers_a_pipeline(tmp_path):
    """``m3 run`` needs no code for it; SIGTERM ends what is at hand, and the run."""
    url = f"sqlite:///{tmp_path}/bus"
    settings = [f"frontend.url={url}", "frontend.service=loader"]
    command = [sys.executable, "-m", "m3", "run", "--frontend", "submit", "--backend", "stdout"]
    command += [word for setting in settings for word in ("--set", setting)]
    with connect(url) as bus, ServiceRpcProxy("loader", {"AMQP_URI": url}) as loader:
        bus.declare(queue_of_calls("loader", EXCHANGE))
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            loader.submit("hello")
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=PATIENCE)[0] == b"hello\n"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM


class TestSubmitFrontend(FrontendBattery):
    acks_last = False  # the bus has them a moment later
    test_what_was_not_acknowledged_comes_again = None  # what fails is answered, and does not

    def prepare(self):
        self.url = f"sqlite:///{self.folder}/bus"
        queue = queue_of_calls("loader", EXCHANGE)
        with connect(self.url) as bus:
            bus.declare(queue)
            for number in range(10):
                body = {"args": [number], "kwargs": {}}
                call = message_of(body, "a call", headers={METHOD: "submit"})
                bus.publish(call, routing_key=queue.name)

    def make(self):
        return SubmitFrontend(url=self.url, service="loader", idle_timeout=IDLE)

    def make_blocked(self):
        return SubmitFrontend(url=self.url, service="loader")

    def expected(self):
        return list(range(10))
