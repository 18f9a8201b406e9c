"""Messages as they are: publishing to exchanges, and consuming from queues."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from m3.errors import BusError, BusTimeoutError, ConfigError, UndeliverableError
from m3.messaging import Bus, Exchange, Message, Queue
from m3.policies import Retry
from m3.services.context import WorkerContext
from m3.services.context_data import headers_of
from m3.services.dependencies import AttributeDependency
from m3.services.queues import QueueEntrypoint, has_dead_letters
from m3.services.wire import message_of

__all__ = ("Consume", "Publisher", "consume")

OPTIONS = frozenset({"expiration", "headers", "mandatory", "persistent", "priority"})


class Publisher(AttributeDependency):
    """
    Publishes payloads: ``self.publish(payload)``.

    Args:
        exchange: where to; if there is none, that of *queue*.
        queue: declared too, so that what is published waits in it; its routing key is
            the one that is used.
        declare: what else is declared when the service starts.
        options: of each message: ``mandatory``, ``expiration``, ``priority``,
            ``persistent``, ``headers``; a call may have others, and a ``routing_key``.
    """

    bus: Bus

    def __init__(
        self,
        exchange: Exchange | None = None,
        queue: Queue | None = None,
        *,
        declare: Iterable[Exchange | Queue] = (),
        **options: Any,
    ) -> None:
        if exchange is None and queue is not None:
            exchange = queue.exchange
        self.exchange = exchange
        self.queue = queue
        self.declare = tuple(declare)
        self.options = _checked(options)

    def start(self, _: Any) -> None:
        """Declare what there is to be declared."""
        present = (self.exchange, self.queue, *self.declare)
        self.bus.declare(*(entity for entity in present if entity is not None))

    def acquire_injection(self, worker_ctx: WorkerContext) -> Any:
        """Return a function that publishes a payload, and returns when the bus has it."""
        context = worker_ctx.context_to_send

        def publish(payload: Any, routing_key: str | None = None, **options: Any) -> None:
            chosen = {**self.options, **_checked(options)}
            mandatory = bool(chosen.pop("mandatory", False))
            headers = {**headers_of(context), **chosen.pop("headers", {})}
            message = message_of(payload, "a payload", headers=headers, **chosen)
            key = self._key() if routing_key is None else routing_key
            self._publish(message, key, mandatory=mandatory)

        return publish

    def _publish(self, message: Message, routing_key: str, *, mandatory: bool) -> None:
        exchange = "" if self.exchange is None else self.exchange.name
        publish = partial(
            self.bus.publish,
            message,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
        )
        try:
            publish()
        except (BusTimeoutError, UndeliverableError):
            raise
        except BusError:
            if self.exchange is None or not self.exchange.auto_delete:
                raise
            self.bus.declare(self.exchange)  # it has gone with the last of its queues
            publish()

    def _key(self) -> str:
        if self.queue is None:
            return ""
        return self.queue.name if self.exchange is None else self.queue.routing_key


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for name in options.keys() - OPTIONS:
        raise ConfigError(f"Publisher: there is no option {name!r}; there are {sorted(OPTIONS)}")
    return options


class Consume(QueueEntrypoint):
    """
    A method that is called with the payload of each message of a queue: ``@consume(queue)``.

    Args:
        queue: where the messages are.
        requeue_on_error: whether a message is given back to the queue if the method
            raises; a :class:`~m3.policies.Retry` says how often, and after how long.
            Otherwise it goes to the ``dead_letter`` of *queue*; if that has none, to
            ``dead-{service}``, or where ``dead_letters`` of the configuration says.
        options: as of :class:`DecoratorDependency`.

    Raises:
        ConfigError: *queue* is no :class:`~m3.messaging.Queue`.
    """

    def __init__(
        self, queue: Queue, *, requeue_on_error: bool | Retry = False, **options: Any
    ) -> None:
        super().__init__(requeue_on_error=requeue_on_error, **options)
        if not isinstance(queue, Queue):
            raise ConfigError(f"consume({queue!r}): it needs a Queue, as Queue('name') is one")
        self._queue = queue

    def trigger(self) -> Mapping[str, Any]:
        """Return the queue, what it is bound to, and where its dead letters go."""
        queue = self._queue
        bindings = [
            f"{binding.exchange.name} {binding.routing_key}".rstrip()
            for binding in queue.all_bindings()
        ]
        default = None if has_dead_letters(queue) else self._default_dead_letter(queue)
        dead_letters = queue.dead_letter or default
        return {"queue": queue.name, "bindings": bindings, "dead_letters": dead_letters}

    def queue(self) -> Queue:
        """Return the queue."""
        return self._queue


consume = Consume.decorator
