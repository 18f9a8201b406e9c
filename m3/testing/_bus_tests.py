"""What the tests of a bus are made of."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from m3.errors import UndeliverableError
from m3.messaging.bus import Bus, Consumer
from m3.messaging.entities import Delivery, Exchange, Message, Queue
from m3.testing._checks import differ, not_given, same

__all__ = ("BusTests", "numbered")


class BusTests:
    """The root of the battery for buses: a bus for each test, and what is done with it."""

    outlives_its_buses = True
    """Whether what is in a durable queue is still there when all buses were shut down."""

    patience = 20.0
    """Seconds after which something that should have happened is said not to happen."""

    silence = 0.1
    """Seconds in which a message that should not come is waited for."""

    bus: Bus

    # -- what is tested

    def connect(self) -> Bus:
        """Return a new bus, not set up; all of one test have the same broker."""
        not_given("connect")

    def setup_method(self) -> None:
        """Begin a test; called by pytest."""
        self.token = uuid4().hex[:12]
        self._stack = ExitStack()
        self.bus = self.another_bus()

    def teardown_method(self) -> None:
        """End a test; called by pytest."""
        self._stack.close()

    def another_bus(self) -> Bus:
        """Return another bus that is up until the end of the test."""
        return self._stack.enter_context(self.connect())

    # -- what the tests are made of

    def queue(self, name: str = "queue", **arguments: Any) -> Queue:
        """Return a queue whose name no other test has; it is deleted after the test."""
        queue = Queue(self.named(name), **{"durable": False, **arguments})
        self._stack.callback(self._delete, queue)
        return queue

    def exchange(self, name: str = "exchange", **arguments: Any) -> Exchange:
        """Return an exchange whose name no other test has; it is deleted after the test."""
        exchange = Exchange(self.named(name), **{"durable": False, **arguments})
        self._stack.callback(self._delete, exchange)
        return exchange

    def consumer(self, *queues: Queue, prefetch: int = 100, bus: Bus | None = None) -> Consumer:
        """Return a consumer that is closed after the test."""
        consumer = (bus or self.bus).consumer(queues, prefetch=prefetch)
        self._stack.callback(consumer.close)
        return consumer

    def publish(self, *bodies: bytes, to: Queue, **properties: Any) -> None:
        """Publish messages with these bodies to a queue."""
        for body in bodies:
            self.bus.publish(Message(body=body, **properties), routing_key=to.name)

    def receive(self, consumer: Consumer) -> Delivery:
        """Return the next message, which has to come."""
        delivery = consumer.receive(self.patience)
        if delivery is None:
            raise AssertionError(f"no message came within {self.patience:g} s")
        return delivery

    def check_received(self, consumer: Consumer, *bodies: bytes, what: str) -> list[Delivery]:
        """Check what is received next, in that order; acknowledge and return it."""
        deliveries = []
        for _ in bodies:
            deliveries.append(self.receive(consumer))
            consumer.ack(deliveries[-1])
        differ([delivery.message.body for delivery in deliveries], bodies, what)
        return deliveries

    def check_silent(self, consumer: Consumer, what: str) -> None:
        """Check that nothing is received."""
        delivery = consumer.receive(self.silence)
        same(delivery and delivery.message.body, None, what)

    def check_raises(self, error: type[Exception], function: Callable[[], object]) -> None:
        """Check that a call raises."""
        try:
            function()
        except error:
            return
        raise AssertionError(f"{error.__name__} was not raised")

    def beside(self, function: Callable[[], Any]) -> "Future[Any]":
        """Call *function* in a thread of its own; return its future."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def named(self, name: str) -> str:
        return f"m3-test-{self.token}-{name}"

    def check_gone(self, queue: Queue) -> None:
        message = Message(body=b"")
        self.check_raises(
            UndeliverableError,
            lambda: self.bus.publish(message, routing_key=queue.name, mandatory=True),
        )

    def _delete(self, entity: Exchange | Queue) -> None:
        with self.connect() as bus:
            bus.delete(entity)


def numbered(numbers: Iterable[int]) -> list[bytes]:
    """Return a body for each number."""
    return [b"%d" % number for number in numbers]
