"""What a bus promises to listeners, and to those whose threads it need not wake, or make wait."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from m3.errors import BusError, UndeliverableError
from m3.messaging.bus import Bus, Consumer, Listener
from m3.messaging.entities import Delivery, Message, Queue
from m3.testing._bus_tests import BusTests, numbered
from m3.testing._checks import differ, same

__all__ = ("ListeningTests",)


class ListeningTests(BusTests):
    """The part of the battery for buses about ``listen``, ``post`` and ``Consumer.offer_to``."""

    def test_listeners_hear_what_is_published(self) -> None:
        """Each message is heard once, in the order of who publishes."""
        heard: SimpleQueue[Message] = SimpleQueue()
        queue = self.replies()
        self.listener(queue, heard.put)
        bodies = numbered(range(50))
        self.publish(*bodies, to=queue, correlation_id="call 1", persistent=False)
        messages = [heard.get(timeout=self.patience) for _ in bodies]
        differ([message.body for message in messages], bodies, "what is heard")
        same(messages[0].correlation_id, "call 1", "the correlation id")
        same(heard.empty(), True, "nothing is heard twice")

    def test_a_closed_listener_says_so(self) -> None:
        """When it is closed, it has ended without an error, and its queue is gone."""
        ends: SimpleQueue[Exception | None] = SimpleQueue()
        queue = self.replies()
        self.listener(queue, id, ends.put).close()
        same(ends.get(timeout=self.patience), None, "the error")
        self.check_gone(queue)

    def test_a_shutdown_ends_listeners(self) -> None:
        """Who waits for what is heard learns that the bus was shut down."""
        ends: SimpleQueue[Exception | None] = SimpleQueue()
        bus = self.another_bus()
        self.listener(self.replies(), id, ends.put, bus=bus)
        bus.shutdown()
        same(ends.get(timeout=self.patience), None, "the error")

    def test_a_listener_has_its_queue_alone(self) -> None:
        """Another one of the same queue is an error."""
        queue = self.replies()
        self.listener(queue, id)
        self.check_raises(BusError, lambda: self.listener(queue, id))

    def test_messages_are_offered_or_received(self) -> None:
        """Each comes once, in order; those that are not taken are received."""
        seen: SimpleQueue[tuple[str, Delivery]] = SimpleQueue()
        queue = self.queue()
        consumer = self.consumer(queue, prefetch=1)

        def take(delivery: Delivery) -> bool:
            if int(delivery.message.body) % 3 == 0:
                return False
            seen.put(("taken", delivery))
            return True

        self.receive_beside(consumer, take, "received", seen)
        bodies = numbered(range(60))
        self.publish(*bodies, to=queue)
        for body in bodies:
            how, delivery = seen.get(timeout=self.patience)
            same(delivery.message.body, body, "the message that comes next")
            if int(body) % 3 == 0:
                same(how, "received", "what has become of a message that was not taken")
            consumer.ack(delivery)
        same(seen.empty(), True, "nothing comes twice")

    def test_prefetch_bounds_what_is_offered(self) -> None:
        """More is offered when something was settled, whichever way that was."""
        seen: SimpleQueue[tuple[str, Delivery]] = SimpleQueue()
        queue = self.queue(dead_letter=self.queue("dead").name)
        consumer = self.consumer(queue, prefetch=3)

        def take(delivery: Delivery) -> bool:
            seen.put(("taken", delivery))
            return True

        self.receive_beside(consumer, take, "received", seen)
        self.publish(*numbered(range(30)), to=queue)
        in_hand = [seen.get(timeout=self.patience)[1] for _ in range(3)]
        for number in range(3, 30):
            self.check_raises(Empty, lambda: seen.get(timeout=0.01))
            settle = consumer.reject if number % 3 == 1 else consumer.ack
            settle(in_hand.pop(0))
            in_hand.append(seen.get(timeout=self.patience)[1])
        bodies = sorted(int(delivery.message.body) for delivery in in_hand)
        same(bodies, [27, 28, 29], "the last messages")

    def test_consumers_that_are_offered_messages_share_them(self) -> None:
        """One that takes all that it is offered leaves something to the others."""
        seen: SimpleQueue[tuple[int, Delivery]] = SimpleQueue()
        queue = self.queue()
        consumers = [self.consumer(queue, prefetch=5) for _ in range(2)]
        for number, consumer in enumerate(consumers):
            self.receive_beside(consumer, lambda _: False, number, seen)
        self.publish(*numbered(range(100)), to=queue)
        counts = [0, 0]
        for _ in range(100):
            number, delivery = seen.get(timeout=self.patience)
            consumers[number].ack(delivery)
            counts[number] += 1
        same(min(counts) > 0, True, f"both got some: {counts}")

    def test_a_stopped_consumer_is_offered_nothing(self) -> None:
        """What is published then waits for another one."""
        offered: list[Delivery] = []
        queue = self.queue()
        consumer = self.consumer(queue)

        def take(delivery: Delivery) -> bool:
            offered.append(delivery)
            return False

        consumer.offer_to(take)
        ended = self.beside(consumer.receive)
        consumer.stop()
        same(ended.result(self.patience), None, "what is received")
        self.publish(b"later", to=queue)
        self.check_received(self.consumer(queue), b"later", what="what another one receives")
        same(offered, [], "what was offered")

    def test_what_is_posted_arrives(self) -> None:
        """A message that nobody waits for to be taken is taken all the same."""
        failures: list[Exception] = []
        queue = self.queue()
        consumer = self.consumer(queue)
        for body in numbered(range(20)):
            self.bus.post(Message(body=body), routing_key=queue.name, failed=failures.append)
        self.check_received(consumer, *numbered(range(20)), what="what was posted")
        same(failures, [], "what has failed")

    def test_who_posts_learns_that_nobody_gets_it(self) -> None:
        """That a mandatory message reaches no queue is told, or raised, at once."""
        failures: SimpleQueue[Exception] = SimpleQueue()
        try:
            self.bus.post(
                Message(body=b""),
                routing_key=self.named("nobody"),
                mandatory=True,
                failed=failures.put,
            )
        except UndeliverableError:
            return
        same(type(failures.get(timeout=self.patience)), UndeliverableError, "the error")

    def receive_beside(
        self,
        consumer: Consumer,
        take: Callable[[Delivery], bool],
        how: Any,
        seen: "SimpleQueue[tuple[Any, Delivery]]",
    ) -> None:
        """Offer messages to *take*, and put those that are received into *seen*, with *how*."""

        def receive() -> None:
            while (delivery := consumer.receive()) is not None:
                seen.put((how, delivery))

        consumer.offer_to(take)
        self.beside(receive)
        self._stack.callback(consumer.stop)

    def replies(self) -> Queue:
        """Return a queue as listeners have it."""
        return self.queue(auto_delete=True, exclusive=True)

    def listener(
        self,
        queue: Queue,
        hear: Callable[[Message], object],
        ended: Callable[[Any], object] = id,
        bus: Bus | None = None,
    ) -> Listener:
        """Return a listener that is closed after the test."""
        listener = (bus or self.bus).listen(queue, hear, ended)
        self._stack.callback(listener.close)
        return listener
