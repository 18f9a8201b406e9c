"""
Which of all instances of a service has the turn, by nothing but the bus that they are on.

Who has the consumer of an exclusive queue leads: there is one at most, and none any more
when its process is gone.  Before a turn the leader notes it in another queue, where the
next leader finds what was begun, and then sends itself a word through the exclusive one:
who does not get it has lost the lead without knowing, for it was stuck or cut off.  The
others send a word there, too: if no queue gets it, nobody leads.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from time import monotonic
from uuid import uuid4

from m3.errors import BusError, BusTimeoutError, UndeliverableError
from m3.messaging import Bus, Consumer, Delivery, Message, Queue

__all__ = ("Turns",)

logger = logging.getLogger("m3.services")

PATIENCE = 10.0
"""Seconds that a word may take on the bus."""

MEMORY = 60.0
"""Seconds for which it is known what was begun: so far may the clocks of machines be apart."""

AUTHOR = "m3-author"
DUE = "m3-due"

PREFETCH = 100


class Turns:
    """
    One instance's part in who has the turn.

    One thread takes turns; the other methods may be called in any.

    Args:
        bus: what all instances are on.
        name: of what they take turns at; the queues are called so.
    """

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._lead = Queue(f"{name}-lead", durable=False, exclusive=True)
        self._begun = Queue(f"{name}-begun")
        self._author = uuid4().hex
        self._last = float("-inf")
        self._consumer: Consumer | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def take(self, due: float) -> bool:
        """
        Return whether this instance has the turn of a time; blocks while the bus works on it.

        Of all instances one has it at most.  If the bus cannot be used, or the leader dies
        or loses the lead just then, nobody has.

        Args:
            due: the time, in seconds since 1970.

        Raises:
            BusError: the bus does not work, and is not going to.
        """
        try:
            return self._take(due)
        except (BusTimeoutError, UndeliverableError) as error:
            if not self._is_stopped:
                logger.warning("%s: a turn is left out: %s", self._name, error)
            self._give_up()
            return False

    def stop(self) -> None:
        """Let :meth:`take` return False, now and from now on; the lead is kept."""
        with self._lock:
            self._is_stopped = True
            if self._consumer is not None:
                self._consumer.stop()

    def close(self) -> None:
        """Let another instance lead."""
        with self._lock:
            consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _take(self, due: float) -> bool:
        for _ in range(2):  # the lead may be lost, and there to be taken again
            consumer = self._consumer or self._begin_to_lead()
            if self._is_stopped or consumer is None or self._was_begun(due):
                return False
            self._note(due)
            if self._hears_itself(consumer):
                self._last = due
                return True
            self._give_up()
        return False

    def _begin_to_lead(self) -> Consumer | None:
        """Take the lead if nobody has it."""
        if self._say(uuid4().hex):
            return None
        try:
            consumer = self._bus.consumer(self._lead, prefetch=PREFETCH)
        except BusTimeoutError:
            raise
        except BusError as error:
            logger.debug("%s: another instance was quicker: %s", self._name, error)
            return None
        with self._lock:
            self._consumer = consumer
            if self._is_stopped:
                consumer.stop()
        self._read_what_was_begun()
        logger.info("%s: this instance leads", self._name)
        return consumer

    def _give_up(self) -> None:
        if self._consumer is not None and not self._is_stopped:
            logger.info("%s: this instance does not lead any more", self._name)
            self.close()

    # -- through the exclusive queue

    def _say(self, word: str) -> bool:
        """Send a word to who leads; return whether somebody does."""
        message = Message(body=b"", correlation_id=word, expiration=MEMORY, persistent=False)
        try:
            self._publish(message, self._lead)
        except UndeliverableError:
            return False
        return True

    def _hears_itself(self, consumer: Consumer) -> bool:
        word = uuid4().hex
        if not self._say(word):
            return False
        try:
            for delivery in _until(consumer, word):
                consumer.ack(delivery)
        except BusError:
            return False
        return True

    # -- through the other one

    def _was_begun(self, due: float) -> bool:
        return 0 <= self._last - due < MEMORY

    def _note(self, due: float) -> None:
        headers = {AUTHOR: self._author, DUE: due}
        self._publish(Message(body=b"", headers=headers, expiration=MEMORY), self._begun)

    def _read_what_was_begun(self) -> None:
        """
        Read the notes of the others, of which the last one stays for the next leader.

        Its own do not count: what it has noted, and could not begin, it may try again.
        """
        word, last = uuid4().hex, None
        with closing(self._bus.consumer(self._begun, prefetch=PREFETCH)) as consumer:
            message = Message(body=b"", correlation_id=word, expiration=MEMORY)
            self._publish(message, self._begun)
            for delivery in _until(consumer, word):
                if last is not None:
                    consumer.ack(last)
                last = delivery
                headers = delivery.message.headers
                if DUE in headers and headers.get(AUTHOR) != self._author:
                    self._last = max(self._last, float(headers[DUE]))

    def _publish(self, message: Message, queue: Queue) -> None:
        self._bus.publish(message, routing_key=queue.name, mandatory=True, timeout=PATIENCE)


def _until(consumer: Consumer, word: str) -> Iterator[Delivery]:
    """
    Yield what is received before *word*, and acknowledge that.

    Raises:
        BusTimeoutError: it does not come.
    """
    deadline = monotonic() + PATIENCE
    while delivery := consumer.receive(max(0.0, deadline - monotonic())):
        if delivery.message.correlation_id == word:
            consumer.ack(delivery)
            return
        yield delivery
    raise BusTimeoutError(f"what was sent through the bus did not arrive within {PATIENCE:g} s")
