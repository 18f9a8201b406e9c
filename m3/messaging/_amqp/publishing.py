"""Messages on their way to the broker, until it has confirmed them."""

import struct
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import amqp
from amqp.exceptions import AMQPError, FrameSyntaxError

from m3.errors import BusError, BusTimeoutError, UndeliverableError, describe
from m3.messaging._amqp.brokers import LOST, is_verdict, reason
from m3.messaging._amqp.connection import Channel, Connection
from m3.messaging._amqp.link import MOST_LOSSES, Link
from m3.messaging._amqp.topology import Topology
from m3.messaging.awaited import Awaited
from m3.messaging.every import call_all, taken_from
from m3.policies import Backoff

__all__ = ("Parcel", "Publishing")

WINDOW = 1000
"""How many messages may be unconfirmed at once."""

SHORT = 8192
"""How many bytes are written at once where the system says that something can be."""

UNWRITABLE = (FrameSyntaxError, struct.error, TypeError, ValueError)
"""What py-amqp raises when it cannot write something down; nothing of it was sent then."""

HINT = "; are its headers too long, or is a number in them not finite?"

ROOM = Backoff(initial=0.01, maximum=0.5)
"""How long a message waits before the broker is asked again whether there is room for it."""


class Parcel:
    """
    One message to publish.

    Args:
        message: the message.
        exchange: the exchange; ``""`` for a queue by its name.
        routing_key: the routing key.
        mandatory: whether it is an error that no queue gets it.
        then: called with the error, or None, once the broker has answered; in the link's thread.
    """

    def __init__(
        self,
        message: amqp.Message,
        exchange: str,
        routing_key: str,
        *,
        mandatory: bool,
        then: Callable[[Exception | None], object] | None = None,
    ) -> None:
        self.message = message
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.refused = 0
        self.losses = 0
        self.error: Exception | None = None
        self._then = then
        self._over = Awaited()

    @property
    def is_over(self) -> bool:
        """Whether the broker has answered, or nobody waits for that any longer."""
        return self._over.is_on()

    def finish(self, error: Exception | None = None) -> None:
        """
        Tell whoever waits; the first answer counts.

        Who was interrupted while doing so may do it again.
        """
        if not self._over.is_on():
            self.error = error
            self._over.turn_on()
        if self._then is not None:
            try:
                self._then(self.error)
            except Exception:
                self._then = None
                raise
            self._then = None

    def await_answer(self, link: Link, timeout: float | None) -> bool:
        """Wait for an answer; return whether there is one.  Otherwise it is not sent again."""
        return link.wait(self._over, timeout) or self.give_up()

    def give_up(self) -> bool:
        """Have it not sent again; return whether there was an answer before."""
        was_over = self._over.is_on()
        self._over.turn_on()
        return was_over


class Publishing:
    """
    The duty of the connection that messages are published on.

    The broker confirms each.  Those that it has not confirmed when a connection is lost
    are sent again on the next one, in order.

    Args:
        topology: what is declared, on each connection.
    """

    link: Link
    """What keeps its connection up."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._waiting: deque[Parcel] = deque()
        self._unconfirmed: dict[int, Parcel] = {}
        self._taking_back = threading.Lock()
        self._sent = 0
        self._suspects = 0
        self._channel: Channel | None = None
        self.is_blocked = False

    # -- for any thread

    def send(self, *parcels: Parcel) -> None:
        """Have messages published; returns at once."""
        self._waiting.extend(parcels)
        is_short = len(self._waiting) == 1 and len(parcels[0].message.body) <= SHORT
        (self.link.soon if is_short else self.link.post)(self._flush)

    def put_off(self, parcel: Parcel, queue: str, delay: int, *, durable: bool) -> None:
        """Have a message published that reaches *queue* after *delay* milliseconds."""
        self.link.post(partial(self._put_off, parcel, queue, delay, durable))

    def await_answer(self, parcel: Parcel, timeout: float | None) -> None:
        """
        Wait until the broker has a message.

        Raises:
            BusTimeoutError: it has taken too long, and is not sent again.
            BusError: the broker does not take it.
        """
        if not parcel.await_answer(self.link, timeout):
            raise self.overdue(timeout or 0.0)
        if parcel.error is not None:
            raise parcel.error

    def overdue(self, timeout: float) -> BusTimeoutError:
        """Return the error of a message that was not confirmed in time."""
        if self.is_blocked:
            problem = "RabbitMQ takes no messages: it is short of memory or disk space"
            return BusTimeoutError(f"not published within {timeout:g} s: {problem}")
        return self.link.overdue(timeout)

    # -- the duty

    def begin(self, connection: Connection) -> None:
        """Declare all again, open a channel, and send what was not confirmed on the one before."""
        connection.on_blocked = partial(self._block, True)
        connection.on_unblocked = partial(self._block, False)
        self.topology.declare_again(connection)
        self._take_back()
        self._open(connection)

    def interrupt(self) -> None:
        """Wait for another connection."""
        self._channel = None
        self.is_blocked = False
        for parcel in self._unconfirmed.values():
            parcel.losses += 1
        are_suspects = any(each.losses > MOST_LOSSES for each in self._unconfirmed.values())
        if are_suspects or is_verdict(self.link.trouble):
            self._blame(self.link.trouble)
        else:
            self._take_back()

    def end(self, error: BusError) -> None:
        """Give up what is on its way; several threads may do so at once."""
        self._take_back()
        call_all(partial(parcel.finish, error) for parcel in taken_from(self._waiting))

    def may_be_led(self) -> bool:
        """See :meth:`Duty.may_be_led`: what nobody waits for may wait for a moment."""
        return True

    def _open(self, connection: Connection) -> None:
        channel = connection.channel()
        channel.on_refused = self._refused
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirmed)
        channel.events["basic_nack"].add(self._nacked)
        channel.events["basic_return"].add(self._returned)
        self._channel, self._sent = channel, 0
        self._flush(connection)

    def _take_back(self) -> None:
        with self._taking_back:
            unconfirmed, self._unconfirmed = self._unconfirmed, {}
        self._waiting.extendleft(reversed(unconfirmed.values()))

    def _flush(self, _: Connection) -> None:
        while self._waiting and self._channel is not None and not self.is_blocked:
            if len(self._unconfirmed) >= (1 if self._suspects else WINDOW):
                return
            parcel = self._waiting[0]
            if parcel.is_over:
                parcel.finish()
            else:
                self._send(self._channel, parcel)
            self._waiting.popleft()

    def _send(self, channel: Channel, parcel: Parcel) -> None:
        try:
            channel.publish((parcel.exchange, parcel.routing_key, parcel.mandatory), parcel.message)
        except UNWRITABLE as error:
            parcel.finish(BusError(f"AMQP cannot carry this message: {describe(error)}"))
        else:
            self._sent += 1
            self._unconfirmed[self._sent] = parcel

    def _put_off(
        self, parcel: Parcel, queue: str, delay: int, durable: bool, connection: Connection
    ) -> None:
        try:
            declare = self.topology.declare_delay
            parcel.routing_key = declare(connection, queue, delay, durable=durable)
        except LOST:
            raise
        except Exception as error:
            parcel.finish(error)
        else:
            self._send_again(parcel, connection)

    # -- what the broker says

    # A thread that reads may be interrupted.  So a message is taken off those that are not
    # confirmed when all is done that its answer demands, and else all that is done again.

    def _answered(self, answer: Callable[[Parcel], object], last: int, multiple: bool) -> None:
        numbers = [last]
        if multiple:
            numbers = [number for number in self._unconfirmed if number <= last]
        for number in numbers:
            if (parcel := self._unconfirmed.get(number)) is not None:
                answer(parcel)
                del self._unconfirmed[number]
                self._suspects = max(0, self._suspects - 1)
        if self._waiting:
            self.link.post(self._flush)

    def _confirmed(self, last: int, multiple: bool) -> None:
        self._answered(Parcel.finish, last, multiple)

    def _nacked(self, last: int, multiple: bool) -> None:
        self._answered(self._try_later, last, multiple)

    def _try_later(self, parcel: Parcel) -> None:
        """Try again later: a queue is full."""
        parcel.refused += 1
        self.link.later(ROOM.delay_after(parcel.refused), partial(self._send_again, parcel))

    def _send_again(self, parcel: Parcel, connection: Connection) -> None:
        self._waiting.append(parcel)
        self._flush(connection)

    def _returned(
        self, error: AMQPError, exchange: str, routing_key: str, message: amqp.Message
    ) -> None:
        message_id = message.properties.get("message_id")
        for parcel in self._unconfirmed.values():
            if parcel.message.properties.get("message_id") == message_id and not parcel.is_over:
                where = f"exchange {exchange!r}, routing key {routing_key!r}"
                parcel.finish(UndeliverableError(f"no queue gets it ({where}): {reason(error)}"))
                return

    def _refused(self, error: AMQPError) -> None:
        """Open another channel."""
        self._channel = None
        self._blame(error)
        self.link.post(self._open)

    def _blame(self, error: BaseException | None) -> None:
        """
        Find out which message the broker has closed the channel, or the connection, for.

        It does not say, and has forgotten the others; so they are sent again one by one.
        """
        if error is None or not self._unconfirmed:
            return
        if len(self._unconfirmed) == 1:
            (parcel,) = self._unconfirmed.values()
            why = f"{reason(error)}{HINT if is_verdict(error) else ''}"
            parcel.finish(BusError(f"RabbitMQ refuses a message: {why}"))
            self._unconfirmed.clear()
            self._suspects = max(0, self._suspects - 1)
        else:
            self._suspects = len(self._unconfirmed)
            self._take_back()

    def _block(self, is_blocked: bool, *_: Any) -> None:
        self.is_blocked = is_blocked
        if not is_blocked:
            self.link.post(self._flush)
