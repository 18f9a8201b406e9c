"""py-amqp's connection and channels, read in large pieces, and closed one without the other."""

import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Any

from amqp import spec
from amqp.exceptions import AMQPError, RecoverableConnectionError, UnexpectedFrame, error_for_code
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

from m3._wire import Confirmed, Frames, Received, acknowledgement, publication
from m3.messaging._amqp.contents import Content, Contents

__all__ = ("Channel", "Connection", "Plain", "Transport")

PIECE = 65536
"""How many bytes are read at once."""

INSTANT = 0.001
"""Seconds to wait for the rest of what TLS has begun to receive."""

MOST_FRAMES = 1000
"""How many frames are read to find out why a connection is closed."""

CONFIRM = Struct(">QB")
METHOD_SIZE = 4
"""How many bytes say which method something is."""


class Channel(pyamqp.Channel):
    """
    A channel that the broker may close without harm to the connection's other channels.

    py-amqp opens such a channel anew and raises out of whatever was being read.  This one
    stays closed, and only who waits for its answers, or has left a callback, is told.
    """

    refusal: AMQPError | None = None
    on_refused: Callable[[AMQPError], object] | None = None

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        self.send_method(spec.Channel.CloseOk)
        self.refusal = error_for_code(reply_code, reply_text, (class_id, method_id), AMQPError)
        self.collect()
        if self.on_refused is not None:
            self.on_refused(self.refusal)

    def publish(self, route: tuple[str, str, bool], message: Any) -> None:
        """Publish a message by exchange, routing key and mandatory; reads nothing meanwhile."""
        longest = self._open_connection().frame_max
        body = message.body if type(message.body) is bytes else bytes(memoryview(message.body))
        piece = publication(self.channel_id, route, message.properties, body, longest)
        if piece is None:
            self.send_method(spec.Basic.Publish, "Bssbb", (0, *route, False), message)
        else:
            self._write(piece)

    def acknowledge(self, number: int, *, with_earlier: bool = False) -> None:
        """Acknowledge the message of that number, and perhaps all before it."""
        self._write(acknowledgement(self.channel_id, number, with_earlier))

    def _write(self, piece: bytes) -> None:
        self._open_connection().transport.write(piece)

    def _open_connection(self) -> "Connection":
        connection: Connection | None = self.connection
        if connection is None:
            raise RecoverableConnectionError("the channel is closed")
        return connection

    def take(self, arrived: Received | Confirmed) -> None:
        """Take a message, or a confirm, that has come as a whole."""
        if type(arrived) is Confirmed:
            self._on_basic_ack(arrived.number, arrived.is_multiple)
        elif (callback := self.callbacks.get(arrived.consumer_tag)) is not None:
            callback(arrived)
        else:  # it was cancelled
            self.basic_reject(arrived.delivery_tag, requeue=True)

    def take_content(self, content: Content) -> None:
        """Take a message whose parts have all come."""
        payload = content.frame_args
        end = METHOD_SIZE + 1 + payload[METHOD_SIZE]
        number, redelivered = CONFIRM.unpack_from(payload, end)
        tag = payload[METHOD_SIZE + 1 : end].decode()
        content.redelivered = bool(redelivered)
        self._on_basic_deliver(tag, number, bool(redelivered), "", "", content)

    def wait(self, *args: Any, **options: Any) -> Any:
        """Wait for an answer; raise what the broker closes the channel with."""
        try:
            return super().wait(*args, **options)
        except RecoverableConnectionError:
            if self.refusal is None:
                raise
            raise self.refusal from None


class Plain(TCPTransport):  # type: ignore[misc]  # py-amqp has no types
    """
    What is written goes to the system at once, as far as it takes it.

    A *hurried* writer does not wait for the broker to read.  What it could not write is kept,
    and written before anything else.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_hurried = False
        self.unsent = bytearray()
        """What was to be written and is not yet; :meth:`write_rest` writes it."""

    def write(self, piece: bytes | memoryview) -> None:
        """Write something, or its beginning if that is all that a hurried writer can."""
        if not self.unsent:
            try:
                sent = os.write(self.sock.fileno(), piece)
            except BlockingIOError:
                sent = 0
            if sent == len(piece):
                return
            piece = piece[sent:]
        self.unsent += piece
        if not self.is_hurried:
            self.write_rest()

    def write_rest(self) -> None:
        """Write what is unsent, however long that takes."""
        rest, self.unsent = self.unsent, bytearray()
        self.sock.sendall(rest)


def transport_to(
    host: str, connect_timeout: float, ssl: Any, *timeouts: Any, **options: Any
) -> Any:
    """Return what carries a connection; the arguments are py-amqp's."""
    if ssl:
        return SSLTransport(host, connect_timeout, ssl, **options)
    return Plain(host, connect_timeout, *timeouts, **options)


class Connection(pyamqp.Connection):
    """
    A connection with channels as above, which reads as much at once as there is.

    Args:
        longest_body: how many bytes a message may have.
        options: as py-amqp has them.
    """

    Channel = Channel
    Transport = staticmethod(transport_to)
    verdict: AMQPError | None = None
    """What the broker has closed it with."""

    def __init__(self, *, longest_body: int, **options: Any) -> None:
        super().__init__(frame_handler=Contents, **options)
        self.longest_body = longest_body
        self._frames = Frames(UnexpectedFrame)

    def connect(self, callback: Callable[[], object] | None = None) -> Any:
        """Connect; whatever goes wrong, no socket is left."""
        try:
            return super().connect(callback)
        except AMQPError:
            self.collect()
            raise

    def last_words(self) -> AMQPError | None:
        """Return what the broker has closed it with, if that has arrived, also unread."""
        with suppress(Exception):
            for _ in range(MOST_FRAMES):
                if self.verdict is not None or not self.connected:
                    break
                self.blocking_read(INSTANT)
        return self.verdict

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        self.verdict = error_for_code(reply_code, reply_text, (class_id, method_id), AMQPError)
        super()._on_close(reply_code, reply_text, class_id, method_id)

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Handle one frame; wait for it."""
        while (frame := self._frames.take(self.frame_max)) is None:
            self._receive(timeout)
        return self.on_inbound_frame(frame)

    def handle_frames(self) -> None:
        """Handle what was received already."""
        frames, contents, longest = self._frames, self.on_inbound_frame, self.longest_body
        while self.connected:
            if contents.are_whole and (whole := frames.take_whole(self.frame_max, longest)):
                contents.take(whole)
            elif (frame := frames.take(self.frame_max)) is not None:
                contents(frame)
            else:
                return

    def receive(self) -> None:
        """Receive what has arrived, if nobody else has; :meth:`handle_frames` is next."""
        sock = self.transport.sock
        if isinstance(sock, ssl.SSLSocket):
            self._receive_tls(sock)
            return
        with suppress(BlockingIOError):
            self._add(os.read(sock.fileno(), PIECE))

    def _receive_tls(self, sock: ssl.SSLSocket) -> None:
        is_more = True
        while is_more:
            try:
                self._receive(INSTANT)
            except TimeoutError:
                return
            is_more = sock.pending() > 0

    def _receive(self, timeout: float | None) -> None:
        if timeout is None:
            piece = self.transport.sock.recv(PIECE)
        else:
            with self.transport.having_timeout(timeout) as sock:
                piece = sock.recv(PIECE)
        self._add(piece)

    def _add(self, piece: bytes) -> None:
        if not piece:
            raise ConnectionResetError("the broker has closed the connection")
        self._frames.add(piece)


class Transport(pyamqp.Transport):
    """What kombu makes such a connection with."""

    Connection = Connection
