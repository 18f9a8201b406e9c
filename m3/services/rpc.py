"""Methods that others can call: the side of the service."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from m3.errors import AbandonedError, BusError, RetryLater
from m3.messaging import Delivery, Message
from m3.messaging.poison import poison_in
from m3.services.calls import Methods, queue_of_calls, refuse, rpc_exchange, send_answer
from m3.services.context import ServiceContext, WorkerContext
from m3.services.entrypoints import DecoratorDependency, signature_of
from m3.services.errors import BadRequest, RpcTimeout, ServiceStopped
from m3.services.queues import QueueFrontend, Received
from m3.services.wire import error_message, result_message
from m3.stages import Failure, Frontend, Item

__all__ = ("Rpc", "rpc")

logger = logging.getLogger("m3.services")


class Rpc(DecoratorDependency):
    """
    A method that other services, and programs, can call; use it as ``@rpc``.

    The message of a call is acknowledged when its answer was sent: if the
    process dies before, another one makes the call again.  So it is if the bus does not
    take the answer, ten times at most.
    """

    server: "RpcServer"

    @classmethod
    def frontends(cls, entrypoints: Sequence[Self]) -> Iterator[tuple[str, Frontend[Any]]]:
        """Yield the one frontend for all methods of a service."""
        yield "rpc", RpcServer(entrypoints[0].srv_ctx, entrypoints)

    def trigger(self) -> Mapping[str, Any]:
        """Return the queue that the calls are in."""
        return {"queue": queue_of_calls(self.srv_ctx.name, rpc_exchange(self.srv_ctx.config)).name}

    def handle_result(self, worker_ctx: WorkerContext) -> None:
        """Send the result to who has called."""
        what = f"the result of {worker_ctx.service_name}.{worker_ctx.method_name}"
        request = worker_ctx.origin.message
        self.server.answer(request, result_message(request, worker_ctx.result, what))

    def put_off(self, worker_ctx: WorkerContext, error: RetryLater) -> None:
        """Let it be made again, unless its caller does not wait for so long."""
        deadline = worker_ctx.deadline
        if deadline is not None and time.monotonic() + error.seconds > deadline:
            what = f"{worker_ctx.service_name}.{worker_ctx.method_name}"
            raise RpcTimeout(
                f"{what} wants to be called again in {error.seconds:g} s, which is after the "
                f"deadline of the call: {error}"
            ) from error

    def handle_stop(self, worker_ctx: WorkerContext) -> None:
        """Send whoever has called that there will be no result."""
        what = f"{worker_ctx.service_name}.{worker_ctx.method_name}"
        request = worker_ctx.origin.message
        error = ServiceStopped(f"{what} has ended its service")
        try:
            self.server.answer(request, error_message(request, error))
        except (AbandonedError, BusError) as trouble:
            logger.warning("%r cannot be answered: %s", worker_ctx, trouble)


rpc = Rpc.decorator


class RpcServer(QueueFrontend):
    """
    Receives the calls of a service, and answers those that are none.

    What does not name a method, or has arguments that the method does not take,
    is answered without a worker.
    """

    def __init__(self, srv_ctx: ServiceContext, entrypoints: Sequence[Rpc]) -> None:
        self._srv_ctx = srv_ctx
        self._entrypoints = {entrypoint.method_name: entrypoint for entrypoint in entrypoints}
        signatures = {name: signature_of(each) for name, each in self._entrypoints.items()}
        self._methods = Methods(srv_ctx.name, signatures)
        for entrypoint in entrypoints:
            entrypoint.server = self

    def setup(self) -> None:
        """Begin to receive."""
        exchange = rpc_exchange(self._srv_ctx.config)
        self.consume(queue_of_calls(self._srv_ctx.name, exchange), self._srv_ctx.max_workers)

    def item(self, delivery: Delivery) -> Item | Failure:
        """Return the call that a message makes, or why it makes none."""
        if poison := poison_in(delivery):
            return Failure(poison, position=Received(delivery))
        try:
            return Item(self._call(delivery), Received(delivery))
        except BadRequest as error:
            return Failure(error, position=Received(delivery))

    def nack(self, position: Received, error: Exception) -> None:
        """Send the error to who has called; give a call back that was not made, or too late."""
        bus = self.bus_if_there
        if bus is None:
            self.consumer.requeue(position.delivery)
        else:
            refuse(bus, self.consumer, position.delivery, error)

    def answer(self, request: Message, answer: Message) -> None:
        """
        Send an answer.

        Raises:
            AbandonedError: it is too late.
            BusError: the bus does not take it.
        """
        bus = self.bus_if_there
        if bus is None:
            raise AbandonedError(
                "it has ended after its service, too late to be answered; its message is back in "
                "the queue, and the call is made again"
            )
        send_answer(bus, request, answer)

    def _call(self, delivery: Delivery) -> WorkerContext:
        call = self._methods.called_by(delivery.message)
        return WorkerContext(
            self._srv_ctx,
            self._entrypoints[call.method],
            call.args,
            call.kwargs,
            call.context,
            deadline=call.deadline,
            origin=delivery,
        )
