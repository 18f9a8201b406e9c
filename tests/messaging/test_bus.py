"""The words of all buses, and their URLs."""

import pytest

from m3.errors import ConfigError, UnknownNameError
from m3.messaging import Binding, Bus, Exchange, Message, Queue, connect


@pytest.mark.parametrize("url", ["memroy://", "redis://host", "memory", "", "/path"])
def test_an_unknown_scheme_is_named(url):
    """A URL of no bus is refused with what there is, and what is near."""
    with pytest.raises(UnknownNameError, match="memory://") as caught:
        connect(url)
    assert caught.value.near == (("memory",) if url.startswith("mem") else ())


def test_a_password_is_not_shown():
    """The error about a URL does not have its password."""
    with pytest.raises(UnknownNameError) as caught:
        connect("ampq://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_a_name_in_memory_is_a_word():
    """A URL that looks as if it had a path, or a port, is refused."""
    with pytest.raises(ConfigError, match="letters"):
        connect("memory://host:5672/vhost")


def test_options_reach_the_bus():
    """Options are those of the bus's class, with its checks."""
    with pytest.raises(ConfigError, match="lease=0"):
        connect("sqlite:///bus.db", lease=0)


@pytest.mark.parametrize(
    ("url", "option", "complaint"),
    [
        ("memory://", "lease", "memory:// has no option 'lease'; it has none"),
        ("memory://", "name", "memory:// has no option 'name'; it has none"),
        ("sqlite:///b", "leese", "no option 'leese'; did you mean 'lease'?; it has lease"),
        ("sqlite:///b", "path", "sqlite:// has no option 'path'; it has lease"),
        ("amqp://h", "heart_beat", "did you mean 'heartbeat'?; it has heartbeat, connect_timeout"),
    ],
)
def test_an_unknown_option_is_named(url, option, complaint):
    """It is an error of the configuration, with what is near and what there is."""
    with pytest.raises(UnknownNameError) as caught:
        connect(url, **{option: 1})
    assert complaint in str(caught.value)


def test_a_queue_has_all_its_bindings():
    """The binding of ``exchange`` comes first; a pair is a binding, too, and a list will do."""
    one, two = Exchange("one"), Exchange("two", type="topic")
    queue = Queue("jobs", one, "key", bindings=((two, "#"),))
    assert queue.all_bindings() == (Binding(one, "key"), Binding(two, "#"))
    assert hash(Queue("jobs", one, "key", bindings=[[two, "#"]])) == hash(queue)
    assert Queue("jobs").all_bindings() == ()


def test_queues_can_be_kept_in_sets():
    """Queues and exchanges can be compared, and be keys."""
    assert len({Queue("jobs", options={"max_length": 1}), Queue("jobs", options={"x-y": 1})}) == 2
    assert Queue("jobs", Exchange("one")).is_like(Queue("jobs", Exchange("two")))
    assert not Queue("jobs").is_like(Queue("jobs", dead_letter="dead"))


@pytest.mark.parametrize(
    "options", [{"max_lenght": 1}, {"max_length": 0}, {"max_length": "9"}, {"max_length": True}]
)
def test_options_of_a_queue_are_checked(options):
    """An option that is misspelt or has no sense is refused at once."""
    with pytest.raises(ConfigError):
        Queue("jobs", options=options)


def test_an_exchange_has_a_type_that_there_is():
    """A misspelt type, which would pass messages to nobody, is refused at once."""
    with pytest.raises(ConfigError, match="direct, topic, fanout"):
        Exchange("news", type="topics")


@pytest.mark.parametrize("body", ["text", {"id": 1}, None, bytearray(b"mutable")])
def test_a_body_is_bytes(body):
    """What is no bytes is refused where the message is made, and not on its way, or by some bus."""
    with pytest.raises(ConfigError, match=f"bytes, not {type(body).__name__}"):
        Message(body=body)


def test_a_consumer_may_receive_something():
    """A consumer of no queue, or of nothing at once, is refused, where it would wait for ever."""
    with connect("memory://asked-for") as bus:
        for queues, prefetch in (("jobs", 1), (["jobs"], 1), (Queue("jobs"), 0)):
            with pytest.raises(ConfigError, match="consumer"):
                bus.consumer(queues, prefetch=prefetch)


def test_options_of_rabbitmq_are_its_own():
    """What begins with x- is taken as it is."""
    assert Queue("jobs", options={"x-queue-type": "quorum"}).max_length is None


def test_a_bus_is_a_component():
    """A bus can be a resource of stages."""
    from m3.components import Component

    assert issubclass(Bus, Component)
