"""Pipelines that meet services: events in and out, and calls."""

import json
import threading

import pytest

from m3 import Pipeline
from m3.errors import PlanError
from m3.messaging import Message, connect
from m3.services import RpcTimeout, ServiceContainer, event_dispatcher, event_handler, rpc
from m3.services.events import EventHandler
from m3.services.stages import EventsBackend, EventsFrontend, RpcTransport
from m3.testing import BackendBattery, MemorySink

PATIENCE = 20


class Stock:
    name = "stock"

    @rpc
    def price(self, article):
        if article == "unknown":
            raise LookupError(article)
        return {"article": article, "price": len(article)}


class Audit:
    name = "audit"
    seen: list = []
    enough = threading.Event()

    @event_handler("shop", "sold")
    def note(self, payload):
        self.seen.append(payload)
        if len(self.seen) == 3:
            self.enough.set()


def test_a_pipeline_calls_a_service(serve, bus_url):
    """What the method returns goes on; what it raises is an error of the item."""
    serve(Stock)
    sink = MemorySink()
    pipeline = Pipeline(["tea", "unknown", "bread"])
    pipeline.transport("rpc", url=bus_url, service="stock", method="price", on_error="skip")
    report = pipeline.backend(sink).run()
    assert [item["price"] for item in sink.items] == [3, 5]
    assert report.failed == 1


def test_calls_of_several_workers_are_made_at_once(serve, bus_url):
    """With two workers, two calls can wait for each other."""
    barrier = threading.Barrier(2)

    class Pairs:
        name = "pairs"

        @rpc
        def meet(self, item):
            barrier.wait(PATIENCE)
            return item

    serve(Pairs)
    sink = MemorySink()
    pipeline = Pipeline([1, 2])
    pipeline.transport("rpc", url=bus_url, service="pairs", method="meet", workers=2)
    pipeline.backend(sink).run()
    assert sorted(sink.items) == [1, 2]


def test_an_instance_that_calls_has_one_worker(bus_url):
    """It has one connection, which the first of several workers would close."""
    calling = RpcTransport(url=bus_url, service="prices", method="double")
    pipeline = Pipeline([1]).transport(calling, workers=2).backend(print)
    with pytest.raises(PlanError, match="can have 1 worker, not 2"):
        pipeline.run()


def test_a_call_has_a_deadline(serve, bus_url):
    """After *call_timeout* seconds the item has failed."""
    may_end = threading.Event()

    class Slow:
        name = "slow"

        @rpc
        def wait(self, item):
            may_end.wait(PATIENCE)

    serve(Slow)
    transport = RpcTransport(url=bus_url, service="slow", method="wait", call_timeout=0.1)
    transport.setup()
    with pytest.raises(RpcTimeout):
        transport.transport(1)
    transport.cleanup()
    may_end.set()


def test_items_are_events_of_a_service(serve, bus_url):
    """A service handles them, text too, as if another service had dispatched them."""
    Audit.seen.clear()
    Audit.enough.clear()
    serve(Audit)
    items = [{"type": "sold", "n": 1}, {"type": "lost"}, {"type": "sold", "n": 2}]
    Pipeline(items).backend("events", url=bus_url, service="shop", event="{type}").run()
    Pipeline(["text"]).backend("events", url=bus_url, service="shop", event="sold").run()
    assert Audit.enough.wait(PATIENCE)
    expected = [items[0], items[2], "text"]
    assert sorted(Audit.seen, key=str) == sorted(expected, key=str)


def test_a_pipeline_handles_events(bus, bus_url, config):
    """Events wait for it in its queue once that is there, and come in order."""
    options = {"url": bus_url, "service": "shop", "event": "sold", "handler": "audit.note"}
    Pipeline("events", **options, idle_timeout=0).backend("null").run()
    with event_dispatcher(config) as dispatch:
        dispatch("shop", "lost", {})
        for number in range(3):
            dispatch("shop", "sold", {"n": number})
    with Pipeline("events", **options).results() as results:
        assert [next(results) for _ in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_pipeline_and_a_service_share_a_queue(bus_url, config):
    """The same handler has the same queue, whichever of the two it is."""
    container = ServiceContainer(Audit, config)
    (handler,) = (one for one in container.entrypoints if isinstance(one, EventHandler))
    frontend = EventsFrontend(url=bus_url, service="shop", event="sold", handler="audit.note")
    assert frontend.queue == handler.queue()


class TestEventsBackend(BackendBattery):
    def prepare(self):
        self.begin(f"sqlite:///{self.folder}/bus")

    def begin(self, url):
        self.url, self.seen = url, []
        options = {"service": "shop", "event": "sold", "handler": "audit.note"}
        self.queue = EventsFrontend(url=url, **options).queue
        with connect(url) as bus:
            bus.declare(self.queue)

    def make(self):
        return EventsBackend(url=self.url, service="shop", event="sold")

    def read_back(self):
        with connect(self.url) as bus, bus.consumer(self.queue) as consumer:
            bus.publish(Message(body=b"end"), routing_key=self.queue.name)
            while (delivery := consumer.receive(PATIENCE)).message.body != b"end":
                self.seen.append(json.loads(delivery.message.body))
                consumer.ack(delivery)
            consumer.ack(delivery)
        return self.seen

    def unwritable(self):
        return {1, 2}


@pytest.mark.services
@pytest.mark.usefixtures("own_rabbitmq_of_each_scenario")
class TestEventsBackendOnRabbitMQ(TestEventsBackend):
    def prepare(self):
        self.begin(self.own_rabbitmq())
