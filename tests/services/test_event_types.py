"""Who gets an event, exactly: by the type of its handler, and the instances that run."""

import threading
from collections import Counter

import pytest

from m3.errors import ConfigError
from m3.services import (
    BROADCAST,
    SERVICE_POOL,
    SINGLETON,
    ServiceContainer,
    event_dispatcher,
    event_handler,
)

PATIENCE = 20

instance_counts = pytest.mark.parametrize("instances", [1, 2, 5])


@pytest.fixture
def dispatch(config, bus):
    """Return a function that dispatches events of the ship."""
    with event_dispatcher(config) as dispatch:
        yield lambda *payloads: [dispatch("ship", "arrived", payload) for payload in payloads]


@pytest.fixture
def handler(arrivals):
    """Return a function that returns a service, of which an instance notes what it gets."""

    def handler(service_name, number=0, then=lambda: None, **options):
        class Handler:
            name = service_name

            @event_handler("ship", "arrived", **options)
            def handle(self, payload):
                arrivals.add((service_name, number), payload)
                then()

        return Handler

    return handler


def by_service(seen):
    """Return how often each service got each event."""
    return Counter((service, payload) for (service, _), payload in seen)


def times(count, *kinds):
    """Return that each combination of *kinds* was seen so often."""
    return {(one, other): count for one in kinds[0] for other in kinds[1]}


# -- all instances run


@pytest.fixture
def start_all(start, handler):
    """Return a function that starts so many instances of two services."""

    def start_all(instances, **options):
        return [
            start(handler(service, number, **options))
            for service in ("one", "two")
            for number in range(instances)
        ]

    return start_all


EVENTS = range(20)


@instance_counts
def test_a_service_pool(start_all, dispatch, arrivals, instances):
    """Each service gets each event once, whatever number of instances it has."""
    running = start_all(instances)
    dispatch(*EVENTS)
    arrivals.wait(2 * len(EVENTS))
    stop(running)
    assert by_service(arrivals.seen) == times(1, ("one", "two"), EVENTS)


@instance_counts
def test_a_singleton(start_all, dispatch, arrivals, instances):
    """All services together get each event once."""
    running = start_all(instances, handler_type=SINGLETON)
    dispatch(*EVENTS)
    arrivals.wait(len(EVENTS))
    stop(running)
    assert Counter(payload for _, payload in arrivals.seen) == dict.fromkeys(EVENTS, 1)


@instance_counts
@pytest.mark.parametrize("is_known", [False, True])
def test_a_broadcast(start, handler, dispatch, arrivals, instances, is_known):
    """Each instance of each service gets each event once, whether it has an identifier or not."""
    every = [(service, number) for service in ("one", "two") for number in range(instances)]
    running = [
        start(handler(*one, handler_type=BROADCAST, broadcast_identifier=identifier(one, is_known)))
        for one in every
    ]
    dispatch(*EVENTS)
    arrivals.wait(len(every) * len(EVENTS))
    stop(running)
    assert Counter(arrivals.seen) == times(1, every, EVENTS)


def identifier(instance, is_known):
    """Return what an instance is known by, or nothing."""
    return f"{instance[1]}" if is_known else None


def stop(containers):
    """Stop them; what was on its way to them has arrived then, or stays in the queues."""
    for container in containers:
        container.stop()


@instance_counts
@pytest.mark.parametrize(
    ("handler_type", "services"), [(SERVICE_POOL, 1), (SINGLETON, 1), (SINGLETON, 2)]
)
def test_the_instances_share_the_work(
    start, handler, dispatch, arrivals, handler_type, services, instances
):
    """An event goes to an instance that is free: all handle one at the same time."""
    everybody = threading.Barrier(services * instances)
    for service in ("one", "two")[:services]:
        for number in range(instances):
            options = {"handler_type": handler_type, "then": lambda: everybody.wait(PATIENCE)}
            start(handler(service, number, **options), max_workers=1)
    events = range(services * instances)
    dispatch(*events)
    arrivals.wait(len(events))
    assert len({instance for instance, _ in arrivals.seen}) == len(events)
    assert {payload for _, payload in arrivals.seen} == set(events)


def test_handlers_of_all_types_at_once(start, handler, dispatch, arrivals):
    """Each gets what its own type says, whatever the others are."""
    running = []
    for number in range(2):
        for service, handler_type in (
            ("pool", SERVICE_POOL),
            ("singleton", SINGLETON),
            ("other singleton", SINGLETON),
            ("broadcast", BROADCAST),
        ):
            running.append(start(handler(service, number, handler_type=handler_type)))
    dispatch(*EVENTS)
    arrivals.wait(4 * len(EVENTS))
    stop(running)
    seen = Counter((service.split()[-1], payload) for (service, _), payload in arrivals.seen)
    assert seen == {
        **times(1, ("pool", "singleton"), EVENTS),
        **times(2, ("broadcast",), EVENTS),
    }


def test_two_methods_are_two_handlers(start, dispatch, arrivals):
    """A service whose two methods handle an event gets it twice, once for each."""

    class Both:
        name = "both"

        @event_handler("ship", "arrived")
        def one(self, payload):
            arrivals.add("one", payload)

        @event_handler("ship", "arrived")
        def two(self, payload):
            arrivals.add("two", payload)

    container = start(Both)
    dispatch(1, 2)
    arrivals.wait(4)
    container.stop()
    assert Counter(arrivals.seen) == times(1, ("one", "two"), (1, 2))


def test_other_events_and_other_services_are_not_heard(start, handler, config, arrivals):
    """A handler gets events of its type and of its source, as whole words, and no others."""
    start(handler("one"))
    with event_dispatcher(config) as dispatch:
        for service, kind in (("ship", "arrive"), ("ship", "arrived.late"), ("ships", "arrived")):
            dispatch(service, kind, "other")
        dispatch("ship", "arrived", "this")
    assert arrivals.wait(1) == [(("one", 0), "this")]


# -- no instance runs, or not all


@instance_counts
@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON])
def test_reliable_events_wait(start_all, dispatch, arrivals, handler_type, instances):
    """What is dispatched while no instance runs is handled when some do, each event once."""
    stop(start_all(1, handler_type=handler_type))
    dispatch(*EVENTS)
    services = 1 if handler_type == SINGLETON else 2
    running = start_all(instances, handler_type=handler_type)
    arrivals.wait(services * len(EVENTS))
    stop(running)
    assert Counter(payload for _, payload in arrivals.seen) == dict.fromkeys(EVENTS, services)


def test_what_came_before_the_first_instance_is_not_known(start, handler, dispatch, arrivals):
    """A service gets events from its first start on."""
    dispatch("before")
    start(handler("one"))
    dispatch("after")
    assert arrivals.wait(1) == [(("one", 0), "after")]


@instance_counts
@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON, BROADCAST])
def test_unreliable_events_do_not_wait(start_all, dispatch, arrivals, handler_type, instances):
    """Without reliable delivery, what is dispatched while no instance runs is lost."""
    options = {"handler_type": handler_type, "reliable_delivery": False}
    stop(start_all(instances, **options))
    dispatch("meanwhile")
    start_all(1, **options)
    dispatch("now")
    arrivals.wait(1 if handler_type == SINGLETON else 2)
    assert {payload for _, payload in arrivals.seen} == {"now"}


def test_an_instance_may_be_known_and_not_waited_for(start, handler, dispatch, arrivals):
    """A broadcast with an identifier may be unreliable; its queue can be made again at once."""
    options = {"handler_type": BROADCAST, "broadcast_identifier": "a", "reliable_delivery": False}
    for round_ in range(3):
        container = start(handler("one", round_, **options))
        dispatch("now")
        arrivals.wait(round_ + 1)
        container.stop()
        dispatch("meanwhile")
    assert arrivals.seen == [(("one", round_), "now") for round_ in range(3)]


@pytest.mark.parametrize("reliable_delivery", [True, False])
@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON])
def test_the_last_instance_gets_all(
    start, handler, dispatch, arrivals, handler_type, reliable_delivery
):
    """What others would have got that have stopped, it gets; nothing is lost meanwhile."""
    options = {"handler_type": handler_type, "reliable_delivery": reliable_delivery}
    others = [start(handler("one", number, **options)) for number in range(1, 5)]
    start(handler("one", 0, **options))
    for number, other in enumerate(others):
        dispatch(number)
        other.stop()
    dispatch("last")
    wanted = [*range(len(others)), "last"]
    arrivals.wait(len(wanted))
    assert sorted(payload for _, payload in arrivals.seen[:-1]) == wanted[:-1]
    assert arrivals.seen[-1] == (("one", 0), "last")


@instance_counts
def test_known_broadcasts_wait_for_each_instance(start, handler, dispatch, arrivals, instances):
    """An instance with an identifier gets what was dispatched while it did not run, once."""

    def start_one(number, identifier):
        options = {"handler_type": BROADCAST, "broadcast_identifier": identifier}
        return start(handler("one", number, **options))

    before = [start_one(number, f"i{number}") for number in range(instances)]
    stop(before)
    dispatch(*EVENTS)
    after = [start_one(number, f"i{number}") for number in range(instances)]
    after.append(start_one("new", "new"))
    dispatch("now")
    arrivals.wait(instances * (len(EVENTS) + 1) + 1)
    stop(after)
    every = [("one", number) for number in range(instances)]
    assert Counter(arrivals.seen) == {
        **times(1, every, (*EVENTS, "now")),
        (("one", "new"), "now"): 1,
    }


def test_one_of_several_known_broadcasts_starts_again(start, handler, dispatch, arrivals):
    """Those that went on running get nothing twice."""
    options = {"handler_type": BROADCAST}
    ends = start(handler("one", "ends", broadcast_identifier="ends", **options))
    stays = start(handler("one", "stays", broadcast_identifier="stays", **options))
    passing = start(handler("one", "passing", **options))
    dispatch("first")
    arrivals.wait(3)
    ends.stop()
    dispatch("second")
    arrivals.wait(5)
    again = start(handler("one", "ends", broadcast_identifier="ends", **options))
    dispatch("third")
    arrivals.wait(9)
    stop([again, stays, passing])
    every = [("one", name) for name in ("ends", "stays", "passing")]
    assert Counter(arrivals.seen) == times(1, every, ("first", "second", "third"))


def test_an_instance_that_is_killed_leaves_its_events(start, handler, dispatch, arrivals):
    """What it was handling, and what waited for it, goes to another instance."""
    may_end = threading.Event()
    stuck = start(handler("one", "stuck", then=lambda: may_end.wait(PATIENCE)), max_workers=2)
    dispatch(*range(5))
    arrivals.wait(2)
    stuck.kill()
    start(handler("one", "other"))
    arrivals.wait(7)
    may_end.set()
    others = sorted(payload for (_, name), payload in arrivals.seen if name == "other")
    assert others == [0, 1, 2, 3, 4]


# -- what is declared


def test_a_reliable_broadcast_needs_an_identifier():
    """Without one, no instance could find its queue again."""
    with pytest.raises(ConfigError, match="broadcast_identifier"):
        event_handler("ship", "arrived", handler_type=BROADCAST, reliable_delivery=True)
    with pytest.raises(ConfigError, match="handler_type='every'"):
        event_handler("ship", "arrived", handler_type="every")


def test_queues_have_the_names_of_nameko(handler):
    """So that what is known about a broker with nameko's services stays true."""

    def name(**options):
        return ServiceContainer(handler("one", **options)).entrypoint("handle").queue().name

    assert name() == "evt-ship-arrived--one.handle"
    assert name(handler_type=SINGLETON) == "evt-ship-arrived"
    known = name(handler_type=BROADCAST, broadcast_identifier="a")
    assert known == "evt-ship-arrived--one.handle-a"
    assert name(handler_type=BROADCAST).startswith("evt-ship-arrived--one.handle-")


@pytest.mark.parametrize("wrong", ["", None, 5, b"ship", Counter])
@pytest.mark.parametrize("at", ["source_service", "event_type"])
def test_what_names_no_event_is_told_at_once(at, wrong):
    """The service and the type of an event are strings, and not empty."""
    names = {"source_service": "ship", "event_type": "arrived", at: wrong}
    with pytest.raises(ConfigError, match=rf"event_handler\({at}=.*: it is the name of"):
        event_handler(**names)
