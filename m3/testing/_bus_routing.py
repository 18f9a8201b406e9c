"""Which queues get which messages, and which exchanges and queues there are: tests of a bus."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from m3.errors import BusError, UndeliverableError, abridged
from m3.messaging.entities import Binding, Message
from m3.testing._bus_tests import BusTests

__all__ = ("RoutingTests",)


class RoutingTests(BusTests):
    """Tests of exchanges and queues, as far as they are not about single messages."""

    # -- routing

    def test_direct_exchanges(self) -> None:
        """A direct exchange passes on by the same key."""
        routes = {"red": ["red"], "blue": ["blue"], "red.dark": []}
        self._check_routes("direct", routes, keys=("red", "blue"))

    def test_topic_exchanges(self) -> None:
        """A topic exchange passes on by patterns: * is one word, # any number."""
        routes = {
            "a": ["#"],
            "a.b": ["#", "a.*", "#.b"],
            "a.b.c": ["#", "a.#.c"],
            "a.c": ["#", "a.*", "a.#.c"],
            "b": ["#", "#.b"],
            "": ["#"],
        }
        self._check_routes("topic", routes, keys=("#", "a.*", "#.b", "a.#.c"))

    def test_fanout_exchanges(self) -> None:
        """A fanout exchange passes on to all, whatever the key."""
        self._check_routes("fanout", {"x": ["a", "b"], "": ["a", "b"]}, keys=("a", "b"))

    def test_several_bindings_are_one_copy(self) -> None:
        """A queue gets a message once, however many of its bindings match."""
        exchange, other = self.exchange(type="topic"), self.exchange("other", type="fanout")
        bindings = (Binding(exchange, "a.*"), Binding(exchange, "#"), Binding(other))
        consumer = self.consumer(self.queue(bindings=bindings))
        self.bus.publish(Message(body=b"1"), exchange=exchange.name, routing_key="a.b")
        self.bus.publish(Message(body=b"2"), exchange=other.name)
        self.check_received(consumer, b"1", b"2", what="one copy of each")

    def test_undeliverable_messages(self) -> None:
        """A message that no queue gets is an error if it is mandatory, and discarded if not."""
        self.bus.declare(exchange := self.exchange())
        message = Message(body=b"1")
        for name, key in ((exchange.name, "nobody"), ("", self.named("nobody"))):
            publish = partial(self.bus.publish, message, exchange=name, routing_key=key)
            publish()
            self.check_raises(UndeliverableError, partial(publish, mandatory=True))

    def test_an_unknown_exchange_is_an_error(self) -> None:
        """Publishing to an exchange that was not declared raises, and harms nothing else."""
        name = self.named("unknown")
        self.check_raises(BusError, lambda: self.bus.publish(Message(body=b""), exchange=name))
        self.bus.declare(queue := self.queue())
        self.publish(b"1", to=queue)
        self.check_received(self.consumer(queue), b"1", what="a message after that")

    # -- what there is

    def test_declaring_again_changes_nothing(self) -> None:
        """The same may be declared again, also by another bus; messages stay."""
        queue = self.queue(exchange=self.exchange(), routing_key="a")
        self.bus.declare(queue)
        self.publish(b"1", to=queue)
        self.another_bus().declare(queue)
        self.check_received(self.consumer(queue), b"1", what="what was there")

    def test_declaring_differently_is_an_error(self) -> None:
        """What is there cannot be declared with another nature; it goes on working."""
        exchange, queue = self.exchange(), self.queue()
        self.bus.declare(exchange, queue)
        other = replace(exchange, type="fanout")
        self.check_raises(BusError, lambda: self.bus.declare(other))
        durable = replace(queue, durable=True)
        self.check_raises(BusError, lambda: self.bus.declare(durable))
        self.publish(b"1", to=queue)
        self.check_received(self.consumer(queue), b"1", what="a message after that")

    def test_deleted_queues_are_gone(self) -> None:
        """Nothing is delivered to a queue that was deleted; deleting it again is no error."""
        self.bus.declare(queue := self.queue())
        self.publish(b"1", to=queue)
        self.bus.delete(queue)
        self.bus.delete(queue)
        self.check_gone(queue)
        self.check_silent(self.consumer(queue), "a message from before")

    def test_deleted_exchanges_are_gone(self) -> None:
        """An exchange that was deleted is unknown."""
        self.bus.declare(exchange := self.exchange())
        self.bus.delete(exchange)
        message = Message(body=b"")
        self.check_raises(BusError, lambda: self.bus.publish(message, exchange=exchange.name))

    def test_auto_delete_queues_go_with_their_consumers(self) -> None:
        """A queue with ``auto_delete`` is there until its last consumer is closed."""
        queue = self.queue(auto_delete=True)
        first, second = self.consumer(queue), self.consumer(queue)
        first.close()
        self.publish(b"1", to=queue)
        self.check_received(second, b"1", what="with one consumer left")
        second.close()
        self.check_gone(queue)

    def test_exclusive_queues_have_one_consumer(self) -> None:
        """A queue with ``exclusive`` refuses other buses' consumers, and goes with its own."""
        consumer = self.consumer(queue := self.queue(exclusive=True))
        other = self.another_bus()
        self.check_raises(BusError, lambda: other.consumer(queue))
        self.publish(b"1", to=queue)
        self.check_received(consumer, b"1", what="with its own consumer")
        consumer.close()
        self.check_gone(queue)

    def _check_routes(self, kind: Any, routes: dict[str, list[str]], keys: Iterable[str]) -> None:
        """Check which queues, named by the keys of their bindings, get which messages."""
        exchange = self.exchange(type=kind)
        queues = [self.queue(key, exchange=exchange, routing_key=key) for key in keys]
        consumers = {key: self.consumer(queue) for key, queue in zip(keys, queues, strict=True)}
        for routing_key in routes:
            message = Message(body=routing_key.encode())
            self.bus.publish(message, exchange=exchange.name, routing_key=routing_key)
        for key, queue in zip(keys, queues, strict=True):
            self.publish(b"the end", to=queue)
            wanted = [route.encode() for route, gets in routes.items() if key in gets]
            what = f"what a {kind} exchange passes on to {abridged(key)}"
            self.check_received(consumers[key], *wanted, b"the end", what=what)
