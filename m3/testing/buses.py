"""The battery for buses."""

import threading
from dataclasses import replace
from functools import partial
from itertools import count
from unittest import SkipTest

from m3.errors import BusError, BusTimeoutError
from m3.messaging.bus import Consumer
from m3.messaging.entities import DEATH_QUEUE, DEATH_REASON, Message, Publication, Queue
from m3.testing._bus_listening import ListeningTests
from m3.testing._bus_routing import RoutingTests
from m3.testing._bus_tests import numbered
from m3.testing._checks import differ, same, what_is_open

__all__ = ("BusBattery",)


class BusBattery(RoutingTests, ListeningTests):
    """
    Tests that a bus keeps the promises of all buses.

    Derive a class whose name begins with ``Test``, and define :meth:`connect`.

    Attributes:
        bus: one that is up.
    """

    # -- messages

    def test_a_message_arrives_as_it_was(self) -> None:
        """Everything that a message says of itself is received."""
        queue = self.queue()
        message = Message(
            body=bytes(range(256)),
            headers={"text": "ä", "number": 7, "list": [1, None], "nested": {"a": True}},
            content_type="application/octet-stream",
            correlation_id="request 1",
            reply_to="answers",
            expiration=3600.0,
            message_id="message 1",
            priority=3,
            timestamp=1700000000.0,
            persistent=False,
        )
        consumer = self.consumer(queue)
        self.bus.publish(message, routing_key=queue.name)
        delivery = self.receive(consumer)
        received = replace(delivery.message, headers=dict(delivery.message.headers))
        same(received, message, "the message")
        same(
            (delivery.queue, delivery.redelivered, delivery.attempts),
            (queue.name, False, 1),
            "its queue, whether it is redelivered, attempts",
        )

    def test_bodies_of_any_size_arrive(self) -> None:
        """A body may be empty, and may be long."""
        consumer = self.consumer(queue := self.queue())
        bodies = (b"", b"x", bytes(2**20))
        self.publish(*bodies, to=queue)
        self.check_received(consumer, *bodies, what="the bodies")

    def test_a_queue_is_first_in_first_out(self) -> None:
        """One consumer receives the messages in the order in which they were published."""
        consumer = self.consumer(queue := self.queue())
        bodies = numbered(range(100))
        self.publish(*bodies, to=queue)
        self.check_received(consumer, *bodies, what="100 messages")

    def test_messages_wait_for_a_consumer(self) -> None:
        """What was published to a queue without a consumer is received by the first one."""
        self.bus.declare(queue := self.queue())
        self.publish(b"1", b"2", to=queue)
        self.check_received(self.consumer(queue), b"1", b"2", what="what was there before")

    def test_durable_messages_outlive_the_buses(self) -> None:
        """What is in a durable queue is there after all buses were shut down."""
        if not self.outlives_its_buses:
            raise SkipTest("nothing outlives the buses")
        queue = self.queue(durable=True)
        with self.connect() as bus:
            bus.declare(queue)
            bus.publish(Message(body=b"1"), routing_key=queue.name)
        self.bus.shutdown()
        with self.connect() as bus:
            delivery = self.receive(consumer := bus.consumer(queue))
            same(delivery.message.body, b"1", "the message")
            consumer.ack(delivery)

    # -- several at once

    def test_messages_are_published_together(self) -> None:
        """``publish_many`` publishes all in their order, and each is answered for."""
        consumer = self.consumer(queue := self.queue())
        bodies = numbered(range(1500))
        answers = self.bus.publish_many(
            Publication(Message(body=body), routing_key=queue.name) for body in bodies
        )
        same(answers, [None] * len(bodies), "the answers")
        self.check_received(consumer, *bodies, what="1500 messages that were published together")
        same(self.bus.publish_many([]), [], "the answers to no message")

    def test_each_message_has_its_own_error(self) -> None:
        """Of those that are published together, one that no queue gets is an error of its own."""
        consumer = self.consumer(queue := self.queue())
        names = (queue.name, self.named("nobody"), queue.name, self.named("nobody"), queue.name)
        mandatory = (True, True, False, False, True)
        answers = self.bus.publish_many(
            Publication(Message(body=b"%d" % number), "", name, is_mandatory)
            for number, (name, is_mandatory) in enumerate(zip(names, mandatory, strict=True))
        )
        kinds = [type(answer).__name__ for answer in answers]
        nothing = type(None).__name__
        wanted = [nothing, "UndeliverableError", nothing, nothing, nothing]
        same(kinds, wanted, "the answers")
        self.check_received(consumer, b"0", b"2", b"4", what="what a queue gets")

    def test_without_an_exchange_only_its_own_messages_fail(self) -> None:
        """Of those that are published together, the others are published, at least once."""
        consumer = self.consumer(queue := self.queue())
        names = ("", self.named("no exchange"), "")
        answers = self.bus.publish_many(
            Publication(Message(body=b"%d" % number), name, queue.name)
            for number, name in enumerate(names)
        )
        found = [isinstance(answer, BusError) for answer in answers]
        same(found, [False, True, False], "which have failed")
        received = [b""]
        while received[-1] != b"2":
            received.append(self.receive(consumer).message.body)
        differ(sorted({*received[1:]}), [b"0", b"2"], "what was published")

    def test_a_full_queue_takes_some_of_several(self) -> None:
        """Those that a queue has no room for are too late, after one wait for all of them."""
        self.bus.declare(queue := self.queue(options={"max_length": 2}))
        several = [Publication(Message(body=body), "", queue.name) for body in numbered(range(5))]
        answers = self.bus.publish_many(several, timeout=0.2)
        kinds = [isinstance(answer, BusTimeoutError) for answer in answers]
        same(kinds, [False, False, True, True, True], "which were too late")
        consumer = self.consumer(queue)
        self.check_received(consumer, b"0", b"1", what="what the queue had room for")
        self.check_silent(consumer, "what it had no room for")

    # -- receiving

    def test_a_message_wakes_who_waits(self) -> None:
        """A consumer that waits receives a message when it is published."""
        consumer = self.consumer(queue := self.queue())
        for number in numbered(range(20)):
            received = self.beside(consumer.receive)
            self.publish(number, to=queue)
            delivery = received.result(self.patience)
            same(delivery.message.body, number, "the message")
            consumer.ack(delivery)

    def test_a_wait_ends_in_time(self) -> None:
        """Without a message, ``receive`` returns None when its time is over."""
        consumer = self.consumer(self.queue())
        same(consumer.receive(0), None, "what is received in no time")
        same(consumer.receive(0.01), None, "what is received in 10 ms")
        same(consumer.is_stopped, False, "whether it is stopped")

    def test_stop_wakes_who_waits(self) -> None:
        """``stop`` ends a wait, and nothing is received after that."""
        consumer = self.consumer(queue := self.queue())
        received = self.beside(consumer.receive)
        consumer.stop()
        same(received.result(self.patience), None, "what was waited for")
        self.publish(b"1", to=queue)
        same(consumer.receive(), None, "what is received when it is stopped")
        same(consumer.is_stopped, True, "whether it is stopped")

    def test_a_shutdown_wakes_who_waits(self) -> None:
        """The end of a bus ends the waits of its consumers."""
        bus = self.another_bus()
        received = self.beside(bus.consumer(self.queue()).receive)
        bus.shutdown()
        same(received.result(self.patience), None, "what was waited for")

    def test_what_stop_leaves_goes_to_others(self) -> None:
        """A consumer that is stopped does not keep messages that it has not received."""
        stopped = self.consumer(queue := self.queue())
        self.publish(b"1", b"2", to=queue)
        delivery = self.receive(stopped)
        stopped.stop()
        stopped.ack(delivery)
        stopped.close()
        self.check_received(self.consumer(queue), b"2", what="what it has left")

    def test_several_queues_are_received_from(self) -> None:
        """A consumer of several queues receives from all, and a long one holds back no other."""
        first, second = self.queue("first"), self.queue("second")
        self.bus.declare(first, second)
        self.publish(*numbered(range(10)), to=first)
        self.publish(b"a", to=second)
        consumer = self.consumer(first, second, prefetch=1)
        queues = []
        for _ in range(11):
            delivery = self.receive(consumer)
            queues.append(delivery.queue)
            consumer.ack(delivery)
        same(second.name in queues[:5], True, "that the second queue had its turn")
        same(queues.count(first.name), 10, "the number of messages from the first")

    def test_prefetch_bounds_what_is_unsettled(self) -> None:
        """With *prefetch* deliveries unsettled nothing is received; an ack makes room."""
        consumer = self.consumer(queue := self.queue(), prefetch=2)
        self.publish(b"1", b"2", b"3", to=queue)
        first, _ = self.receive(consumer), self.receive(consumer)
        self.check_silent(consumer, "a third message")
        received = self.beside(consumer.receive)
        consumer.ack(first)
        same(received.result(self.patience).message.body, b"3", "the message")

    # -- settling

    def test_what_is_acknowledged_is_gone(self) -> None:
        """A message that was acknowledged is delivered to nobody else."""
        consumer = self.consumer(queue := self.queue())
        self.publish(b"1", b"2", to=queue)
        consumer.ack(self.receive(consumer))
        consumer.close()
        self.check_received(other := self.consumer(queue), b"2", what="what is left")
        self.check_silent(other, "a third message")

    def test_what_is_unsettled_comes_back_in_order(self) -> None:
        """``close`` puts unsettled messages back in front of the others."""
        consumer = self.consumer(queue := self.queue(), prefetch=3)
        self.publish(b"1", b"2", b"3", b"4", to=queue)
        for _ in range(3):
            self.receive(consumer)
        consumer.close()
        bodies = (b"1", b"2", b"3", b"4")
        deliveries = self.check_received(self.consumer(queue), *bodies, what="after close()")
        differ(
            [(delivery.redelivered, delivery.attempts) for delivery in deliveries[::3]],
            [(True, 2), (False, 1)],
            "whether the first and the last are redelivered, attempts",
        )

    def test_a_shutdown_gives_back_what_is_unsettled(self) -> None:
        """What the consumers of a bus had is delivered to those of others when it is shut down."""
        bus = self.another_bus()
        self.bus.declare(queue := self.queue())
        self.publish(b"1", to=queue)
        self.receive(bus.consumer(queue))
        received = self.beside(self.consumer(queue).receive)
        bus.shutdown()
        same(received.result(self.patience).message.body, b"1", "what comes back")

    def test_requeued_messages_come_first(self) -> None:
        """``requeue`` puts a message back where it was."""
        consumer = self.consumer(queue := self.queue(), prefetch=1)
        self.publish(b"1", b"2", to=queue)
        consumer.requeue(self.receive(consumer))
        again = self.check_received(consumer, b"1", b"2", what="after requeue()")[0]
        same((again.redelivered, again.attempts), (True, 2), "redelivered, attempts")

    def test_attempts_are_counted(self) -> None:
        """Each delivery says how often its message was delivered."""
        consumer = self.consumer(queue := self.queue(), prefetch=1)
        self.publish(b"1", to=queue)
        attempts = []
        for _ in range(5):
            delivery = self.receive(consumer)
            attempts.append(delivery.attempts)
            consumer.requeue(delivery)
        same(attempts, [1, 2, 3, 4, 5], "attempts")

    def test_requeued_messages_come_later(self) -> None:
        """With a delay, others come first, and the message comes again after that."""
        consumer = self.consumer(queue := self.queue(), prefetch=1)
        self.publish(b"1", b"2", to=queue)
        consumer.requeue(self.receive(consumer), delay=0.3)
        self.check_received(consumer, b"2", what="before the delay")
        again = self.check_received(consumer, b"1", what="after the delay")[0]
        same((again.redelivered, again.attempts), (True, 2), "redelivered, attempts")
        self.check_silent(consumer, "the message a third time")

    def test_rejected_messages_become_dead_letters(self) -> None:
        """``reject`` moves a message to the ``dead_letter`` of its queue, with the reason."""
        dead = self.queue("dead", durable=True)
        consumer = self.consumer(queue := self.queue(dead_letter=dead.name))
        self.publish(b"1", b"2", to=queue, headers={"mine": 1}, correlation_id="request 1")
        consumer.reject(self.receive(consumer))
        self.check_received(consumer, b"2", what="the next one")
        letters = self.consumer(dead)
        (letter,) = self.check_received(letters, b"1", what="the dead letter")
        headers = letter.message.headers
        wanted = ("rejected", queue.name, 1, "request 1")
        found = tuple(headers.get(name) for name in (DEATH_REASON, DEATH_QUEUE, "mine"))
        same((*found, letter.message.correlation_id), wanted, "what the letter says")

    def test_rejected_messages_are_discarded(self) -> None:
        """Without a ``dead_letter``, a rejected message is gone."""
        consumer = self.consumer(queue := self.queue())
        self.publish(b"1", b"2", to=queue)
        consumer.reject(self.receive(consumer))
        self.check_received(consumer, b"2", what="the next one")
        self.check_silent(consumer, "the message that was rejected")

    def test_settling_twice_changes_nothing(self) -> None:
        """A delivery that was settled cannot be settled again; that is counted."""
        consumer = self.consumer(queue := self.queue(), prefetch=1)
        self.publish(b"1", to=queue)
        first = self.receive(consumer)
        consumer.requeue(first)
        self.receive(consumer)
        consumer.ack(first)
        same(consumer.late, 1, "how many came too late")
        consumer.close()
        self.check_received(self.consumer(queue), b"1", what="what was not acknowledged")

    def test_settling_too_late_is_no_error(self) -> None:
        """What is settled when its consumer was closed is delivered again, and counted."""
        consumer = self.consumer(queue := self.queue())
        self.publish(b"1", b"2", b"3", to=queue)
        deliveries = [self.receive(consumer) for _ in range(3)]
        consumer.close()
        consumer.ack(deliveries[0])
        consumer.requeue(deliveries[1])
        consumer.reject(deliveries[2])
        same(consumer.late, 3, "how many came too late")
        self.check_received(self.consumer(queue), b"1", b"2", b"3", what="what comes back")

    # -- expiration and limits

    def test_expired_messages_are_not_delivered(self) -> None:
        """What has expired goes to the ``dead_letter``, with the reason, and is not received."""
        dead = self.queue("dead", durable=True)
        queue = self.queue(dead_letter=dead.name)
        self.bus.declare(queue)
        self.publish(b"1", to=queue, expiration=0.05)
        self.publish(b"2", to=queue)
        (letter,) = self.check_received(self.consumer(dead), b"1", what="the dead letter")
        headers = letter.message.headers
        found = (headers.get(DEATH_REASON), headers.get(DEATH_QUEUE))
        same(found, ("expired", queue.name), "why, and from which queue")
        self.check_received(self.consumer(queue), b"2", what="what has not expired")

    def test_a_full_queue_refuses_in_time(self) -> None:
        """With ``max_length`` messages in a queue, publishing takes too long."""
        self.bus.declare(queue := self.queue(options={"max_length": 2}))
        self.publish(b"1", b"2", to=queue)
        message = Message(body=b"3")
        self.check_raises(
            BusTimeoutError,
            lambda: self.bus.publish(message, routing_key=queue.name, timeout=0.05),
        )
        consumer = self.consumer(queue)
        self.check_received(consumer, b"1", b"2", what="what the queue had room for")
        self.check_silent(consumer, "what it had no room for")

    def test_a_full_queue_is_waited_for(self) -> None:
        """Who publishes to a full queue goes on when there is room."""
        self.bus.declare(queue := self.queue(options={"max_length": 1}))
        self.publish(b"1", to=queue)
        published = self.beside(lambda: self.publish(b"2", to=queue))
        self.check_received(consumer := self.consumer(queue), b"1", what="the first one")
        published.result(self.patience)
        self.check_received(consumer, b"2", what="the second one")

    # -- among threads

    def test_consumers_share(self) -> None:
        """Each of several consumers gets a message while the others have theirs."""
        queue = self.queue()
        consumers = [self.consumer(queue, prefetch=1, bus=self.another_bus()) for _ in range(3)]
        self.publish(b"1", b"2", b"3", to=queue)
        bodies = [self.receive(consumer).message.body for consumer in consumers]
        differ(bodies, [b"1", b"2", b"3"], "what the three have", in_order=False)

    def test_nothing_is_lost_among_threads(self) -> None:
        """Of 4 publishers and 4 consumers that requeue some, each message is settled once."""
        queue = self.queue()
        consumers = [self.consumer(queue, prefetch=5) for _ in range(4)]
        total, done, settled = 400, threading.Event(), count(1)

        def consume(consumer: Consumer) -> list[bytes]:
            bodies = []
            while delivery := consumer.receive():
                if delivery.attempts == 1 and delivery.message.body.endswith(b"3"):
                    consumer.requeue(delivery)
                    continue
                bodies.append(delivery.message.body)
                consumer.ack(delivery)
                if next(settled) == total:
                    done.set()
            return bodies

        received = [self.beside(partial(consume, consumer)) for consumer in consumers]
        self._publish_in_threads(queue, total)
        same(done.wait(self.patience), True, "that all were settled in time")
        for consumer in consumers:
            consumer.stop()
        bodies = [body for one in received for body in one.result(self.patience)]
        differ(bodies, numbered(range(total)), "what was settled", in_order=False)

    def test_nothing_is_lost_when_consumers_come_and_go(self) -> None:
        """Consumers that are closed with messages in hand lose none, also if others wait."""
        self.bus.declare(queue := self.queue())
        total, wanted = 200, set(numbered(range(200)))
        settled: set[bytes] = set()

        def consume() -> None:
            while len(settled) < total:
                with self.bus.consumer(queue, prefetch=10) as consumer:
                    for number in range(7):
                        delivery = consumer.receive(0.02)
                        if delivery is not None and (number % 2 or delivery.redelivered):
                            settled.add(delivery.message.body)
                            consumer.ack(delivery)

        workers = [self.beside(consume) for _ in range(3)]
        self._publish_in_threads(queue, total)
        for worker in workers:
            worker.result(self.patience)
        differ(sorted(settled), sorted(wanted), "what was settled")
        self.check_silent(self.consumer(queue), "a message that was settled")

    def test_publishers_keep_their_order(self) -> None:
        """What each of several threads publishes is received in its order."""
        consumer = self.consumer(queue := self.queue(), prefetch=400)
        self._publish_in_threads(queue, 400)
        bodies = [int(self.receive(consumer).message.body) for _ in range(400)]
        for first in range(4):
            own = [body for body in bodies if body % 4 == first]
            differ(own, sorted(own), f"the messages of publisher {first}")

    def _publish_in_threads(self, queue: Queue, total: int) -> None:
        """Let four threads publish numbers: each those with its own remainder."""
        numbers = [numbered(range(first, total, 4)) for first in range(4)]
        threads = [self.beside(partial(self.publish, *own, to=queue)) for own in numbers]
        for thread in threads:
            thread.result(self.patience)

    # -- the end

    def test_a_bus_can_be_set_up_again(self) -> None:
        """After its shutdown, a bus raises, and works again after another setup."""
        bus = self.connect()
        queue = self.queue()
        for _ in range(2):
            bus.setup()
            bus.declare(queue)
            bus.health()
            bus.shutdown()
            self.check_raises(
                BusError, lambda: bus.publish(Message(body=b""), routing_key=queue.name)
            )
            self.check_raises(BusError, bus.health)

    def test_nothing_is_left(self) -> None:
        """When all buses were shut down, no thread and no descriptor of theirs is left."""
        self.bus.shutdown()
        before = what_is_open()
        for _ in range(3):
            with self.connect() as bus:
                consumer = bus.consumer(queue := Queue(self.named("left"), auto_delete=True))
                bus.publish(Message(body=b"1", expiration=3600.0), routing_key=queue.name)
                self.receive(consumer)
        same(what_is_open(), before, "threads and descriptors")
