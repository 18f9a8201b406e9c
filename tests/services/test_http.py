"""Methods called over HTTP."""

import http.client
import json
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from http import HTTPStatus

import pytest

from m3.errors import ConfigError, SetupError, StopPipeline
from m3.services import ServiceContainer
from m3.services import http as route
from m3.services.http import Http
from m3.testing import entrypoint_waiter

pytest.importorskip("cheroot")
HTTPException = pytest.importorskip("werkzeug.exceptions").HTTPException


UNUSABLE = [
    ("a", "b"),
    ("200 OK\r\nX-B: x", "text"),
    ("200 €", "text"),
    (99, "text"),
    (True, "text"),
    (2.5, "text"),
    (10_000, "text"),
    (),
    (200,),
    (200, {}, "text", "more"),
    (200, 3, "text"),
    (200, {3: "x"}, "text"),
    (200, {"X A": "x"}, "text"),
    (200, {"X-A": "€"}, "text"),
    (200, {"X\r\nX-B": "x"}, "text"),
    [b"text"],
    None,
]
"""What no answer can be made of."""


class Shop:
    name = "shop"
    begun = threading.Semaphore(0)
    may_end = threading.Event()

    @route("GET", "/items/<int:number>")
    def item(self, request, number):
        return json.dumps({"number": number, "verbose": request.args.get("verbose")})

    @route("POST,PUT", "/items")
    def add(self, request):
        return 201, {"Location": "/items/7"}, request.get_data()

    @route("GET", "/teapot")
    def teapot(self, request):
        return 418, "short and stout"

    @route("GET", "/response")
    def response(self, request):
        from werkzeug.wrappers import Response

        return Response("made", status=202)

    @route("GET", "/fails/<what>", expected_exceptions=LookupError)
    def fails(self, request, what):
        from werkzeug.exceptions import Gone

        raise {"gone": Gone, "lookup": LookupError, "secret": ValueError}[what]("the reason")

    @route("GET", "/wrong")
    def wrong(self, request):
        return {"not": "text"}

    @route("GET", "/unusable/<int:number>")
    def unusable(self, request, number):
        return UNUSABLE[number]

    @route("GET", "/end")
    def end(self, request):
        raise StopPipeline

    @route("GET", "/split")
    def split(self, request):
        return 200, {"X-Where": request.args["where"]}, "here"

    @route("GET", "/slow")
    def slow(self, request):
        self.begun.release()
        self.may_end.wait(20)
        return "slow"


@pytest.fixture
def start():
    """Return a function that starts the shop; returns its container, and what asks it."""
    Shop.begun = threading.Semaphore(0)
    Shop.may_end.clear()
    with ExitStack() as stack:

        def start(service_cls=Shop, entrypoint="item", **options):
            config = {"AMQP_URI": "memory://http", "WEB_SERVER_ADDRESS": "127.0.0.1:0"}
            container = stack.enter_context(ServiceContainer(service_cls, {**config, **options}))
            host, port = container.entrypoint(entrypoint).address

            def ask(method, path, body=None):
                connection = http.client.HTTPConnection(host, port, timeout=20)
                try:
                    connection.request(method, path, body)
                    response = connection.getresponse()
                    return response.status, response.read().decode(), response.headers
                finally:
                    connection.close()

            return container, ask

        yield start
        Shop.may_end.set()


class JsonHttp(Http):
    """Answers in JSON, if it can."""

    def response_from_result(self, result):
        return super().response_from_result(json.dumps(result))

    def response_from_exception(self, error):
        status, text, headers = 422, json.dumps({"error": error.args[0]}), {"X-Kind": "mine"}
        return super().response_from_result((status, headers, text))


json_route = JsonHttp.decorator


class JsonShop:
    name = "jsonshop"

    @json_route("GET", "/item")
    def item(self, request):
        return {"number": 7}

    @json_route("GET", "/fails/<int:arguments>")
    def fails(self, request, arguments):
        raise ValueError(*["the reason"][:arguments])


@pytest.mark.parametrize(
    ("path", "status", "text", "kind"),
    [
        ("/item", 200, '{"number": 7}', None),
        ("/fails/1", 422, '{"error": "the reason"}', "mine"),
        ("/fails/0", 500, "Error: the service has failed\n", None),
    ],
)
def test_a_subclass_has_answers_of_its_own(start, path, status, text, kind):
    """It makes them of results and exceptions; if that fails, the usual one is sent."""
    _, ask = start(JsonShop, entrypoint="item")
    assert ask("GET", path)[:2] == (status, text)
    assert ask("GET", path)[2].get("X-Kind") == kind


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/items/7?verbose=1", None, 200, '{"number": 7, "verbose": "1"}'),
        ("POST", "/items", "new", 201, "new"),
        ("PUT", "/items", "newer", 201, "newer"),
        ("GET", "/teapot", None, 418, "short and stout"),
        ("GET", "/response", None, 202, "made"),
        ("GET", "/fails/lookup", None, 400, "Error: LookupError: the reason\n"),
    ],
)
def test_what_a_method_returns_is_the_answer(start, method, path, body, status, text):
    """Text, a status with text, headers too, a response, and an expected exception."""
    _, ask = start()
    assert ask(method, path, body)[:2] == (status, text)


@pytest.mark.parametrize("number", range(len(UNUSABLE)), ids=list(map(repr, UNUSABLE)))
def test_what_no_answer_can_be_made_of(start, number):
    """Whatever a method returns, its client gets an answer, 500, and the service goes on."""
    _, ask = start(max_workers=3)
    for _ in range(7):
        assert ask("GET", f"/unusable/{number}")[:2] == (500, "Error: the service has failed\n")
    assert ask("GET", "/teapot")[0] == 418


@pytest.mark.parametrize("status", [404, "404", "404 Not There", HTTPStatus.NOT_FOUND])
def test_a_status(start, status):
    """It is a number, as text if you like, or with a reason."""
    from m3.services._responses import of_result, sendable

    assert sendable(of_result((status, "gone"))).status_code == 404


def test_headers_of_an_answer(start):
    """A triple has headers."""
    _, ask = start()
    assert ask("POST", "/items", "new")[2]["Location"] == "/items/7"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/items", 405),
        ("GET", "/items/seven", 404),
    ],
)
def test_what_is_for_no_method_costs_no_worker(start, method, path, status):
    """Routing comes before the pipeline."""
    container, ask = start()
    assert ask(method, path)[0] == status
    assert container.report().produced == 0


@pytest.mark.parametrize(("path", "status"), [("secret", 500), ("gone", 410)])
def test_what_a_method_raises(start, path, status):
    """An exception of werkzeug is its own answer; nothing is told of any other."""
    _, ask = start()
    found, text, _ = ask("GET", f"/fails/{path}")
    assert found == status
    assert ("the reason" in text) == (path == "gone")
    assert ask("GET", "/wrong")[0] == 500


def test_too_long_a_body_is_refused(start):
    """The method that reads it gets the answer 413."""
    _, ask = start(http_max_body=10)
    assert ask("POST", "/items", "x" * 11)[0] == 413
    assert ask("POST", "/items", "x" * 10)[0] == 201


def talk(address, *pieces, pause=0.0):
    """Send pieces of a request, one after the other; return all that is answered."""
    waiting = threading.Event()
    with socket.create_connection(address, timeout=20) as connection, suppress(OSError):
        for piece in pieces:
            connection.sendall(piece)
            waiting.wait(pause)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received
    return b""


def test_a_chunked_body_is_bounded(start):
    """A body without a length is refused when it becomes too long."""
    container, ask = start(http_max_body=1000)
    head = b"POST /items HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n"
    head += b"Connection: close\r\n\r\n"
    small = talk(container.entrypoint("item").address, head, b"3\r\nnew\r\n0\r\n\r\n")
    assert small.startswith(b"HTTP/1.1 201")
    body = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    whole = talk(container.entrypoint("item").address, head, body + b"0\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 201")
    assert whole.endswith(b"x" * 1000)
    large = talk(container.entrypoint("item").address, head, b"800\r\n" + b"x" * 0x800 + b"\r\n")
    assert b" 413 " in large.partition(b"\r\n")[0]
    assert ask("GET", "/teapot")[0] == 418


@pytest.mark.parametrize(
    ("request_line", "header"),
    [
        (b"GET /teapot HTTP/1.1", b"X-Long: " + b"x" * 100_000),
        (b"GET /teapot HTTP/1.1", b"\r\n".join(b"X-%d: 1" % number for number in range(10_000))),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1", b"Host: shop"),
    ],
    ids=["a header", "many headers", "a path"],
)
def test_headers_are_bounded(start, request_line, header):
    """What is longer than 64 KiB is refused, or the connection ends; others are answered."""
    container, ask = start()
    answer = talk(
        container.entrypoint("item").address, request_line + b"\r\n" + header + b"\r\n\r\n"
    )
    assert answer.partition(b"\r\n")[0] in (
        b"HTTP/1.1 413 Request Entity Too Large",
        b"HTTP/1.1 414 Request-URI Too Long",
        b"",
    )
    assert ask("GET", "/teapot")[0] == 418


@pytest.mark.parametrize("answered", [True, False], ids=["half-closed", "closed"])
def test_half_a_body_is_no_body(start, answered):
    """Of a client that goes while it sends, nothing is read: 400, if it still listens."""
    container, ask = start()
    head = b"POST /items HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\n"
    with (
        entrypoint_waiter(container, "add") as made,
        socket.create_connection(container.entrypoint("item").address, 20) as client,
    ):
        client.sendall(head + b'{"half":')
        client.shutdown(socket.SHUT_WR)
        if answered:
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        client.close()
    with pytest.raises(HTTPException, match=r"^400 "):
        made.get()
    assert ask("POST", "/items", "whole")[:2] == (201, "whole")


def test_slow_clients_have_only_so_much_time(start):
    """Those that send a byte now and then hold the service up for ``http_timeout``, not longer."""
    container, ask = start(max_workers=1, http_timeout=0.5)
    address = container.entrypoint("item").address
    answers = []
    head = b"POST /items HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n"
    in_head = [head[at : at + 1] for at in range(len(head))]
    in_body = [head + b"\r\n", *[b"x"] * 100]

    def send(pieces):
        answers.append(talk(address, *pieces, pause=0.1))

    slow = [threading.Thread(target=send, args=(each,)) for each in [in_head] * 8 + [in_body] * 2]
    for client in slow:
        client.start()
    assert ask("GET", "/teapot")[0] in (418, 503)
    for client in slow:
        client.join(20)
        assert not client.is_alive()
    assert not any(answer.startswith(b"HTTP/1.1 2") for answer in answers)
    assert ask("GET", "/teapot")[0] == 418


def test_an_answer_cannot_be_split(start):
    """A line end in a header is no header: the answer is 500, and nothing of it is sent."""
    _, ask = start()
    status, text, headers = ask("GET", "/split?where=x%0d%0aSet-Cookie:%20stolen")
    assert (status, headers["Set-Cookie"]) == (500, None)
    assert "stolen" not in text


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"GET\r\n\r\n",
        b"GET /teapot HTTP/9.9\r\n\r\n",
        b"GET /teapot HTTP/1.1\r\nHost\r\n\r\n",
        b"POST /items HTTP/1.1\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
        b"POST /items HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /items HTTP/1.1\r\nContent-Length: 0_0\r\nConnection: close\r\n\r\n",
        b"POST /items HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"GET /items/%ff%00%0a HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_what_is_no_request_does_no_harm(start, data):
    """It is answered with an error, or not at all; the next request is answered."""
    container, ask = start(http_timeout=1)
    answer = talk(container.entrypoint("item").address, data)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), answer
    assert ask("GET", "/teapot")[0] == 418


def test_a_full_service_says_so(start):
    """With twice as many requests as workers in hand, the next is answered at once."""
    container, ask = start(max_workers=1)
    answers = []
    askers = [
        threading.Thread(target=lambda: answers.append(ask("GET", "/slow"))) for _ in range(2)
    ]
    for asker in askers:
        asker.start()
    while container.report().produced < 2:
        pass
    status, _, headers = ask("GET", "/nowhere")
    assert (status, headers["Retry-After"]) == (503, "1")
    Shop.may_end.set()
    for asker in askers:
        asker.join()
    assert [answer[:2] for answer in answers] == [(200, "slow")] * 2


def test_a_stop_answers_what_has_begun(start):
    """A request in hand gets its answer; then nobody listens any more."""
    container, ask = start()
    answers = []
    asker = threading.Thread(target=lambda: answers.append(ask("GET", "/slow")[:2]))
    asker.start()
    assert Shop.begun.acquire(timeout=20)
    container.request_stop()
    Shop.may_end.set()
    container.stop()
    asker.join()
    assert answers == [(200, "slow")]
    with pytest.raises(OSError):
        ask("GET", "/teapot")


def test_a_method_can_end_its_service(start):
    """The request is answered all the same, and the service has not failed."""
    container, ask = start()
    assert ask("GET", "/end")[0] == 503
    assert container.wait(20).ok


class Quiet:
    name = "quiet"
    begun = threading.Semaphore(0)
    may_end = threading.Semaphore(0)

    @route("DELETE", "/item")
    def item(self, request):
        self.begun.release()
        self.may_end.acquire(timeout=20)
        return 204, ""

    @route("GET", "/file")
    def file(self, request):
        from werkzeug.wrappers import Response

        return Response([b"content"], direct_passthrough=True)


def test_clients_that_go_before_their_answer_take_no_place_with_them(start):
    """However many of them there were, the next request is admitted."""
    container, ask = start(Quiet, max_workers=1)
    for _ in range(4):
        with socket.create_connection(container.entrypoint("item").address) as client:
            client.sendall(b"DELETE /item HTTP/1.1\r\nHost: here\r\n\r\n")
            assert Quiet.begun.acquire(timeout=20)
            # It goes as one that is killed does.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        Quiet.may_end.release()
        container.entrypoint("item").server._in_hand.await_none(5)
    assert ask("GET", "/file")[0] == 200


def test_an_answer_that_passes_through_takes_no_place_with_it(start):
    """Answers that werkzeug does not close, such as those of send_file, count while they last."""
    _, ask = start(Quiet, max_workers=1)
    assert [ask("GET", "/file")[:2] for _ in range(5)] == [(200, "content")] * 5


def test_an_address_in_use_keeps_the_service_from_starting(start):
    """Two services cannot listen at one address; it is told which one, and what both share."""
    container, _ = start()
    host, port = container.entrypoint("item").address
    config = {"AMQP_URI": "memory://http", "WEB_SERVER_ADDRESS": f"{host}:{port}"}
    with pytest.raises(
        SetupError, match=r"'jsonshop'.*cannot listen.*WEB_SERVER_ADDRESS"
    ) as caught:
        ServiceContainer(JsonShop, config).start()
    assert isinstance(caught.value.error, OSError)


@pytest.mark.parametrize("address", ["here", 3, "127.0.0.1:99999", None])
def test_an_address_is_a_host_and_a_port(address):
    """Anything else is refused."""
    config = {"AMQP_URI": "memory://http", "WEB_SERVER_ADDRESS": address}
    with pytest.raises(SetupError) as caught:
        ServiceContainer(Shop, config).start()
    assert isinstance(caught.value.__cause__, ConfigError)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("GTE", "'GTE' is no method of HTTP; did you mean 'GET'"),
        ("get, psot", "'PSOT' is no method of HTTP; did you mean 'POST'"),
        ("GET,", "'' is no method"),
        ("GET POST", "with commas between them"),
        (["GET"], "with commas between them"),
    ],
)
def test_what_is_no_method_of_http_is_told_at_once(method, told):
    """A route whose method no client would send is refused when it is declared."""
    with pytest.raises(ConfigError, match=told):
        route(method, "/items")


def test_methods_of_webdav_are_methods():
    """Whatever looks like no other method, or is a known one, is taken as it is."""
    given = Http("propfind, REPORT,VERSION-CONTROL", "/")
    assert given.methods == ("PROPFIND", "REPORT", "VERSION-CONTROL")
