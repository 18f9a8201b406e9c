"""A consumer of RabbitMQ's queues, and what the connection is for that has its channel."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic

import amqp
from amqp.exceptions import AMQPError

from m3._parking import Bell
from m3._wire import Received
from m3.errors import BusError, describe
from m3.messaging._amqp.brokers import LOST, reason
from m3.messaging._amqp.connection import Channel, Connection
from m3.messaging._amqp.contents import Content
from m3.messaging._amqp.envelopes import ATTEMPTS, attempts_of, opened, sealed, without_delays
from m3.messaging._amqp.link import Link
from m3.messaging._amqp.publishing import Parcel, Publishing
from m3.messaging._amqp.topology import Topology, delay_in_steps
from m3.messaging.bus import Consumer
from m3.messaging.entities import DEATH_QUEUE, DEATH_REASON, Delivery, Queue
from m3.messaging.every import call_all
from m3.policies import Backoff

__all__ = ("AmqpConsumer", "Consuming")

CLOSING = 5.0
"""Seconds that closing a consumer waits for the broker."""

REMEMBERED = 10_000
"""Of how many messages a bus knows how often it has given them back."""


@dataclass(slots=True, eq=False)
class Tag:
    """What a delivery is known by: a number, on a channel, which may be gone."""

    channel: Channel
    number: int
    queue: Queue
    message_id: str | None
    was_put_off: bool


class Consuming:
    """
    The duty of the connection that messages are received on.

    Args:
        topology: how queues are declared.
        backoff: how long to wait before a queue is asked for again that was refused.
        logger: what is told of that.
    """

    link: Link

    def __init__(self, topology: Topology, backoff: Backoff, logger: logging.Logger) -> None:
        self.topology = topology
        self.backoff = backoff
        self.logger = logger
        self.consumers: list[AmqpConsumer] = []
        self.returns = Returns()

    def begin(self, connection: Connection) -> None:
        """Declare all again, and let all consumers receive again."""
        self.topology.declare_again(connection)
        for consumer in list(self.consumers):
            consumer.resume(connection)

    def interrupt(self) -> None:
        """Forget what cannot be settled any longer."""
        for consumer in list(self.consumers):
            consumer.interrupt()

    def forget(self, consumer: "AmqpConsumer") -> bool:
        """Do without a consumer from now on; return whether it was there."""
        try:
            self.consumers.remove(consumer)
        except ValueError:
            return False
        return True

    def may_be_led(self) -> bool:
        """See :meth:`Duty.may_be_led`: who has a consumer may wait for that."""
        return all(consumer.is_heard for consumer in self.consumers)

    def end(self, _: BusError) -> None:
        """Stop all consumers."""
        call_all(consumer.stop for consumer in list(self.consumers))


class Returns:
    """
    How often messages were delivered that went back to a classic queue, which does not count.

    Only of those that this process has given back, and of the latest only.
    """

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, message_id: str | None, attempts: int) -> None:
        """Remember a message that goes back."""
        if message_id is None:
            return
        with self._lock:
            self._attempts[message_id] = attempts
            self._attempts.move_to_end(message_id)
            if len(self._attempts) > REMEMBERED:
                self._attempts.popitem(last=False)

    def take(self, message_id: str | None) -> int:
        """Return how often a message was delivered that is delivered now, and forget it."""
        with self._lock:
            return 0 if message_id is None else self._attempts.pop(message_id, 0)


class AmqpConsumer(Consumer):
    """
    Receives on a channel of its own; made anew, with its queues, when its connection is.

    What it does with the channel, it does in the link's thread, or in its turn.
    """

    is_heard = False
    """Whether messages are heard as they arrive, by whoever reads them."""

    def __init__(
        self, queues: Iterable[Queue], prefetch: int, consuming: Consuming, publishing: Publishing
    ) -> None:
        self._queues = {queue.name: queue for queue in queues}
        self._prefetch = prefetch
        self._consuming = consuming
        self._publishing = publishing
        self._lock = threading.Lock()
        self._bell = Bell()
        self._moved_all = threading.Condition(self._lock)
        self._arrived: deque[Delivery] = deque()
        self._unsettled: dict[Tag, Delivery] = {}
        self._taken: Delivery | None = None
        self._offered_to: Callable[[Delivery], bool] | None = None
        self._moves: set[Tag] = set()
        self._refusals = 0
        self._channel: Channel | None = None
        self.refusal: BusError | None = None
        """Why the broker does not deliver to it just now, although there is a connection."""

    # -- for any thread

    def receive(self, timeout: float | None = None) -> Delivery | None:
        """See :meth:`Consumer.receive`."""
        self._consuming.link.check_process()
        self._taken = None
        try:
            return self._receive(None if timeout is None else monotonic() + timeout)
        except BaseException:  # a signal
            self._put_back()
            raise

    def _receive(self, deadline: float | None) -> Delivery | None:
        is_in_time = True
        while is_in_time:
            with self._lock:
                if self._is_stopped:
                    return None
                if self._arrived and len(self._unsettled) < self._prefetch:
                    return self._take()
            left = None if deadline is None else max(deadline - monotonic(), 0.0)
            is_in_time = self._bell.wait(left)
        return None

    def _take(self) -> Delivery:
        delivery = self._taken = self._arrived[0]
        self._unsettled[delivery.tag] = delivery
        self._arrived.popleft()
        return delivery

    def _put_back(self) -> None:
        """Have a message received next that was taken in vain."""
        with self._lock:
            taken = self._taken
            if taken is not None and self._unsettled.pop(taken.tag, None) is not None:
                if taken not in self._arrived:
                    self._arrived.appendleft(taken)
                self._bell.ring()

    def offer_to(self, take: Callable[[Delivery], bool]) -> None:
        """See :meth:`Consumer.offer_to`."""
        self._offered_to = take

    def ack(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.ack`."""
        if self._settle(delivery):
            self._tell(delivery.tag, "ack")

    def requeue(self, delivery: Delivery, delay: float = 0.0) -> None:
        """See :meth:`Consumer.requeue`; a delay may last an eighth longer."""
        if not self._settle(delivery):
            return
        tag: Tag = delivery.tag
        if delay <= 0:
            self._give_back(delivery)
            return
        message = sealed(delivery.message, {ATTEMPTS: delivery.attempts})
        message.properties.pop("expiration", None)  # or it would end in the queue for the delay
        parcel = self._moving(delivery, message, "")
        steps = delay_in_steps(delay)
        self._publishing.put_off(parcel, tag.queue.name, steps, durable=tag.queue.durable)

    def reject(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.reject`."""
        if not self._settle(delivery):
            return
        tag: Tag = delivery.tag
        if tag.queue.dead_letter is None or not tag.was_put_off:
            self._tell(tag, "reject")
            return
        # To RabbitMQ, its first death was in the queue where it waited.
        why = {DEATH_REASON: "rejected", DEATH_QUEUE: tag.queue.name}
        message = sealed(delivery.message, why)
        self._publishing.send(self._moving(delivery, message, tag.queue.dead_letter))

    def stop(self) -> None:
        """See :meth:`Consumer.stop`; what it has not received goes back to the queues."""
        self._stop()

    def _stop(self) -> bool:
        """Stop it; return whether nobody had done so before."""
        if self._consuming.link.is_inherited():
            was_stopped, self._is_stopped = self._is_stopped, True
            return not was_stopped
        with self._lock:
            if self._is_stopped:
                return False
            self._is_stopped = True
            channel = self._channel
        self._bell.ring()
        self._consuming.link.post(partial(self._stop_deliveries, channel))
        return True

    def close(self) -> None:
        """See :meth:`Consumer.close`."""
        self.stop()
        if self._consuming.link.is_inherited():
            return
        with self._lock:
            self._moved_all.wait_for(lambda: not self._moves, CLOSING)
            channel = self._channel
        if self._consuming.forget(self):
            self._have_closed(channel)
        self.interrupt()

    def _have_closed(self, channel: Channel | None) -> None:
        """Have the channel closed, so that all goes back; later, if the broker is not there."""
        link = self._consuming.link
        with suppress(BusError):
            if link.trouble is None:
                link.call(partial(self._close, channel), CLOSING, again=False)
                return
        if channel is not None:
            link.post(partial(self._close_late, channel))

    def dismiss(self, queue: str) -> None:
        """Do without a queue, which is about to be deleted."""
        self._queues.pop(queue, None)

    def _settle(self, delivery: Delivery) -> bool:
        with self._lock:
            was_full = len(self._unsettled) == self._prefetch
            is_in_time = self._unsettled.pop(delivery.tag, None) is not None
            self.late += not is_in_time
        if was_full:
            self._bell.ring()
        return is_in_time

    def _give_back(self, delivery: Delivery) -> None:
        self._consuming.returns.add(delivery.tag.message_id, delivery.attempts)
        self._tell(delivery.tag, "requeue")

    def _tell(self, tag: Tag, verdict: str) -> None:
        self._consuming.link.soon(partial(self._pass_on, tag, verdict))

    def _moving(self, delivery: Delivery, message: amqp.Message, queue: str) -> Parcel:
        """Return a copy of the message for another queue; when that has it, this one loses it."""
        with self._lock:
            self._moves.add(delivery.tag)
        moved = partial(self._moved, delivery)
        return Parcel(message, "", queue, mandatory=True, then=moved)

    def _moved(self, delivery: Delivery, error: Exception | None) -> None:
        if error is None:
            self._tell(delivery.tag, "ack")
        else:
            logger = self._consuming.logger
            logger.warning("a message of %r goes back at once: %s", delivery.queue, error)
            self._give_back(delivery)
        with self._lock:
            self._moves.discard(delivery.tag)
            self._moved_all.notify_all()

    # -- for the link's thread

    def begin(self, connection: Connection) -> None:
        """Declare the queues, and let the broker deliver."""
        channel = connection.channel()
        channel.auto_decode = False
        try:
            for queue in tuple(self._queues.values()):
                self._consuming.topology.declare_on(channel, queue)
            channel.basic_qos(0, self._prefetch, False)
            self._channel = channel
            for queue in tuple(self._queues.values()):
                self._consume(channel, queue)
        except AMQPError:
            channel.close()
            raise
        channel.on_refused = self._refused
        self.refusal, self._refusals = None, 0
        if self._is_stopped:  # meanwhile: who has done so may know of no channel
            self._close(channel, connection)
        elif self not in self._consuming.consumers:
            self._consuming.consumers.append(self)

    def resume(self, connection: Connection) -> None:
        """Begin again; where the broker refuses that, later."""
        if self._is_stopped or not self._queues:
            return
        try:
            self.begin(connection)
        except LOST:
            raise
        except AMQPError as error:
            self._refused(error)

    def interrupt(self) -> None:
        """Forget what cannot be settled any longer."""
        with self._lock:
            self._channel = None
            for delivery in self._unsettled.values():
                self._consuming.returns.add(delivery.tag.message_id, delivery.attempts)
            self._arrived.clear()
            self._unsettled.clear()

    def _consume(self, channel: Channel, queue: Queue) -> None:
        channel.basic_consume(
            queue.name,
            exclusive=queue.exclusive,
            callback=partial(self._deliver, channel, queue),
            on_cancel=partial(self._cancelled, channel, queue),
        )

    def _deliver(self, channel: Channel, queue: Queue, raw: Content | Received) -> None:
        try:
            delivery = delivery_of(channel, queue, raw, self._consuming.returns)
        except Exception as error:  # whatever somebody has published, this lives
            self._refuse(channel, queue, raw, error)
            return
        if self._offered_to is None or not self._is_taken(self._offered_to, delivery):
            with self._lock:
                self._arrived.append(delivery)
            self._bell.ring()

    def _is_taken(self, take: Callable[[Delivery], bool], delivery: Delivery) -> bool:
        """Offer a message that would be received next; return whether it was taken, or is lost."""
        with self._lock:
            if self._arrived or self._is_stopped or len(self._unsettled) >= self._prefetch:
                return False
            self._unsettled[delivery.tag] = delivery
        if take(delivery):
            return True
        with self._lock:
            return self._unsettled.pop(delivery.tag, None) is None

    def _refuse(
        self, channel: Channel, queue: Queue, raw: Content | Received, error: Exception
    ) -> None:
        channel.basic_reject(raw.delivery_tag, requeue=False)
        fate = f"is in {queue.dead_letter!r}" if queue.dead_letter else "is discarded"
        logger = self._consuming.logger
        logger.warning(
            "a message of %r cannot be used, and %s: %s", queue.name, fate, describe(error)
        )

    def _cancelled(self, channel: Channel, queue: Queue, _: str) -> None:
        """Consume a queue again that was deleted, or has moved to another node."""
        if queue.name in self._queues and not self._is_stopped:
            self._consuming.link.post(partial(self._consume_again, channel, queue))

    def _consume_again(self, channel: Channel, queue: Queue, _: Connection) -> None:
        if channel is not self._channel or queue.name not in self._queues or self._is_stopped:
            return
        with suppress(AMQPError):  # which closes the channel; _refused() was called
            self._consuming.topology.declare_on(channel, queue)
            self._consume(channel, queue)

    def _refused(self, error: AMQPError) -> None:
        self.interrupt()
        self._refusals += 1
        seconds = self._consuming.backoff.delay_after(self._refusals)
        names = ", ".join(self._queues)
        self.refusal = BusError(f"RabbitMQ refuses a consumer of {names}: {reason(error)}")
        self._consuming.logger.warning("%s; it is asked again in %.1f s", self.refusal, seconds)
        self._consuming.link.later(seconds, self._resume_later)

    def _resume_later(self, connection: Connection) -> None:
        if self._channel is None and self in self._consuming.consumers:
            self.resume(connection)

    def _pass_on(self, tag: Tag, verdict: str, _: Connection) -> None:
        if tag.channel is not self._channel:
            with self._lock:
                self.late += 1
        elif verdict == "ack":
            tag.channel.acknowledge(tag.number)
        else:
            tag.channel.basic_reject(tag.number, requeue=verdict == "requeue")

    def _stop_deliveries(self, channel: Channel | None, connection: Connection) -> None:
        if channel is None or channel.connection is not connection:
            return
        for consumer_tag in list(channel.callbacks):
            channel.basic_cancel(consumer_tag)
        with self._lock:
            arrived, self._arrived = self._arrived, deque()
        for delivery in arrived:
            channel.basic_reject(delivery.tag.number, requeue=True)

    def _close_late(self, channel: Channel, connection: Connection) -> None:
        if channel.connection is not connection:  # then all has gone back
            return
        try:
            self._close(channel, connection)
        except LOST:
            raise
        except AMQPError as error:
            self._consuming.logger.warning("RabbitMQ refuses to close: %s", reason(error))

    def _close(self, channel: Channel | None, connection: Connection) -> None:
        self._channel = None
        if channel is not None and channel.connection is connection:
            channel.close()
        exclusive = [queue for queue in tuple(self._queues.values()) if queue.exclusive]
        if exclusive:
            self._consuming.topology.delete(connection, exclusive)


def delivery_of(
    channel: Channel, queue: Queue, raw: Content | Received, returns: Returns
) -> Delivery:
    """
    Return what was received, with how often it was.

    Raises:
        BodyError: it cannot be read, or is too long.
    """
    message = opened(raw)
    message_id = raw.properties.get("message_id")
    redelivered = raw.redelivered
    attempts = attempts_of(message.headers, redelivered=redelivered)
    if redelivered:
        attempts = max(attempts, returns.take(message_id) + 1)
    was_put_off = ATTEMPTS in message.headers
    message.headers = without_delays(message.headers)
    tag = Tag(channel, raw.delivery_tag, queue, message_id, was_put_off)
    return Delivery(message, queue.name, tag, attempts > 1, attempts)
