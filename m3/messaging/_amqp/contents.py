"""
Messages as they come in: properties and body, put together from frames.

Who publishes a message decides on every byte of these, and a broker passes them on unread.
So nothing in them may harm the connection: a message that cannot be read, or is too long, is
known by its *fault*, and its body is not kept.
"""

from collections.abc import Callable
from struct import unpack_from
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import UnexpectedFrame

from m3._wire import Confirmed, Received
from m3.errors import describe

__all__ = ("Content", "Contents")

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
"""The types of frames (AMQP 0-9-1, section 2.3.5)."""

WITH_CONTENT = frozenset((spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return))


class Content(amqp.Message):  # type: ignore[misc]  # py-amqp has no types
    """
    A message of which parts are still to come.

    Args:
        method: what it came with.
        arguments: of the method.
        longest: how many bytes its body may have.

    Attributes:
        fault: why it cannot be used; None if it can.
    """

    def __init__(self, method: tuple[int, int], arguments: bytes, longest: int) -> None:
        super().__init__()
        self.frame_method = method
        self.frame_args = arguments
        self.fault: str | None = None
        self.redelivered = False
        self.has_header = False
        self._longest = longest

    def inbound_header(self, buf: bytes, offset: int = 0) -> None:
        """Take the properties, and the length of the body."""
        self.has_header = True
        try:
            super().inbound_header(buf, offset)
            self.fault = self._fault()
        except Exception as error:  # there are many ways to write what nobody can read
            self.fault = f"its properties cannot be read: {describe(error)}"
        if self.fault is not None:
            self.properties: dict[str, Any] = {}
        self.ready = not self.body_size

    def inbound_body(self, buf: bytes) -> None:
        """Take a part of the body."""
        if self.fault is None:
            super().inbound_body(buf)
            return
        self.body_received += len(buf)
        self.ready = self.body_received >= self.body_size

    def _fault(self) -> str | None:
        if self.body_size > self._longest:
            return (
                f"its body has {self.body_size:,} bytes; {self._longest:,} are allowed (max_body)"
            )
        if not all(
            isinstance(name, str) for name in self.properties.get("application_headers", ())
        ):
            return "the name of a header is no UTF-8"
        return None


class Contents:
    """
    Handles the frames of a connection.

    Args:
        connection: whose frames they are; its ``longest_body`` is the bound of each body.
        callback: called with the channel, the method, its arguments, and its content if it
            has one; not with deliveries, which the channel takes itself.
    """

    def __init__(self, connection: Any, callback: Callable[..., object]) -> None:
        self._connection = connection
        self._callback = callback
        self._begun: dict[int, Content] = {}

    @property
    def are_whole(self) -> bool:
        """Whether no message has begun whose parts have not all come."""
        return not self._begun

    def take(self, arrived: Received | Confirmed) -> None:
        """Handle what has come as a whole; nobody wants it whose channel is about to be closed."""
        self._connection.bytes_recv += 1
        receiver = self._receiver(arrived.channel)
        if receiver is not None:
            receiver.take(arrived)

    def __call__(self, frame: tuple[int, int, bytes]) -> bool:
        """
        Handle a frame; return whether a method was handled.

        Raises:
            UnexpectedFrame: something else should have come.
        """
        kind, channel, payload = frame
        self._connection.bytes_recv += 1
        if kind == HEARTBEAT:
            return False
        content = self._begun.get(channel)
        if content is None:
            return self._begin(kind, channel, payload)
        expected = BODY if content.has_header else HEADER
        if kind != expected:
            raise UnexpectedFrame(f"a frame of type {kind} instead of {expected}")
        (content.inbound_body if content.has_header else content.inbound_header)(payload)
        if not content.ready:
            return False
        del self._begun[channel]
        receiver = self._receiver(channel)
        if receiver is not None and content.frame_method == spec.Basic.Deliver:
            receiver.take_content(content)
        else:
            self._callback(channel, content.frame_method, content.frame_args, content)
        return True

    def _begin(self, kind: int, channel: int, payload: bytes) -> bool:
        if kind != METHOD:
            raise UnexpectedFrame(f"a frame of type {kind} instead of {METHOD}")
        method = unpack_from(">HH", payload)
        if method not in WITH_CONTENT:
            self._callback(channel, method, payload, None)
            return True
        self._begun[channel] = Content(method, payload, self._connection.longest_body)
        return False

    def _receiver(self, channel: int) -> Any:
        """Return the channel of that number, unless it is about to be closed."""
        found = (self._connection.channels or {}).get(channel)
        return None if found is None or found.is_closing else found
