"""Entrypoints that are called with the messages of a queue."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from m3.errors import (
    AbandonedError,
    BusError,
    ConfigError,
    Reject,
    RetryLater,
    UndeliverableError,
)
from m3.messaging import Bus, Consumer, Delivery, Queue
from m3.messaging.entities import DEATH_QUEUE, DEATH_REASON
from m3.messaging.poison import poison_in
from m3.policies import Backoff, Retry
from m3.services.context import WorkerContext
from m3.services.context_data import context_of
from m3.services.entrypoints import DecoratorDependency
from m3.services.errors import MalformedRequest, ServiceError
from m3.services.wire import payload_of
from m3.stages import Failure, Frontend, Item

__all__ = (
    "REQUEUE",
    "PutOff",
    "QueueEntrypoint",
    "QueueFrontend",
    "Received",
    "has_dead_letters",
)

logger = logging.getLogger("m3.services")

REQUEUE = Retry(attempts=10, backoff=Backoff(initial=0.5, maximum=60.0))
"""How ``requeue_on_error=True`` tries again."""


class Received:
    """
    Where a call came from: a message, of which only the queue is shown.

    Attributes:
        delivery: the message.
    """

    __slots__ = ("delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def __repr__(self) -> str:
        return f"<message in {self.delivery.queue!r}>"


class QueueFrontend(Frontend[WorkerContext]):
    """
    Receives the messages of a queue, as many at a time as there are workers.

    Attributes:
        bus: where the queue is.
    """

    acks_anywhere = True
    bus: Bus
    _consumer: Consumer | None = None
    _made: tuple[Delivery, Item | Failure] | None = None

    @property
    def consumer(self) -> Consumer:
        """What receives the messages."""
        assert self._consumer is not None
        return self._consumer

    @property
    def bus_if_there(self) -> Bus | None:
        """The bus; None when the service was stopped without waiting for what it still does."""
        return vars(self).get("bus")

    def consume(self, queue: Queue, prefetch: int) -> None:
        """Begin to receive from *queue*, which is declared."""
        self._consumer = self.bus.consumer(queue, prefetch=prefetch)

    def item(self, delivery: Delivery) -> Item | Failure:
        """Return the call that a message makes, or why it makes none."""
        raise NotImplementedError

    def produce(self) -> Iterator[Item | Failure]:
        """Yield the calls that the messages make, those that are not offered meanwhile."""
        receive = self.consumer.receive
        if self.offer is not None:
            self.consumer.offer_to(partial(self._take, self.offer))
        while (delivery := receive()) is not None:
            made = self._made_of(delivery)
            yield self.item(delivery) if made is None else made

    def _take(self, offer: Callable[[Item], bool], delivery: Delivery) -> bool:
        """Offer the call that a message makes."""
        try:
            made = self.item(delivery)
        except Exception:  # it is made again, and fails where that is heard of
            return False
        if isinstance(made, Item) and offer(made):
            return True
        self._made = delivery, made
        return False

    def _made_of(self, delivery: Delivery) -> Item | Failure | None:
        """Return what was made of a message, and offered in vain, if it was the last one."""
        made, self._made = self._made, None
        return made[1] if made is not None and made[0] is delivery else None

    def stop(self) -> None:
        """Receive no more."""
        self.consumer.stop()

    def ack(self, position: Received) -> None:
        """Acknowledge the message of a call that is done."""
        self.consumer.ack(position.delivery)

    def cleanup(self) -> None:
        """Give back what was received and not dealt with."""
        if self._consumer is not None:
            self._consumer.close()


class PutOff(ServiceError):
    """
    A call failed because its method has raised :exc:`~m3.errors.RetryLater`; its message goes back.

    Attributes:
        seconds: for how long.
    """

    def __init__(self, cause: RetryLater) -> None:
        self.seconds = cause.seconds
        super().__init__(str(cause))


class QueueEntrypoint(QueueFrontend, DecoratorDependency):
    """
    An entrypoint that is called with the payload of each message.

    A call that fails is tried again if *requeue_on_error* says so, with its message
    back in the queue meanwhile; after the last attempt, or otherwise at once, it is a
    dead letter: it goes to the ``dead_letter`` of its queue, or, if that has none, to the
    queue ``dead-{service}``, unless ``dead_letters`` of the configuration is another name.  If
    that is false, or the queue is that one, there is no place for it, and it is discarded;
    a warning says so at the start, and again each time.
    A method that raises :exc:`~m3.errors.RetryLater` has its message back in the queue for
    that time, up to as many attempts, whatever *requeue_on_error* says of other errors.
    A message that has ended the process of its receiver 20 times, or as often as it may be
    tried if that is more, is rejected if it then is a dead letter.

    Args:
        requeue_on_error: whether and how a call that has failed is tried again; a
            :class:`~m3.policies.Retry`, or True for ten attempts.
        options: as of :class:`DecoratorDependency`.

    Raises:
        ConfigError: *requeue_on_error* is neither.
    """

    def __init__(self, *, requeue_on_error: bool | Retry = False, **options: Any) -> None:
        super().__init__(**options)
        is_retry = isinstance(requeue_on_error, Retry)
        if not (is_retry or isinstance(requeue_on_error, bool)):
            raise ConfigError(
                f"requeue_on_error is {requeue_on_error!r}; it is True, False or a Retry, as "
                "Retry(attempts=3) is one"
            )
        default = REQUEUE if requeue_on_error else Retry(attempts=1)
        self.retry: Retry = requeue_on_error if is_retry else default  # type: ignore[assignment]
        self._most_if_asked = (self.retry if requeue_on_error else REQUEUE).attempts
        self._is_rejected = False
        self._dead_queue: str | None = None

    def queue(self) -> Queue:
        """Return the queue that it receives from."""
        raise NotImplementedError

    def setup(self) -> None:
        """Begin to receive."""
        queue = self.queue()
        self._is_rejected = has_dead_letters(queue)
        self._dead_queue = None if self._is_rejected else self._default_dead_letter(queue)
        self.consume(queue, self.srv_ctx.max_workers)
        if not self._has_dead_letters():
            logger.warning(
                "service %r, %s: what fails for good in %r is discarded, since the queue has no "
                "dead_letter, and 'dead_letters' of the configuration names no other queue",
                self.srv_ctx.name,
                self.method_name,
                queue.name,
            )

    def item(self, delivery: Delivery) -> Item | Failure:
        """Return the call of the method with the payload."""
        if self._has_dead_letters() and (poison := poison_in(delivery, self._most_if_asked)):
            return Failure(poison, position=Received(delivery))
        try:
            payload = payload_of(delivery.message)
        except MalformedRequest as error:
            return Failure(error, position=Received(delivery))
        context = context_of(delivery.message)
        call = WorkerContext(self.srv_ctx, self, (payload,), None, context, origin=delivery)
        return Item(call, Received(delivery))

    def put_off(self, _: WorkerContext, error: RetryLater) -> None:
        """Have the message back in the queue meanwhile."""
        raise PutOff(error) from error

    def nack(self, position: Received, error: Exception) -> None:
        """Give the message back to be tried again, or make a dead letter of it."""
        delivery, bus = position.delivery, self.bus_if_there
        if bus is None or isinstance(error, AbandonedError):
            self.consumer.requeue(delivery)
        elif (seconds := self._delay(error, delivery.attempts)) is None:
            self._bury(delivery, bus)
        else:
            self.consumer.requeue(delivery, seconds)

    def _has_dead_letters(self) -> bool:
        return self._is_rejected or self._dead_queue is not None

    def _default_dead_letter(self, queue: Queue) -> str | None:
        """Return the queue for the dead letters of one that has none."""
        name = self.srv_ctx.config.get("dead_letters", f"dead-{self.srv_ctx.name}") or None
        return None if name == queue.name else name

    def _bury(self, delivery: Delivery, bus: Bus) -> None:
        """Make a dead letter of a message, or discard it where there is no place for these."""
        if self._dead_queue is not None:
            self._move(delivery, self._dead_queue, bus)
            return
        if not self._is_rejected:
            logger.warning(
                "a message in %r is discarded, since the queue has no dead_letter", delivery.queue
            )
        self.consumer.reject(delivery)

    def _move(self, delivery: Delivery, dead_queue: str, bus: Bus) -> None:
        """Publish a message to the dead letters, and acknowledge it when they have it."""
        why = {DEATH_REASON: "rejected", DEATH_QUEUE: delivery.queue}
        headers = {**why, **delivery.message.headers}
        publish = partial(
            bus.publish,
            replace(delivery.message, headers=headers, expiration=None),
            routing_key=dead_queue,
            mandatory=True,
        )
        try:
            try:
                publish()
            except UndeliverableError:
                bus.declare(Queue(dead_queue))
                publish()
        except BusError as error:
            logger.warning("a message of %r is no dead letter yet: %s", delivery.queue, error)
            self.consumer.requeue(delivery, REQUEUE.backoff.delay_after(delivery.attempts))
        else:
            self.consumer.ack(delivery)

    def _delay(self, error: Exception, attempts: int) -> float | None:
        """Return after how many seconds to try again; None if that is of no use."""
        if isinstance(error, PutOff):
            return error.seconds if attempts < self._most_if_asked else None
        is_bad = isinstance(error, (Reject, MalformedRequest))
        is_worth_it = attempts < self.retry.attempts and isinstance(error, self.retry.on)
        return self.retry.backoff.delay_after(attempts) if is_worth_it and not is_bad else None


def has_dead_letters(queue: Queue) -> bool:
    """Return whether what is rejected goes to another queue, by a rule of the queue itself."""
    return queue.dead_letter is not None or "x-dead-letter-exchange" in queue.options
