"""
A plugin of pytest: a proxy before a TCP server, by which tests have the network fail.

Bytes are held back or slowed down, and never lost: what a black hole has taken comes out
when it is healed, as after a partition of a network.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

UP, DOWN = "up", "down"
"""From the client to the server, and back."""

SLICES = 20
"""How many times a second a limited rate passes something on."""


class TcpProxy:
    """A TCP server that passes bytes on to *target*, a pair of host and port, with faults."""

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self.tls = tls
        self._open = {UP: threading.Event(), DOWN: threading.Event()}
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.latency = 0.0
        self.rate = 0
        self.connections = 0
        self.seen = {UP: Counter(), DOWN: Counter()}
        self._listener: socket.socket | None = None
        self.port = 0
        self.heal()

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Pass everything on again, also what was held back."""
        self.latency = self.rate = 0
        for direction in self._open.values():
            direction.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,)).start()

    def down(self) -> None:
        """Refuse connections, and end those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def reset(self) -> None:
        """Reset all connections, as a firewall does."""
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def hold(self, *directions: str) -> None:
        """Be a black hole."""
        for direction in directions:
            self._open[direction].clear()

    def close(self) -> None:
        self._closing.set()
        self.down()
        for direction in self._open.values():
            direction.set()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._begin, args=(client,)).start()

    def _begin(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            server = socket.create_connection(self._target)
            with self._lock:
                self.connections += 1
                self._sockets |= {client, server}
            back = threading.Thread(target=self._pump, args=(server, client, DOWN))
            back.start()
            self._pump(client, server, UP)
            back.join()
            server.close()
        client.close()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._closing.wait(self.latency)
                self.seen[direction].add(data)
                while data:
                    self._open[direction].wait()
                    data = self._pass_on(sink, data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, sink: socket.socket, data: bytes) -> bytes:
        """Pass on what the rate allows; return the rest."""
        most = self.rate // SLICES or len(data)
        sink.sendall(data[:most])
        self._closing.wait(1 / SLICES if self.rate else 0)
        return data[most:]


FAULTS = {
    "down": lambda proxy: proxy.down(),
    "reset": lambda proxy: proxy.reset(),
    "black hole up": lambda proxy: proxy.hold(UP),
    "black hole down": lambda proxy: proxy.hold(DOWN),
    "black hole": lambda proxy: proxy.hold(UP, DOWN),
}
"""What a proxy does so that nothing comes through."""


class Counter:
    """How often a text was seen among the bytes that went by."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._text = b""
        self._count = 0

    def watch(self, text: bytes) -> None:
        """Begin to count *text*."""
        with self._changed:
            self._text, self._count = text, 0

    def add(self, data: bytes) -> None:
        if self._text:
            with self._changed:
                self._count += data.count(self._text)
                self._changed.notify_all()

    def wait(self, count: int, timeout: float) -> bool:
        """Wait until the text was seen so often."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count >= count, timeout)


@pytest.fixture
def tcp_proxy(rabbitmq) -> Iterator[TcpProxy]:
    """Return a proxy before RabbitMQ."""
    parts = urlsplit(rabbitmq)
    proxy = TcpProxy((parts.hostname, parts.port or 5672))
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(rabbitmq, tcp_proxy) -> str:
    """Return the URL of RabbitMQ behind the proxy."""
    parts = urlsplit(rabbitmq)
    netloc = f"{parts.username}:{parts.password}@{tcp_proxy.netloc}"
    return parts._replace(netloc=netloc).geturl()
