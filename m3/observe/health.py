"""``/livez`` and ``/readyz``: whether a process is alive and ready, told over HTTP."""

import json
import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

from m3.engine.health import Examine, why_not_live, why_not_ready
from m3.errors import ConfigError, describe
from m3.observe._probes import Answer, ProbeServer

__all__ = ("HealthServer", "host_and_port")

HOST = "127.0.0.1"


class HealthServer:
    """
    Tells over HTTP how a process is, from the beginning of a ``with`` block to its end.

    ``/livez`` is answered with 200, unless something has failed or hangs, so that it is better
    to start the process anew. ``/readyz`` is answered with 200 if all is set up, nothing
    stops, and the components are well. Otherwise the status is 503; the body, JSON, says why.

    Nobody is asked who they are. No client can keep the others waiting, by being slow or many.

    Args:
        address: ``HOST:PORT``. ``PORT`` is on 127.0.0.1, ``:PORT`` on all addresses; port 0
            is a free one.
        examine: returns how each part is, by its name, as
            :meth:`m3.services.ServiceRunner.health` does.
        parts: what these are called in the body.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, address: str, examine: Examine, *, parts: str = "services") -> None:
        self._host, self._port = host_and_port(address)
        self._given = address
        self._examine = examine
        self._parts = parts
        self._server: ProbeServer | None = None

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def start(self) -> None:
        """
        Begin to listen.

        Raises:
            ConfigError: that cannot be, as when another process listens there.
        """
        answers = {"/livez": self._live, "/readyz": self._ready}
        try:
            listening = _listening(self._host, self._port)
            self._host, self._port = listening.getsockname()[:2]
            self._server = ProbeServer(listening, answers)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"cannot answer probes on {self._given!r}: {reason}") from error

    def close(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> Answer:
        return self._answer("live", checked=False)

    def _ready(self) -> Answer:
        return self._answer("ready", checked=True)

    def _answer(self, what: str, *, checked: bool) -> Answer:
        try:
            found = self._examine(checked=checked)
        except Exception as error:
            return _as_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": describe(error)})
        problems = why_not_ready(found) if checked else why_not_live(found)
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        parts = {name: health.as_dict() for name, health in found.items()}
        body = {what: not problems, "problems": problems, self._parts: parts}
        return _as_json(status, body)


def host_and_port(address: str) -> tuple[str, int]:
    """
    Return the host and the port of an address, as :class:`HealthServer` takes them.

    Raises:
        ConfigError: it is none.
    """
    host, colon, port = address.rpartition(":")
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{address!r} is no address for probes; it is HOST:PORT, as {HOST}:8081")
    return (host.strip("[]") if colon else HOST), int(port)


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; an IPv6 one for all addresses takes those of IPv4, too."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, where = found[0]
    is_dual = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(where, family=family, dualstack_ipv6=is_dual)


def _as_json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, json.dumps(body, indent=2).encode() + b"\n")
