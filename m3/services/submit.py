"""
``submit``: a pipeline that is offered as a service, to which others submit items.

On the bus, the pipeline is a service of the name that it is given.  Whatever calls
services can call its methods:

- ``submit(item)`` puts an item into the pipeline, and returns when everything made
  from it is delivered.  An error of a stage comes back, with the stage's name.
- ``submit(item, wait=False)`` returns when the bus keeps the item for good.  What
  becomes of it is up to the pipeline, and nobody is told.
- ``health()`` returns the report of the run so far, and its level of delivery.

Delivery: at least once.  The message of a call is acknowledged when its item is
delivered, so if the process dies before, another instance gets it, and answers.
"""

import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from m3.connectors.amqp import AmqpFrontend
from m3.engine.delivery import levels, lowest
from m3.engine.failures import stage_of
from m3.engine.work import Run
from m3.errors import BusError
from m3.messaging import Bus, Delivery, Message, Publication, Queue
from m3.messaging.poison import poison_in
from m3.services.calls import Methods, queue_of_calls, refuse, send_answer
from m3.services.calls import rpc_exchange as exchange_of_calls
from m3.services.errors import BadRequest
from m3.services.queues import REQUEUE
from m3.services.wire import error_message, result_message
from m3.stages import Failure, Item

__all__ = ("SubmitFrontend",)

logger = logging.getLogger("m3.services")

METHODS: Mapping[str, Callable[..., Any]] = {
    "submit": lambda item, *, wait=True: (item, bool(wait)),
    "health": lambda: None,
}
"""What others can call; the first one returns what is submitted, and whether it is waited for."""


class SubmitFrontend(AmqpFrontend):
    """
    Take the items that others submit over RPC.

    Args:
        url: of the bus: amqp://host/vhost, sqlite:///path or memory://name.
        service: the name of the service that the pipeline is to others; pipelines of
            one name share the calls.
        prefetch: how many calls may be on their way through the pipeline; further ones
            wait on the bus, as long as their callers do.
        idle_timeout: end when no call came for so many seconds, though there was room
            for one; by default the frontend waits until it is stopped.
        rpc_exchange: the exchange of calls, as in the configuration of the callers.
        bus_options: further arguments of the bus's class.
    """

    def __init__(
        self,
        *,
        url: str,
        service: str,
        prefetch: int = 100,
        idle_timeout: float | None = None,
        rpc_exchange: str = "m3-rpc",
        bus_options: Mapping[str, Any] | None = None,
    ) -> None:
        exchange = exchange_of_calls({"rpc_exchange": rpc_exchange})
        super().__init__(
            url=url,
            queue=queue_of_calls(service, exchange),
            prefetch=prefetch,
            idle_timeout=idle_timeout,
            bus_options=bus_options,
        )
        signatures = {name: inspect.signature(method) for name, method in METHODS.items()}
        self._methods = Methods(service, signatures)
        key = f"{service}.health"
        self._health_queue = Queue(f"rpc-{key}", exchange, key, auto_delete=True)
        self._run: Run | None = None
        self._level = ""

    def watch_run(self, run: Run) -> None:
        """Take the run that ``health`` is asked about."""
        self._run = run

    def setup(self) -> None:
        """Connect, and begin to receive calls; those of ``health`` are answered from now on."""
        super().setup()
        try:
            self._reception = Reception(self._bus, self._health_queue, self._asked)
        except BaseException:
            super().cleanup()
            raise

    def produce(self) -> Iterator[Item | Failure]:
        """
        Yield the items that are submitted; blocks while there are none, until it is stopped.

        Raises:
            BusError: the bus does not work.
        """
        for delivery in self.deliveries():
            item = self._taken(delivery)
            if item is None:
                self._received -= 1
            else:
                yield item

    def ack(self, position: Delivery) -> None:
        """Answer a call: the item is delivered."""
        self.ack_batch([position])

    def ack_batch(self, positions: list[Delivery]) -> None:
        """Answer calls."""
        requests = [position.message for position in positions]
        answers = [
            Publication(result_message(request, None, "nothing"), routing_key=request.reply_to)
            for request in requests
            if request.reply_to is not None
        ]
        for error in filter(None, self._published(answers)):
            logger.warning("an answer cannot be sent; its item is delivered: %s", error)
        for position in positions:
            super().ack(position)

    def nack(self, position: Delivery, error: Exception) -> None:
        """Answer a call with its error, or give it back if the run has ended before."""
        refuse(self._bus, self._consumer, position, error, stage=stage_of(error))
        self._settled += 1

    def dead_lettered(self, position: Delivery, error: Exception) -> None:
        """Answer a call with its error, though its item is kept."""
        self.nack(position, error)

    def cleanup(self) -> None:
        """Give back what was received and not dealt with, and disconnect."""
        try:
            self._reception.close()
        finally:
            self._run = None
            super().cleanup()

    def _taken(self, delivery: Delivery) -> Item | Failure | None:
        """Return the item of a call; None if there is none, and the call was answered."""
        try:
            call = self._methods.called_by(delivery.message)
        except BadRequest as error:
            refuse(self._bus, self._consumer, delivery, error)
            return None
        if call.method == "health":
            self._settle(delivery, self._health_answer)
            return None
        item, is_waited_for = METHODS["submit"](*call.args, **call.kwargs)
        if delivery.message.reply_to is not None and not is_waited_for:
            self._settle(delivery, self._kept)
            return None
        poison = poison_in(delivery)
        return Item(item, delivery) if poison is None else Failure(poison, item, delivery)

    def _settle(self, delivery: Delivery, answer: Callable[[Message], Message]) -> None:
        try:
            send_answer(self._bus, delivery.message, answer(delivery.message))
        except BusError:
            self._consumer.requeue(delivery, REQUEUE.backoff.delay_after(delivery.attempts))
        else:
            self._consumer.ack(delivery)

    def _kept(self, request: Message) -> Message:
        """Have the bus keep a call that nobody waits for any longer, and return its answer."""
        self._bus.publish(
            replace(request, reply_to=None, expiration=None),
            routing_key=self.queue.name,
            mandatory=True,
        )
        return result_message(request, None, "nothing")

    def _published(self, answers: list[Publication]) -> list[BusError | None]:
        try:
            return self._bus.publish_many(answers)
        except BusError as error:
            return [error]

    def _asked(self, request: Message) -> Message | None:
        """Return the answer to a call of ``health``; ``produce`` answers what is none."""
        try:
            self._methods.called_by(request)
        except BadRequest:
            return None
        return self._health_answer(request)

    def _health_answer(self, request: Message) -> Message:
        try:
            return result_message(request, self._health(), "the report of a run")
        except Exception as error:  # which is for who has asked, and not for the run
            return error_message(request, error)

    def _health(self) -> dict[str, Any]:
        run = self._run
        if run is None:
            return {"state": "created"}
        self._level = self._level or lowest(levels(run.plan)).level
        return {**run.report().as_dict(), "delivery": self._level}


class Reception:
    """
    Answers calls in a thread of its own, whatever else there is to do.

    Args:
        bus: where they come from.
        queue: which they are in.
        answer: returns the answer to one of them, or None.
    """

    def __init__(self, bus: Bus, queue: Queue, answer: Callable[[Message], Message | None]) -> None:
        self._bus = bus
        self._answer = answer
        self._consumer = bus.consumer(queue)
        self._thread = threading.Thread(target=self._serve, name="m3-submit-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._consumer.stop()
        self._thread.join()
        self._consumer.close()

    def _serve(self) -> None:
        try:
            while (delivery := self._consumer.receive()) is not None:
                self._reply(delivery.message)
                self._consumer.ack(delivery)
        except BusError as error:
            logger.warning("health can only be asked for among the calls from now on: %s", error)

    def _reply(self, request: Message) -> None:
        try:
            if (answer := self._answer(request)) is not None:
                send_answer(self._bus, request, answer)
        except BusError as error:
            logger.warning("the health of the pipeline cannot be sent: %s", error)
