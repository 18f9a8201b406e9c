"""Events: how they are told, and what becomes of those that cannot be handled."""

from collections import Counter

import pytest

from m3 import Backoff, Reject, Retry, RetryLater
from m3.errors import ConfigError
from m3.messaging import Message, Queue
from m3.services import (
    ClusterRpcProxy,
    Event,
    EventDispatcher,
    Language,
    ServiceContainer,
    event_dispatcher,
    event_handler,
    rpc,
)

AT_ONCE = Backoff(initial=0)


class Arrived(Event):
    type = "arrived"


def test_a_service_tells_another(serve, cluster, arrivals):
    """An event, as an object or as its type and data, comes to who handles its type."""

    class Ship:
        name = "ship"
        dispatch = EventDispatcher()

        @rpc
        def arrive(self, where):
            self.dispatch(Arrived({"where": where}))
            self.dispatch("arrived", [where])
            self.dispatch("departed", where)

    class Harbour:
        name = "harbour"

        @event_handler("ship", "arrived")
        def greet(self, payload):
            arrivals.add(payload)

    serve(Harbour, Ship, max_workers=1)
    cluster.ship.arrive("Kiel")
    assert arrivals.wait(2) == [{"where": "Kiel"}, ["Kiel"]]


def test_an_event_has_a_type():
    """An event without a type could reach nobody."""
    with pytest.raises(ConfigError, match="Event has no type"):
        Event("data")


def failing(arrivals, error, **options):
    """Return a service whose handler always fails."""

    class Failing:
        name = "failing"

        @event_handler("ship", "arrived", **options)
        def handle(self, payload):
            arrivals.add(payload)
            raise error

    return Failing


def dead_letters(bus, count):
    """Return so many dead letters of the service."""
    with bus.consumer(Queue("dead-failing"), prefetch=count) as consumer:
        deliveries = [consumer.receive(20) for _ in range(count)]
        for delivery in deliveries:
            consumer.ack(delivery)
    return [delivery.message for delivery in deliveries]


@pytest.mark.parametrize(
    ("error", "options", "attempts"),
    [
        (ValueError("no"), {}, 1),
        (ValueError("no"), {"requeue_on_error": Retry(4, AT_ONCE)}, 4),
        (ValueError("no"), {"requeue_on_error": Retry(4, AT_ONCE, on=(OSError,))}, 1),
        (Reject("bad for good"), {"requeue_on_error": Retry(4, AT_ONCE)}, 1),
        (RetryLater(0), {}, 10),
        (RetryLater(0), {"requeue_on_error": Retry(4, AT_ONCE)}, 4),
        (RetryLater(0), {"requeue_on_error": Retry(4, AT_ONCE, on=(OSError,))}, 4),
    ],
)
def test_what_fails_for_good_is_a_dead_letter(
    start, config, bus, arrivals, error, options, attempts
):
    """An event is handled as often as the handler says, then kept; the service lives."""
    container = start(failing(arrivals, error, **options))
    dispatch = event_dispatcher(config)
    for payload in ("first", "second"):
        dispatch("ship", "arrived", payload)
    bodies = sorted(message.body for message in dead_letters(bus, 2))
    assert bodies == [b'"first"', b'"second"']
    assert Counter(arrivals.seen) == {"first": attempts, "second": attempts}
    assert container.report().state == "running"


def test_a_handler_can_ask_for_the_event_again(start, config, arrivals):
    """With ``RetryLater`` the event waits in its queue, and is in the way of no other there."""

    class Patient:
        @event_handler("ship", "arrived")
        def handle(self, payload):
            arrivals.add(payload)
            if payload == "early" and arrivals.seen.count("early") < 3:
                raise RetryLater(0.2)

    start(Patient, max_workers=1)
    dispatch = event_dispatcher(config)
    dispatch("ship", "arrived", "early")
    dispatch("ship", "arrived", "other")
    assert arrivals.wait(4) == ["early", "other", "early", "early"]


def test_others_are_handled_while_one_fails_for_ever(start, config, bus, arrivals):
    """An event that fails each time goes out of the way at its limit, and holds up nobody."""

    class Failing:
        @event_handler("ship", "arrived", requeue_on_error=Retry(3, Backoff(0.1, jitter=False)))
        def handle(self, payload):
            arrivals.add(payload)
            if payload == "cursed":
                raise ValueError(payload)

    container = start(Failing, max_workers=1)
    dispatch = event_dispatcher(config)
    dispatch("ship", "arrived", "cursed")
    for number in range(20):
        dispatch("ship", "arrived", number)
    assert [letter.body for letter in dead_letters(bus, 1)] == [b'"cursed"']
    dispatch("ship", "arrived", "last")
    seen = arrivals.wait(24)
    assert seen.count("cursed") == 3
    assert [what for what in seen if what != "cursed"] == [*range(20), "last"]
    assert container.report().state == "running"


def test_the_default_of_requeue_has_a_backoff(config):
    """``requeue_on_error=True`` neither loops at once nor for ever."""
    declared = failing(None, None, requeue_on_error=True)
    handler = ServiceContainer(declared, config).entrypoint("handle")
    assert 1 < handler.retry.attempts < 100
    assert handler.retry.backoff.initial > 0


def test_what_cannot_be_read_is_a_dead_letter(start, bus, arrivals):
    """An event that is no JSON goes to the dead letters, and the next is handled."""
    start(failing(arrivals, ValueError()))
    for body in (b"no json", b'"json"'):
        bus.publish(Message(body=body), exchange="ship.events", routing_key="arrived")
    assert sorted(message.body for message in dead_letters(bus, 2)) == [b'"json"', b"no json"]
    assert arrivals.seen == ["json"]


def test_dead_letters_can_be_done_without(start, config, bus, arrivals):
    """``dead_letters`` of the configuration names another queue, or none."""
    cls = failing(arrivals, ValueError())
    container = ServiceContainer(cls, {**config, "dead_letters": "elsewhere"})
    assert container.entrypoint("handle").queue().dead_letter == "elsewhere"
    container = ServiceContainer(cls, {**config, "dead_letters": False})
    assert container.entrypoint("handle").queue().dead_letter is None


def test_an_event_goes_on_with_the_context_of_its_call(serve, config, bus, arrivals):
    """Who handles an event knows for whom the call was made that has dispatched it."""

    class Ship:
        name = "ship"
        dispatch = EventDispatcher()

        @rpc
        def arrive(self):
            self.dispatch(Arrived())

    class Harbour:
        name = "harbour"
        language = Language()

        @event_handler("ship", "arrived")
        def greet(self, payload):
            arrivals.add(self.language)

    serve(Harbour, Ship)
    with ClusterRpcProxy(config, context_data={"language": "da"}) as cluster:
        cluster.ship.arrive()
    assert arrivals.wait(1) == ["da"]
