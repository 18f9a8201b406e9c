"""What travels with calls and events: the same on every bus, and nobody else's."""

import enum
import math

import pytest

from m3.messaging import Message
from m3.services import (
    AttributeDependency,
    ClusterRpcProxy,
    ContextDataProvider,
    EventDispatcher,
    Publisher,
    Service,
    UnserializableValueError,
    event_dispatcher,
    event_handler,
    rpc,
)
from m3.services.context_data import context_of, headers_of


class Colour(enum.IntEnum):
    RED = 3


class Name(str):
    __slots__ = ()


CYCLE = []
CYCLE.append(CYCLE)

DEEP = []
for _ in range(60):
    DEEP = [DEEP]

PLAIN = [
    ([1], [1]),
    ((1, (2,)), [1, [2]]),
    ({"a": {"b": [1, None, True]}}, {"a": {"b": [1, None, True]}}),
    (1.5, 1.5),
    (True, True),
    ("", ""),
    ("é\0€", "é\0€"),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (Colour.RED, 3),
    (Name("me"), "me"),
    ("x" * 60_000, "x" * 60_000),
    ({}, {}),
    ([], []),
]

NOT_PLAIN = [
    (b"x", "bytes"),
    (object(), "object"),
    ({1, 2}, "set"),
    ([1, {"a": object()}], "object"),
    ({1: 2}, "a key that is int"),
    ({"a": {None: 1}}, "a key that is NoneType"),
    ({"k" * 300: 1}, "a key of 300 bytes"),
    (2**63, "64 bits"),
    (math.nan, "nan"),
    ([-math.inf], "-inf"),
    ("\ud800", "no Unicode"),
    ({"\ud800": 1}, "no Unicode"),
    (["é" * 40_000], "more than the 65,536 bytes"),
    ("x" * 70_000, "more than the 65,536 bytes"),
    ([1] * 10_000, "more than the 65,536 bytes"),
    (CYCLE, "inside one another"),
    (DEEP, "inside one another"),
]


class Kept(ContextDataProvider):
    context_key = "kept"


class Spoiler(AttributeDependency):
    def acquire_injection(self, worker_ctx):
        worker_ctx.context_data["kept"] = object()


class Inner:
    name = "inner"
    kept = Kept()

    @rpc
    def tell(self):
        return self.kept

    @rpc
    def spoil(self):
        self.kept["list"].append("spoilt")
        return self.kept


class Outer:
    name = "outer"
    kept = Kept()
    inner = Service("inner")
    dispatch = EventDispatcher()
    publish = Publisher()

    @rpc
    def ask(self, how):
        if how == "rpc":
            return self.inner.tell()
        return self.dispatch("happened", 1) if how == "event" else self.publish(1)


@pytest.mark.parametrize(("value", "arrived"), PLAIN, ids=[repr(v)[:20] for v, _ in PLAIN])
def test_plain_values_travel(serve, config, value, arrived):
    """What JSON has arrives as it was on every bus, from call to call; tuples as lists."""
    serve(Inner, Outer)
    with ClusterRpcProxy(config, context_data={"kept": value}) as cluster:
        for method in (cluster.inner.tell, lambda: cluster.outer.ask("rpc")):
            found = method()
            assert (found, type(found)) == (arrived, type(arrived))


@pytest.mark.parametrize(("value", "why"), NOT_PLAIN, ids=[repr(v)[:20] for v, _ in NOT_PLAIN])
def test_what_is_not_plain_is_refused(serve, config, value, why):
    """Whoever makes a call, or dispatches an event, is told so on every bus, and what is wrong."""
    serve(Inner)
    data = {"kept": value}
    with ClusterRpcProxy(config, context_data=data) as cluster:
        with pytest.raises(UnserializableValueError, match=f"'kept'.*{why}"):
            cluster.inner.tell()
        with pytest.raises(UnserializableValueError, match=f"'kept'.*{why}"):
            cluster.inner.tell.call_async()
    with pytest.raises(UnserializableValueError, match=f"'kept'.*{why}"):
        event_dispatcher(config, context_data=data)("ship", "arrived", 1)
    with pytest.raises(UnserializableValueError, match="int"):
        headers_of({1: "x"})


@pytest.mark.parametrize("how", ["rpc", "event", "message"])
def test_a_method_is_told_what_it_cannot_send_on(serve, config, how):
    """What a service has put into the context of its call is checked when it is sent."""

    class Spoiling(Outer):
        name = "spoiling"
        a_spoiler = Spoiler()

    serve(Inner, Spoiling)
    with (
        ClusterRpcProxy(config, context_data={"kept": []}) as cluster,
        pytest.raises(UnserializableValueError, match=r"'kept'.*object"),
    ):
        cluster.spoiling.ask(how)


def test_context_data_is_nobody_elses(serve, config):
    """What a service does to it changes neither its caller's nor that of the next call."""
    serve(Inner)
    data = {"list": ["mine"]}
    with ClusterRpcProxy(config, context_data={"kept": data}) as cluster:
        for _ in range(2):
            assert cluster.inner.spoil() == {"list": ["mine", "spoilt"]}
    assert data == {"list": ["mine"]}


def test_each_handler_has_its_own(serve, config, arrivals):
    """Of several that get one event, none sees what another one does to its context."""

    def handling(service):
        class Handling:
            name = service
            kept = Kept()

            @event_handler("ship", "arrived")
            def handle(self, payload):
                self.kept.append(service)
                arrivals.add(tuple(self.kept))

        return Handling

    serve(handling("a"), handling("b"))
    event_dispatcher(config, context_data={"kept": ["x"]})("ship", "arrived", 1)
    assert sorted(arrivals.wait(2)) == [("x", "a"), ("x", "b")]


def test_what_comes_and_is_not_plain_is_left_out():
    """Others may send what they like: it does not keep a service from making calls."""
    headers = {"m3.when": object(), "m3.deep": DEEP, "m3.kept": {"a": [1]}, "m3.language": "is"}
    assert context_of(Message(body=b"", headers=headers)) == {"kept": {"a": [1]}, "language": "is"}


def test_the_ids_of_calls_take_no_room():
    """A context that could be sent once can be sent from call to call."""
    stack = ["service.method." + "0" * 36] * 1000
    context = {"kept": "x" * 65_000, "call_id_stack": stack}
    assert headers_of(context)["m3.call_id_stack"] == stack


def test_no_context_costs_nothing():
    """Without any, nothing is looked at."""
    assert headers_of({}) == {}
    assert headers_of({"language": None}) == {}
