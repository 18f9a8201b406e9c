"""Where the answers to calls come in: one queue for all calls over a bus."""

import threading
import time
import uuid
from contextlib import suppress
from typing import Any

from m3.components.component import Component
from m3.errors import BusError
from m3.messaging import Bus, Listener, Message, Queue
from m3.messaging.awaited import Awaited
from m3.services.errors import RpcTimeout
from m3.services.wire import answer_of

__all__ = ("Replies", "RpcReply")


KEPT = 300_000
"""Milliseconds for which answers wait on a broker while there is no connection to it."""


class RpcReply:
    """
    The answer to a call, perhaps not there yet.

    Attributes:
        correlation_id: what the call is known by.
        what: which call.
        seconds: how long it may take.
    """

    __slots__ = (
        "_arrived",
        "_error",
        "_message",
        "_replies",
        "_until",
        "correlation_id",
        "seconds",
        "what",
    )

    def __init__(self, replies: "Replies", what: str, seconds: float) -> None:
        self.correlation_id = replies.next_id()
        self._replies = replies
        self.what = what
        self.seconds = seconds
        self._until = time.monotonic() + seconds
        self._arrived = Awaited()
        self._message: Message | None = None
        self._error: Exception | None = None

    def result(self) -> Any:
        """
        Return what the method returned; blocks until it is known, or the call's deadline.

        Raises:
            RpcTimeout: there is no answer by the deadline; one that comes later is discarded.
            RemoteError: the method has raised; known classes come back as themselves.
            BusError: the bus has failed meanwhile.
        """
        left = max(0.0, self._until - time.monotonic())
        if not self._replies.bus.wait(self._arrived, left):
            self._replies.forget(self)
            raise RpcTimeout(f"{self.what} was not answered within {self.seconds:g} s")
        if self._message is not None:
            return answer_of(self._message)
        assert self._error is not None
        raise self._error

    def is_there(self) -> bool:
        """Return whether :meth:`result` would not block."""
        return self._arrived.is_on()

    def arrive(self, message: Message) -> None:
        """Take the answer."""
        self._message = message
        self._arrived.turn_on()

    def fail(self, error: Exception) -> None:
        """Take note that no answer will come."""
        self._error = error
        self._arrived.turn_on()


class Replies(Component):
    """
    Gives every answer to who waits for it.

    Attributes:
        bus: where calls are sent.
        late: how many answers nobody waited for any longer, or that have come before.
    """

    bus: Bus

    def __init__(self) -> None:
        self.late = 0
        self.address = f"rpc.reply-{uuid.uuid4()}"
        self._open: dict[str, RpcReply] = {}
        self._prefix = uuid.uuid4().hex
        self._count = 0
        self._lock = threading.Lock()
        self._end: Exception | None = None
        self._listener: Listener | None = None

    def setup(self) -> None:
        """Begin to receive."""
        options = {"x-expires": KEPT}
        queue = Queue(
            self.address, durable=False, auto_delete=True, exclusive=True, options=options
        )
        self._end = None
        self._listener = self.bus.listen(queue, self._take, self._stop)

    def shutdown(self) -> None:
        """Stop; calls that are not answered yet fail."""
        if self._listener is not None:
            self._listener.close()

    def next_id(self) -> str:
        """Return an id that no other call has, here or elsewhere."""
        with self._lock:
            self._count += 1
            return f"{self._prefix}-{self._count}"

    def expect(self, what: str, seconds: float) -> RpcReply:
        """Return what the answer to a call is going to be; *what* says which call."""
        reply = RpcReply(self, what, seconds)
        self._open[reply.correlation_id] = reply
        if self._end is not None:
            self.forget(reply)
            raise self._end
        return reply

    def forget(self, reply: RpcReply) -> None:
        """Discard its answer, if it comes."""
        self._open.pop(reply.correlation_id, None)

    def _take(self, message: Message) -> None:
        reply = self._open.pop(message.correlation_id or "", None)
        if reply is None:
            with self._lock:
                self.late += 1
        else:
            reply.arrive(message)

    def _stop(self, error: Exception | None) -> None:
        if error is not None:
            self.fail(error)
        end = error or BusError("the answer cannot come any more: the replies were stopped")
        self._end = end
        with suppress(KeyError):  # it is empty
            while True:
                self._open.popitem()[1].fail(end)
