"""Poison messages: whoever has one ends, and never says what became of it."""

import pytest

from m3 import Pipeline
from m3.messaging import Queue, connect
from m3.messaging.poison import MOST_DELIVERIES
from m3.services import (
    ClusterRpcProxy,
    RemoteError,
    consume,
    event_dispatcher,
    event_handler,
    rpc,
)
from m3.services.wire import METHOD, message_of
from m3.testing import MemorySink

PATIENCE = 20


@pytest.fixture
def bus_options(bus_url):
    """Return the options of a bus that counts how often a message was delivered."""
    return {"queue_type": "quorum"} if bus_url.startswith("amqp") else {}


@pytest.fixture
def config(bus_url, bus_options):
    return {"AMQP_URI": bus_url, "stop_timeout": 20, "bus_options": bus_options}


@pytest.fixture
def bus(bus_url, bus_options):
    with connect(bus_url, **bus_options) as bus:
        yield bus


def wear_out(bus, queue, times):
    """Have the first message of a queue received so often, by consumers that just end."""
    for _ in range(times):
        with bus.consumer(queue) as consumer:
            assert consumer.receive(PATIENCE) is not None


def only_message(bus, queue):
    """Take the message that a queue gets."""
    with bus.consumer(queue) as consumer:
        delivery = consumer.receive(PATIENCE)
        consumer.ack(delivery)
    return delivery.message


class Failing:
    name = "failing"


def handler_of(queue, arrivals):
    """Return a service that is called with the messages of a queue."""

    class Handler(Failing):
        @consume(queue)
        def handle(self, payload):
            arrivals.add(payload)

    return Handler


def test_an_event_that_ends_its_service_is_a_dead_letter(start, config, bus, arrivals):
    """It is tried as often as RabbitMQ tries it, then put aside, and the next one is handled."""

    class Handler(Failing):
        @event_handler("ship", "arrived")
        def handle(self, payload):
            arrivals.add(payload)

    container = start(Handler)
    queue = container.entrypoint("handle").queue()
    container.stop()
    dispatch = event_dispatcher(config)
    dispatch("ship", "arrived", "poison")
    wear_out(bus, queue, MOST_DELIVERIES)
    dispatch("ship", "arrived", "good")
    start(Handler)
    assert only_message(bus, Queue("dead-failing")).body == b'"poison"'
    assert arrivals.wait(1) == ["good"]


def test_a_message_is_tried_until_then(start, bus, arrivals):
    """One fewer, and it is called with like any other."""
    queue = Queue("last-chance", dead_letter="dead-last-chance")
    bus.declare(queue)
    bus.publish(message_of("healed", "a payload"), routing_key=queue.name)
    wear_out(bus, queue, MOST_DELIVERIES - 1)
    start(handler_of(queue, arrivals))
    assert arrivals.wait(1) == ["healed"]


def test_a_message_that_kills_is_a_dead_letter_of_its_service(start, bus, arrivals):
    """So it is also if its queue has no dead letters."""
    queue = Queue("no-dead-letters")
    bus.declare(queue)
    bus.publish(message_of("poison", "a payload"), routing_key=queue.name)
    wear_out(bus, queue, MOST_DELIVERIES)
    bus.publish(message_of("good", "a payload"), routing_key=queue.name)
    start(handler_of(queue, arrivals))
    assert only_message(bus, Queue("dead-failing")).body == b'"poison"'
    assert arrivals.wait(1) == ["good"]


def test_a_message_without_a_place_among_dead_letters_is_tried_for_ever(start, bus, arrivals):
    """Rather than lose a message, it is called with once more."""
    queue = Queue("no-dead-letters")
    bus.declare(queue)
    bus.publish(message_of("kept", "a payload"), routing_key=queue.name)
    wear_out(bus, queue, MOST_DELIVERIES + 1)
    start(handler_of(queue, arrivals), dead_letters=False)
    assert arrivals.wait(1) == ["kept"]


def test_who_calls_what_ends_its_service_is_told(start, config, bus, arrivals):
    """A call whose caller is patient gets an error at last."""

    class Answering(Failing):
        @rpc
        def work(self, value):
            arrivals.add(value)

    container = start(Answering)
    queue = Queue(container.entrypoint("work").trigger()["queue"])
    container.stop()
    with ClusterRpcProxy({**config, "rpc_timeout": 300}) as cluster:
        reply = cluster.failing.work.call_async("poison")
        wear_out(bus, queue, MOST_DELIVERIES)
        start(Answering)
        with pytest.raises(RemoteError, match=f"was delivered {MOST_DELIVERIES} times"):
            reply.result()
        cluster.failing.work("good")
    assert arrivals.seen == ["good"]


def test_a_pipeline_puts_it_aside(bus_url, bus_options, bus):
    """The frontend of a queue leaves it to the queue's dead letters, and goes on."""
    queue = Queue("items", dead_letter="dead-items")
    bus.declare(queue)
    bus.publish(message_of("poison", "an item"), routing_key="items")
    wear_out(bus, queue, MOST_DELIVERIES)
    bus.publish(message_of("good", "an item"), routing_key="items")
    sink = MemorySink()
    frontend = {"url": bus_url, "queue": queue, "bus_options": bus_options, "idle_timeout": 1.0}
    report = Pipeline("amqp", **frontend, on_error="skip").backend(sink).run()
    assert (sink.items, report.failed, report.delivered) == (["good"], 1, 1)
    assert only_message(bus, Queue("dead-items")).body == b'"poison"'


def test_an_item_that_was_submitted_is_a_failed_one(bus_url, bus_options, bus):
    """What nobody waits for is up to the pipeline's own policy, as any other error."""
    frontend = {"url": bus_url, "service": "loader", "bus_options": bus_options}
    pipeline = Pipeline("submit", **frontend, idle_timeout=0.5, on_error="skip")
    pipeline.backend(MemorySink()).run()
    request = message_of({"args": ["poison"], "kwargs": {}}, "a call", headers={METHOD: "submit"})
    bus.publish(request, routing_key="rpc-loader", mandatory=True)
    wear_out(bus, Queue("rpc-loader"), MOST_DELIVERIES)
    report = pipeline.run()
    assert (report.failed, report.delivered) == (1, 0)
    assert "was delivered 20 times" in str(report.item_errors[0])
