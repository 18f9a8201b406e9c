"""``HealthServer``: real connections, quick and slow, few and many."""

import contextlib
import json
import os
import socket
import threading
from http.client import HTTPConnection

import pytest

from m3.engine.health import Health
from m3.errors import ConfigError
from m3.observe import _probes
from m3.observe.health import HealthServer, host_and_port

READY = Health("shop", "ready", 3, {"bus": None})


class Shop:
    """What is examined: a health that the test sets, and how often it was asked for."""

    def __init__(self, health=READY):
        self.health = health
        self.asked = []

    def __call__(self, *, checked):
        self.asked.append(checked)
        return {self.health.name: self.health}


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def server(shop):
    with HealthServer("127.0.0.1:0", shop) as server:
        yield server


def request(server, method, path):
    """Ask, and return the response and its body."""
    host, _, port = server.address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def get(server, path):
    response, body = request(server, "GET", path)
    return response.status, json.loads(body)


def connected(server):
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def is_hung_up(client):
    """Wait for what comes next; tell whether that is the end."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def drip(client):
    """Send byte after byte, until the connection is closed."""
    client.settimeout(0.01)
    with contextlib.suppress(ConnectionError):
        while True:
            client.sendall(b"X")
            with contextlib.suppress(TimeoutError):
                if client.recv(1) == b"":
                    return


def threads():
    return [each.name for each in threading.enumerate() if each.name.startswith("m3-health")]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_ready(server, shop):
    """All is well: 200, and JSON with what each part is about; the components were asked."""
    assert get(server, "/readyz") == (
        200,
        {
            "ready": True,
            "problems": [],
            "services": {
                "shop": {
                    "state": "ready",
                    "in_flight": 3,
                    "components": {"bus": None},
                    "errors": [],
                    "hung": None,
                }
            },
        },
    )
    assert shop.asked == [True]


@pytest.mark.parametrize(
    ("health", "live", "problems"),
    [
        (Health("shop", "starting"), 200, ["shop: starting"]),
        (Health("shop", "draining", 1), 200, ["shop: draining"]),
        (Health("shop", "stopped"), 200, ["shop: stopped"]),
        (Health("shop", "ready", 0, {"bus": "is gone"}), 200, ["shop: bus: is gone"]),
        (Health("shop", "ready", hung="all hang"), 503, ["shop: all hang"]),
        (Health("shop", "failed", errors=("no!",)), 503, ["shop: failed", "shop: no!"]),
    ],
)
def test_when_it_is_neither(server, shop, health, live, problems):
    """It is not ready for any of the reasons, and not alive only if a new start would help."""
    shop.health = health
    status, body = get(server, "/readyz")
    assert (status, body["ready"], body["problems"]) == (503, False, problems)
    status, body = get(server, "/livez")
    assert (status, body["live"]) == (live, live == 200)
    assert body["problems"] == (problems if live == 503 else [])
    assert shop.asked == [True, False]


def test_what_else_is_asked(server):
    """HEAD has no body, a query is ignored, and what is neither is refused."""
    response, body = request(server, "HEAD", "/livez?verbose")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0
    assert response.headers["Cache-Control"] == "no-store"
    assert request(server, "GET", "/")[0].status == 404
    refused, _ = request(server, "POST", "/livez")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", b"GET /livez\r\n\r\n", b"GET / x\xff\n\n", b"A" * 9000]
)
def test_no_request(server, sent):
    """What is no request of HTTP, or a very long one, is told so, and hung up on."""
    with connected(server) as client:
        client.sendall(sent)
        assert client.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


def test_a_request_in_pieces(server):
    """A request may come byte by byte."""
    with connected(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /livez HTTP/1.0\r\n\r\n":
            client.send(bytes([byte]))
        assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


def test_what_fails_while_it_is_examined(shop):
    """The client is told, and the server lives on."""

    def examine(*, checked):
        if checked:
            raise RuntimeError("cannot look")
        return shop(checked=checked)

    with HealthServer("127.0.0.1:0", examine) as server:
        assert get(server, "/readyz") == (500, {"error": "RuntimeError: cannot look"})
        assert get(server, "/livez")[0] == 200


def test_who_asks_meanwhile_waits_for_the_next_answer():
    """While the answer for the first is looked for, many ask: one more is for all of them."""
    begun, may_end = threading.Semaphore(0), threading.Event()
    asked = []

    def examine(*, checked):
        asked.append(checked)
        if checked and len(asked) == 1:
            begun.release()
            may_end.wait(20)
        return {"shop": READY}

    with HealthServer("127.0.0.1:0", examine) as server:
        clients = [connected(server) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            if not number:
                assert begun.acquire(timeout=20)
        assert get(server, "/livez")[0] == 200  # they have all come before this one
        may_end.set()
        for client in clients:
            with client:
                assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
    assert asked == [True, False, True]


def test_slow_clients_keep_nobody_waiting(server):
    """However many send no end of a request, the next probe is answered; the oldest are closed."""
    before = len(threads())
    slow = [connected(server) for _ in range(3 * _probes.MOST_CONNECTIONS)]
    for client in slow:
        client.sendall(b"GET /livez HTTP/1.1\r\nA: ")
    assert get(server, "/livez")[0] == 200
    assert get(server, "/readyz")[0] == 200
    assert len(threads()) == before
    assert is_hung_up(slow[0])
    for client in slow:
        client.close()


def test_a_slow_client_is_closed(shop, monkeypatch):
    """A connection does not last longer than a few seconds, whatever it sends in that time."""
    monkeypatch.setattr(_probes, "PATIENCE", 0.2)
    with HealthServer("127.0.0.1:0", shop) as server, connected(server) as client:
        drip(client)


def test_a_thousand_probes_leave_nothing(shop):
    """No thread and no descriptor is left of the probes, nor of the server when it is closed."""
    at_first = descriptors()
    with HealthServer("127.0.0.1:0", shop) as server:
        get(server, "/livez")
        before = sorted(threads())
        assert before == ["m3-health", "m3-health-livez", "m3-health-readyz"]
        for _ in range(500):
            get(server, "/livez")
            get(server, "/readyz")
        assert sorted(threads()) == before
    assert threads() == []
    assert descriptors() == at_first


def test_a_close_ends_what_waits(shop):
    """Who waits when the server is closed finds the connection closed, and no thread hangs."""
    with HealthServer("127.0.0.1:0", shop) as server:
        client = connected(server)
        assert get(server, "/livez")[0] == 200
    with client:
        assert is_hung_up(client)
    assert threads() == []


def test_a_close_while_somebody_arrives(shop):
    """A client that comes at the same moment is hung up on, and its socket is not forgotten."""
    at_first = descriptors()
    for _ in range(50):
        with HealthServer("127.0.0.1:0", shop) as server:
            client = connected(server)
        client.close()
    assert descriptors() == at_first


def test_an_address_in_use(server):
    """It is a mistake that says which address, and why."""
    port = server.address.rpartition(":")[2]
    other = HealthServer(port, Shop())
    with pytest.raises(ConfigError, match=f"cannot answer probes on '{port}': Address already"):
        other.start()
    other.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8081", ("127.0.0.1", 8081)),
        (":8081", ("", 8081)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_addresses(text, address):
    """A port alone is that of this machine only; with a colon before it, of all addresses."""
    assert host_and_port(text) == address


@pytest.mark.parametrize("text", ["", "localhost", "localhost:", "1.2.3.4:99999", "a:²", "x:-1"])
def test_no_addresses(text):
    """Anything else is a mistake."""
    with pytest.raises(ConfigError, match="it is HOST:PORT, as"):
        HealthServer(text, Shop())


def test_all_addresses(shop):
    """``:PORT`` listens everywhere, and so does ``[::]:PORT``, for both families."""
    with HealthServer(":0", shop) as server:
        assert server.address.startswith(("0.0.0.0:", "[::]:"))
        port = server.address.rpartition(":")[2]
        with socket.create_connection(("127.0.0.1", int(port)), timeout=20):
            pass
