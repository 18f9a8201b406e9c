"""Calls as they come over a bus: the queue they are in, what they say, how they are answered."""

import inspect
import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from m3.errors import AbandonedError, BusError, abridged
from m3.messaging import Bus, Consumer, Delivery, Exchange, Message, Queue
from m3.messaging.bus import PATIENCE
from m3.services.context_data import context_of
from m3.services.errors import IncorrectSignature, MethodNotFound
from m3.services.queues import REQUEUE
from m3.services.wire import METHOD, arguments_of, error_message, seconds_of

__all__ = ("Call", "Methods", "queue_of_calls", "refuse", "rpc_exchange", "send_answer")

logger = logging.getLogger("m3.services")

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

LONGEST_TEXT = 500
"""How much of a text is told in which names are those of a caller."""


def rpc_exchange(config: Mapping[str, Any]) -> Exchange:
    """Return the exchange that calls are published to."""
    return Exchange(config.get("rpc_exchange", "m3-rpc"), type="topic")


def queue_of_calls(service: str, exchange: Exchange) -> Queue:
    """Return the queue of the calls of a service, which all of its instances share."""
    return Queue(f"rpc-{service}", exchange, f"{service}.*")


class Call(NamedTuple):
    """
    What a message calls.

    Attributes:
        method: the name of the method.
        args, kwargs: what it is called with.
        context: what travels with the call.
        deadline: when its caller gives it up, on the monotonic clock; None for never.
    """

    method: str
    args: list[Any]
    kwargs: dict[str, Any]
    context: dict[str, Any]
    deadline: float | None


class Methods:
    """
    The methods of a service that others can call.

    Args:
        service: the name of the service.
        signatures: those of the methods, by name, as callers see them.
    """

    def __init__(self, service: str, signatures: Mapping[str, inspect.Signature]) -> None:
        self._service = service
        self._signatures = signatures
        self._counts = {name: _counts(signature) for name, signature in signatures.items()}

    def called_by(self, message: Message) -> Call:
        """
        Return the call that *message* makes.

        Raises:
            MalformedRequest: it makes none.
            MethodNotFound: it names no method that there is.
            IncorrectSignature: the method does not take the arguments.
        """
        args, kwargs = arguments_of(message)
        method = message.headers.get(METHOD)
        if not isinstance(method, str) or method not in self._signatures:
            raise MethodNotFound(
                f"{self._service} has no method {abridged(method)} to be called; "
                f"it has {', '.join(sorted(self._signatures))}"
            )
        self._check_arguments(method, args, kwargs)
        seconds = seconds_of(message)
        deadline = None if seconds is None else time.monotonic() + seconds
        return Call(method, args, kwargs, context_of(message), deadline)

    def _check_arguments(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        if not kwargs and len(args) in self._counts[method]:
            return
        signature = self._signatures[method]
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            text = str(error)[:LONGEST_TEXT]
            raise IncorrectSignature(f"{self._service}.{method}{signature}: {text}") from None


def _counts(signature: inspect.Signature) -> range:
    """Return how many arguments without names a method certainly takes."""
    parameters = signature.parameters.values()
    if any(each.kind not in POSITIONAL for each in parameters):
        return range(0)
    needed = sum(each.default is each.empty for each in parameters)
    return range(needed, len(parameters) + 1)


def send_answer(bus: Bus, request: Message, answer: Message) -> None:
    """Send the answer to a call while somebody waits for it; if they are gone, nobody gets it."""
    if request.reply_to:
        seconds = seconds_of(request)
        timeout = PATIENCE if seconds is None else min(PATIENCE, max(1.0, seconds))
        bus.publish(answer, routing_key=request.reply_to, timeout=timeout)


def refuse(
    bus: Bus,
    consumer: Consumer,
    delivery: Delivery,
    error: Exception,
    *,
    stage: str | None = None,
) -> None:
    """
    Send the error of a call to who has called, and acknowledge its message.

    A call that was given up goes back to its queue, and so does, for a while and ten times at
    most, one whose answer the bus would not take.

    Args:
        bus: where the answer is sent.
        consumer: what has received the call.
        delivery: its message.
        error: what it has failed with.
        stage: the stage of a pipeline that it has failed in.
    """
    if isinstance(error, AbandonedError):
        consumer.requeue(delivery)
        return
    try:
        send_answer(bus, delivery.message, error_message(delivery.message, error, stage=stage))
    except BusError as problem:
        if delivery.attempts < REQUEUE.attempts:
            consumer.requeue(delivery, REQUEUE.backoff.delay_after(delivery.attempts))
            return
        logger.warning("a call in %r gets no answer: %s", delivery.queue, problem)
    consumer.ack(delivery)
