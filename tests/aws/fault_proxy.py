"""
A proxy in front of moto's server, by which tests have AWS fail.

Before a request goes on, ``proxy.fault`` is called with it, and says what becomes of
it: a :class:`Fault`, or None to let it pass.  ``proxy.seen`` has all requests.
"""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")
THROTTLED = "SlowDown"


@dataclass(frozen=True)
class Request:
    """What a client has asked, and as whom."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    access_key: str = field(init=False)
    region: str = field(init=False)
    service: str = field(init=False)

    def __post_init__(self):
        found = CREDENTIAL.search(self.headers.get("authorization", ""))
        names = ("access_key", "region", "service")
        for name, value in zip(names, found.groups() if found else ("", "", ""), strict=True):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Fault:
    """
    What becomes of a request.

    Attributes:
        status: answer with this status, and do nothing else.
        code: the code of the error in that answer.
        cut: reset the connection after so many bytes of the answer's body.
        wait: do all this only when this event is set; an event that is never set is a black hole.
    """

    status: int = 0
    code: str = ""
    cut: int | None = None
    wait: threading.Event | None = None


SLOW_DOWN = Fault(503, THROTTLED)
EXPIRED = Fault(400, "ExpiredToken")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_):
        pass

    def answer(self):
        proxy = self.server.proxy
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.body())
        proxy.seen.append(request)
        fault = proxy.fault(request) or Fault()
        if fault.wait is not None and not proxy.wait(fault.wait):
            self.reset()
        elif fault.status:
            self.send(fault.status, [], error_body(request, fault.code), None)
        else:
            self.send(*proxy.forward(request), fault.cut)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, status, headers, body, cut):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.reset()

    def reset(self):
        """End the connection by a reset: what the client has not read is lost to it."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def error_body(request, code):
    """Return how a service says *code*: S3 and those of the query protocol as XML."""
    if "x-amz-target" in request.headers:
        return b'{"__type": "%s", "message": "a fault of the tests"}' % code.encode()
    text = f"<Code>{code}</Code><Message>a fault of the tests</Message>"
    outer = (
        "<Error>%s</Error>"
        if request.service == "s3"
        else ("<ErrorResponse><Error>%s</Error></ErrorResponse>")
    )
    return (outer % text).encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200

    def handle_error(self, *_):
        """Say nothing: clients that are reset, or go away, are what this is for."""


class FaultProxy:
    """An HTTP server that passes requests on to *target*, with faults."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).netloc
        self._closing = threading.Event()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.proxy = self
        self.fault: Callable[[Request], Fault | None] = lambda request: None
        self.seen: list[Request] = []
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def forward(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        """Have the target answer; return the status, the headers and the body."""
        connection = http.client.HTTPConnection(self._target, timeout=30)
        headers = {k: v for k, v in request.headers.items() if k != "transfer-encoding"}
        headers["content-length"] = str(len(request.body))
        try:
            connection.request(request.method, request.path, request.body, headers)
            answer = connection.getresponse()
            dropped = ("connection", "transfer-encoding", "server", "date")
            kept = [pair for pair in answer.getheaders() if pair[0].lower() not in dropped]
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def wait(self, event: threading.Event) -> bool:
        """Wait for *event*; return whether it came before the end of the proxy."""
        while not event.wait(0.02):
            if self._closing.is_set():
                return False
        return True

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def fault_proxy(aws) -> Iterator[FaultProxy]:
    """Return a proxy before moto's server; its ``url`` is for ``endpoint_url=``."""
    proxy = FaultProxy(aws)
    yield proxy
    proxy.close()
