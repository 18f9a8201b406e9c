"""
Fetch many pages at once, and get them in the order in which they were asked for.

    python examples/fetch_pages.py

The pages come from a server that this program starts on this machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from m3 import Pipeline, Transport


class Square(BaseHTTPRequestHandler):
    """Answers ``GET /7`` with 49."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"%d" % int(self.path[1:]) ** 2
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Fetch(Transport[int, bytes]):
    """Asks the server; each worker keeps a connection of its own open."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.connection = HTTPConnection(*address, timeout=10)

    def transport(self, data: int) -> bytes:
        self.connection.request("GET", f"/{data}")
        return self.connection.getresponse().read()

    def cleanup(self) -> None:
        self.connection.close()


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """Serve squares on a free port for as long as the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Square) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield ("127.0.0.1", http.server_port)
        http.shutdown()


def main(pages: int = 200) -> None:
    """Print the sum of the first squares, each fetched over HTTP."""
    with (
        server() as address,
        Pipeline(range(pages))
        .transport(Fetch, address=address, workers=8, ordering="input")
        .results() as bodies,
    ):
        squares = [int(body) for body in bodies]
    assert squares == [number**2 for number in range(pages)]
    print(f"fetched {len(squares)} pages, in order; their sum is {sum(squares)}")


if __name__ == "__main__":
    main()
