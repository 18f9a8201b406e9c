"""Calls of services: results, errors, deadlines, and what travels with them."""

import json
import logging
import threading
import time
import uuid

import pytest

from m3.errors import M3Error
from m3.messaging import Message, Queue
from m3.services import (
    AttributeDependency,
    ClusterRpcProxy,
    IncorrectSignature,
    Language,
    MalformedRequest,
    MethodNotFound,
    RemoteError,
    RpcTimeout,
    Service,
    ServiceRpcProxy,
    UnknownService,
    UnserializableValueError,
    UserId,
    deserialize_to_instance,
    once,
    rpc,
)
from m3.services.errors import deserialize, serialize


class Stock:
    name = "stock"
    calls = []

    @rpc
    def count(self, thing, *, by=1):
        self.calls.append(thing)
        return {"thing": thing, "count": 3 * by}

    @rpc
    def fail(self):
        raise ValueError("nothing there")

    @rpc
    def unsendable(self):
        return {1, 2}

    def hidden(self):
        return "not for others"


class Orders:
    name = "orders"
    stock = Service("stock")

    @rpc
    def place(self, thing):
        return self.stock.count(thing, by=2)["count"]

    @rpc
    def fail(self):
        return self.stock.fail()


@pytest.fixture
def shop(serve, cluster):
    """Run both services; return what calls them."""
    Stock.calls = []
    serve(Stock, Orders)
    return cluster


def test_services_call_each_other(shop):
    """A proxy calls a method of another service, with arguments by place and by name."""
    assert shop.orders.place("nut") == 6
    assert shop["stock"]["count"]("bolt") == {"thing": "bolt", "count": 3}


def test_a_proxy_of_one_service(shop, config):
    """A program that is no service calls the methods of one."""
    with ServiceRpcProxy("stock", config) as stock:
        assert stock.count("nut")["count"] == 3


def test_calls_run_beside_each_other(serve, cluster):
    """``call_async`` returns before the method does: as many run as there are workers."""
    barrier = threading.Barrier(3, timeout=20)

    class Meeting:
        name = "meeting"

        @rpc
        def meet(self, number):
            barrier.wait()
            return number

    serve(Meeting)
    replies = [cluster.meeting.meet.call_async(number) for number in range(3)]
    assert [reply.result() for reply in replies] == [0, 1, 2]
    assert replies[0].result() == 0


def test_a_remote_error_is_known_by_name(shop):
    """Of an error that is not in the table, its name, text and traceback come back."""
    with pytest.raises(RemoteError) as caught:
        shop.stock.fail()
    assert (caught.value.exc_type, caught.value.value) == ("ValueError", "nothing there")
    assert str(caught.value) == "ValueError nothing there"
    assert 'raise ValueError("nothing there")' in caught.value.__notes__[0]


def test_an_error_of_a_nested_call_is_still_the_first_one(shop):
    """The error of a service that was called in a call comes back as what it was."""
    with pytest.raises(RemoteError) as caught:
        shop.orders.fail()
    assert caught.value.exc_type == "RemoteError"
    assert "nothing there" in caught.value.value


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda shop: shop.nobody.count("nut"), UnknownService, "nobody listens"),
        (lambda shop: shop.stock.hidden(), MethodNotFound, "count, fail, unsendable"),
        (lambda shop: shop.stock.count(), IncorrectSignature, "missing a required argument"),
        (lambda shop: shop.stock.count(1, 2), IncorrectSignature, "stock.count(thing, *, by=1)"),
        (lambda shop: shop.stock.unsendable(), UnserializableValueError, "the result of"),
        (lambda shop: shop.stock.count({1, 2}), UnserializableValueError, "the arguments of"),
    ],
)
def test_each_mistake_has_an_error_of_its_own_at_once(shop, call, error, text):
    """Unknown service or method, bad arguments and unsendable values are no timeouts."""
    with pytest.raises(error) as caught:
        call(shop)
    assert text in str(caught.value)
    assert isinstance(caught.value, M3Error)
    assert Stock.calls == []
    assert shop.stock.count("nut")["count"] == 3


def test_a_service_is_unknown_also_where_none_was_ever_called(serve, config):
    """On a bus that has nothing yet, a call says who does not listen, in services and programs."""
    with ClusterRpcProxy(config) as cluster, pytest.raises(UnknownService):
        cluster.nobody.count("nut")

    class Lonely:
        name = "lonely"
        nobody = Service("nobody")
        errors = []

        @once
        def call(self):
            try:
                self.nobody.count("nut")
            except Exception as error:
                self.errors.append(error)
            called.set()

    called = threading.Event()
    serve(Lonely)
    assert called.wait(20)
    assert [type(error) for error in Lonely.errors] == [UnknownService]


def test_a_bad_call_costs_no_worker(serve, cluster):
    """What names no method, or has wrong arguments, comes to no worker."""
    runner = serve(Stock)
    with pytest.raises(IncorrectSignature):
        cluster.stock.count()
    with pytest.raises(MethodNotFound):
        cluster.stock.hidden()
    stages = {stage.name: stage for stage in runner.container(Stock).report().stages}
    assert (stages["rpc"].errors, stages["invoke"].items_in) == (2, 0)


def answer_to(bus, body, **options):
    """Return the answer to a message that may be no call."""
    address = uuid.uuid4().hex
    with bus.consumer(Queue(address, exclusive=True, auto_delete=True)) as consumer:
        message = Message(body=body, reply_to=address, **options)
        bus.publish(message, exchange="m3-rpc", routing_key="stock.count", mandatory=True)
        delivery = consumer.receive(20)
        consumer.ack(delivery)
    return json.loads(delivery.message.body)


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (b"no json", {}),
        (b"\xff\xfe", {}),
        (b"[" * 100_000, {}),
        (b'{"args": 1}', {}),
        (b'"text"', {}),
        (b'{"args": [], "kwargs": {}}', {"content_type": "application/x-python-serialize"}),
    ],
)
def test_what_is_no_call_is_answered_and_the_service_lives(shop, bus, body, options):
    """A body that is no call is refused; pickle is not even looked at."""
    answer = answer_to(bus, body, **options)
    assert answer["error"]["exc_type"] == "MalformedRequest"
    assert shop.stock.count("nut")["count"] == 3


def test_headers_of_wrong_types_do_no_harm(shop, bus):
    """A method that is no text is none, and a timeout that is no number is no deadline."""
    call = b'{"args": ["nut"], "kwargs": {}}'
    answer = answer_to(bus, call, headers={"m3-method": ["count"]})
    assert answer["error"]["exc_type"] == "MethodNotFound"
    headers = {"m3-method": "count", "m3-timeout": "soon", "m3.call_id_stack": "?"}
    assert answer_to(bus, call, headers=headers)["result"]["count"] == 3


def test_a_call_has_a_deadline_and_a_late_answer_is_discarded(serve, config, bus):
    """Who has waited for long enough gets an error; the next call gets its own answer."""
    may_end = threading.Event()

    class Slow:
        name = "slow"

        @rpc
        def wait(self):
            may_end.wait(20)
            return "late"

        @rpc
        def quick(self):
            return "in time"

    serve(Slow)
    with ClusterRpcProxy(config, timeout=0.05) as hasty, ClusterRpcProxy(config) as patient:
        with pytest.raises(RpcTimeout, match=r"slow.wait .* within 0.05 s"):
            hasty.slow.wait()
        may_end.set()
        assert patient.slow.quick() == "in time"


def test_the_deadline_travels_with_the_call(serve, config):
    """A call that a call makes has no more time than that has left."""

    class Left(AttributeDependency):
        def acquire_injection(self, worker_ctx):
            return worker_ctx.deadline - time.monotonic()

    class Inner:
        name = "inner"
        left = Left()

        @rpc
        def measure(self):
            return self.left

    class Outer:
        name = "outer"
        left = Left()
        inner = Service("inner")

        @rpc
        def relay(self):
            return [self.left, self.inner.measure()]

    serve(Inner, Outer, rpc_timeout=1000)
    with ClusterRpcProxy(config, timeout=20) as cluster:
        outer, inner = cluster.outer.relay()
    assert 0 < inner < outer < 20


def test_a_call_that_was_given_up_is_not_made(serve, config, outlive):
    """What waits for a worker beyond its deadline is dropped."""
    made, begun, may_end = [], threading.Event(), threading.Event()

    class Busy:
        name = "busy"

        @rpc
        def work(self, number):
            made.append(number)
            begun.set()
            may_end.wait(20)

    runner = serve(Busy, max_workers=1)
    with ClusterRpcProxy(config, timeout=0.05) as hasty, ClusterRpcProxy(config) as patient:
        first = patient.busy.work.call_async(1)
        assert begun.wait(20)
        with pytest.raises(RpcTimeout):
            hasty.busy.work(2)
        outlive(0.05)
        may_end.set()
        first.result()
        patient.busy.work(3)
    runner.stop()
    assert made == [1, 3]


def test_a_call_of_somebody_who_is_gone_is_done_once(serve, config, bus, cluster):
    """An answer that nobody gets is no error, and no reason to make the call again."""
    made = []

    class Work:
        name = "work"

        @rpc
        def do(self):
            made.append(1)

        @rpc
        def done(self):
            return len(made)

    serve(Work, max_workers=1)
    message = Message(
        body=b'{"args": [], "kwargs": {}}', headers={"m3-method": "do"}, reply_to="gone"
    )
    bus.publish(message, exchange="m3-rpc", routing_key="work.do", mandatory=True)
    while cluster.work.done() == 0:
        pass
    assert cluster.work.done() == 1


def test_context_travels(serve, config, bus):
    """Language, user and the ids of the calls before go from call to call."""
    seen = {}

    class Inner:
        name = "inner"
        language = Language()
        user = UserId()

        @rpc
        def look(self):
            seen["inner"] = (self.language, self.user)

    class Outer:
        name = "outer"
        inner = Service("inner")

        @rpc
        def relay(self):
            self.inner.look()

    runner = serve(Inner, Outer)
    calls = []
    for container in runner.containers:
        container.observe(calls.append)
    context = {"language": "de", "user_id": 7, "none": None}
    with ClusterRpcProxy(config, context_data=context) as cluster:
        cluster.outer.relay()
    runner.stop()
    inner, outer = sorted(calls, key=lambda call: call.service_name)
    assert seen["inner"] == ("de", 7)
    assert "none" not in inner.context_data
    assert outer.immediate_parent_call_id is None
    assert inner.immediate_parent_call_id == outer.call_id
    assert inner.origin_call_id == outer.call_id
    assert inner.call_id_stack == [outer.call_id, inner.call_id]
    assert outer.call_id.startswith("outer.relay.")


def test_only_so_many_parent_calls_are_kept(serve, cluster):
    """``parent_calls_tracked`` bounds what travels."""

    class Deep:
        name = "deep"
        deep = Service("deep")

        @rpc
        def down(self, levels):
            if levels:
                self.deep.down(levels - 1)

    runner = serve(Deep, parent_calls_tracked=2)
    calls = []
    runner.container(Deep).observe(calls.append)
    cluster.deep.down(4)
    runner.stop()
    assert max(len(call.call_id_stack) for call in calls) == 3


@deserialize_to_instance
class OutOfNutsError(Exception):
    """A registered error."""


class Picky(Exception):
    def __init__(self, *, needed):
        super().__init__("no argument is enough")


def test_registered_errors_come_back_as_themselves():
    """A class that was registered is made again from its arguments."""
    error = deserialize(serialize(OutOfNutsError("none", 3)))
    assert type(error) is OutOfNutsError
    assert error.args == ("none", 3)


def test_what_cannot_be_made_again_is_a_remote_error():
    """A class that is not made from its arguments does not break the answer."""
    deserialize_to_instance(Picky)
    error = deserialize(serialize(Picky(needed=1)))
    assert type(error) is RemoteError
    assert error.exc_type == "Picky"


@pytest.mark.parametrize(
    "data",
    [
        {"exc_type": "system", "exc_path": "os.system", "exc_args": ["touch /tmp/x"]},
        {"exc_type": "RpcTimeout", "exc_path": "elsewhere.RpcTimeout", "exc_args": []},
        {"exc_type": "MethodNotFound", "exc_path": "m3.services.errors.Other", "exc_args": 3},
        {"exc_type": 3, "exc_path": None},
        {},
    ],
)
def test_an_answer_cannot_name_what_it_likes(data):
    """Classes come from the table only; nothing is imported or called by name."""
    assert type(deserialize(data)) is RemoteError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("half a pair: \udc80"),
        ValueError(float("nan")),
        ValueError("long " * 13_500_000),
        type("Nasty", (Exception,), {"__str__": lambda self: 1 / 0})(),
    ],
    ids=["surrogate", "nan", "long", "nasty"],
)
def test_any_error_can_be_answered_with(serve, cluster, error, caplog):
    """Whatever a method raises, its caller gets an error, and the service lives."""
    caplog.set_level(logging.CRITICAL, "m3.services")

    class Raises:
        name = "raises"

        @rpc
        def work(self, fails):
            if fails:
                raise error
            return 1

    serve(Raises)
    with pytest.raises(RemoteError) as caught:
        cluster.raises.work(True)
    assert caught.value.exc_type == type(error).__name__
    assert cluster.raises.work(False) == 1


def test_known_errors_come_back_with_their_text():
    """The errors of m3 come back as themselves."""
    error = deserialize(serialize(MalformedRequest("not like this")))
    assert type(error) is MalformedRequest
    assert str(error) == "not like this"
