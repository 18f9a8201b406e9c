"""Connections of clients over HTTP, each of which has only so much time to send a request."""

import socket
from time import monotonic
from typing import Any

from cheroot.makefile import StreamReader
from cheroot.server import HTTPConnection

__all__ = ("TimedConnection",)


class TimedSocket(socket.SocketIO):
    """
    A socket that is read until a moment; whoever sends a byte now and then gains nothing by it.

    Attributes:
        until: the moment, on the monotonic clock.
    """

    until: float = float("inf")

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there; raise ``TimeoutError`` if nothing comes in time."""
        sock: socket.socket = self._sock  # type: ignore[attr-defined]
        patience = sock.gettimeout()
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left if patience is None else min(left, patience))
        try:
            return super().readinto(buffer)
        finally:
            sock.settimeout(patience)


class TimedReader(StreamReader):
    """What a request is read from."""

    def __init__(self, source: TimedSocket, size: int) -> None:
        super(StreamReader, self).__init__(source, size)
        self.bytes_read = 0


class TimedConnection(HTTPConnection):
    """A connection of a client; the server's ``request_timeout`` is the time of each request."""

    def __init__(self, server: Any, sock: Any, makefile: Any) -> None:
        super().__init__(server, sock, makefile)
        self._source = TimedSocket(sock, "rb")
        self.rfile = TimedReader(self._source, self.rbufsize)

    def communicate(self) -> Any:
        """Receive a request, and answer it."""
        self._source.until = monotonic() + self.server.request_timeout
        return super().communicate()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close it, and forget what its client has not taken."""
        super().close()
        self.wfile.raw.close()
