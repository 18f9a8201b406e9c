"""
A server for probes: small requests, answered by functions, in bounded time and memory.

One thread has all connections, in an event loop, so that no client keeps another one waiting. Each
path has a thread besides, which finds the answer for all who have asked before it began.
"""

import asyncio
import contextlib
import queue
import re
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

__all__ = ("Answer", "ProbeServer")

PATIENCE = 5.0
"""Seconds after which a connection is closed, whatever it waits for."""

MOST_CONNECTIONS = 64
"""With one more, the oldest that has asked nothing yet is closed."""

LONGEST_HEAD = 8192
"""Bytes of a request; there are no longer ones."""

HEAD_END = re.compile(rb"\r?\n\r?\n")
METHODS = ("GET", "HEAD")


class Answer(NamedTuple):
    """
    What a client is told.

    Attributes:
        status: of HTTP.
        body: JSON.
    """

    status: int
    body: bytes


class ProbeServer:
    """
    Answers requests until it is closed.

    Args:
        listening: the socket, which it closes.
        answers: by path, the function that finds the answer.

    Raises:
        OSError: there can be no further event loop.
    """

    def __init__(
        self, listening: socket.socket, answers: Mapping[str, Callable[[], Answer]]
    ) -> None:
        self._listening = listening
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._left = asyncio.Event()
        self._questions = {path: Question(path, find, self._loop) for path, find in answers.items()}
        self._connections: dict[Connection, None] = {}
        self._thread = threading.Thread(target=self._run, name="m3-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more, and close all connections."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        for question in self._questions.values():
            question.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._listening.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: Connection(self), sock=self._listening)
        await self._closing.wait()
        self._loop.remove_reader(self._listening)  # before those who are arriving come to the end
        arriving = asyncio.all_tasks() - {asyncio.current_task()}
        if arriving:
            await asyncio.wait(arriving)
        server.close()
        for connection in self._connections:
            connection.give_up()
        while self._connections:
            self._left.clear()
            await self._left.wait()

    # -- for the connections, in the event loop

    def enter(self, connection: "Connection") -> None:
        """Take note of a connection; if there are too many, close another one."""
        others = [each for each in self._connections if not each.is_given_up]
        self._connections[connection] = None
        if len(others) >= MOST_CONNECTIONS:
            next((each for each in others if not each.has_asked), others[0]).give_up()

    def leave(self, connection: "Connection") -> None:
        """Take note that a connection is closed."""
        del self._connections[connection]
        self._left.set()

    def ask(self, connection: "Connection", method: str, path: str) -> None:
        """Have a connection answered."""
        if path not in self._questions:
            connection.answer(_refusal(HTTPStatus.NOT_FOUND))
        elif method not in METHODS:
            connection.answer(_refusal(HTTPStatus.METHOD_NOT_ALLOWED))
        else:
            self._questions[path].ask(connection)


class Question:
    """What is asked at one path, and who waits for the answer."""

    def __init__(
        self, path: str, find: Callable[[], Answer], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._find = find
        self._loop = loop
        self._waiting: list[Connection] = []
        self._is_at_it = False
        self._rounds: queue.SimpleQueue[list[Connection] | None] = queue.SimpleQueue()
        name = f"m3-health{path.replace('/', '-')}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, connection: "Connection") -> None:
        """Have a connection answered, by an answer that is looked for from now on."""
        self._waiting.append(connection)
        if not self._is_at_it:
            self._begin()

    def close(self) -> None:
        """End its thread; one that is in its function is left behind after a while."""
        self._rounds.put(None)
        self._thread.join(PATIENCE)

    def _begin(self) -> None:
        asking, self._waiting = self._waiting, []
        self._is_at_it = True
        self._rounds.put(asking)

    def _run(self) -> None:
        while (asking := self._rounds.get()) is not None:
            answer = self._find()
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._tell, asking, answer)

    def _tell(self, asking: "list[Connection]", answer: Answer) -> None:
        self._is_at_it = False
        for connection in asking:
            connection.answer(answer)
        if self._waiting:
            self._begin()


class Connection(asyncio.Protocol):
    """
    A connection, for one request.

    Attributes:
        has_asked: whether the request is complete.
        is_given_up: whether it is about to be closed without an answer.
    """

    _transport: asyncio.Transport
    _end: asyncio.TimerHandle

    def __init__(self, server: ProbeServer) -> None:
        self.has_asked = False
        self.is_given_up = False
        self._server = server
        self._head = b""
        self._method = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._end = asyncio.get_running_loop().call_later(PATIENCE, transport.abort)
        self._server.enter(self)

    def data_received(self, data: bytes) -> None:
        """Read on, until the request is complete."""
        self._head += data
        is_complete = HEAD_END.search(self._head) is not None
        if not is_complete and len(self._head) <= LONGEST_HEAD:
            return
        self.has_asked = True
        self._transport.pause_reading()
        words = self._head.partition(b"\n")[0].decode("latin-1").split()
        if is_complete and len(words) == 3 and words[2].startswith("HTTP/1."):
            self._method = words[0]
            self._server.ask(self, self._method, words[1].partition("?")[0])
        else:
            self.answer(_refusal(HTTPStatus.BAD_REQUEST))

    def connection_lost(self, _: Exception | None) -> None:
        """Take note that it is closed."""
        self._end.cancel()
        self._server.leave(self)

    def answer(self, answer: Answer) -> None:
        """Answer, and close it."""
        if self._transport.is_closing():
            return
        allow = ("Allow: GET, HEAD",) if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else ()
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *allow,
        )
        body = b"" if self._method == "HEAD" else answer.body
        self._transport.write("\r\n".join((*head, "", "")).encode() + body)
        self._transport.close()

    def give_up(self) -> None:
        """Close it at once."""
        self.is_given_up = True
        self._transport.abort()


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(status, b'{"error": "%s"}\n' % status.phrase.lower().encode())
