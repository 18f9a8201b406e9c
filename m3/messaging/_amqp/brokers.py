"""Where the brokers are, how one of them is connected to, and what their errors mean."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from amqp.exceptions import AMQPError
from amqp.exceptions import ConnectionError as AMQPConnectionError
from kombu.connection import Connection as KombuConnection

from m3._messages import closest, did_you_mean
from m3.errors import BusError, ConfigError, UnknownNameError, describe
from m3.messaging._amqp.connection import Connection, Transport

__all__ = ("LOST", "Brokers", "hang_up", "is_verdict", "reason")

LOST = (OSError, AMQPConnectionError)
"""What is raised when a connection does not work any longer."""

VERDICTS = (501, 502, 505, 541)
"""The codes with which RabbitMQ closes a connection for what it was sent on it."""

USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
"""The option of a socket for how long the other end's kernel may be silent; Linux has it."""

TLS_OPTIONS = ("ca_certs", "certfile", "keyfile", "server_hostname", "ciphers")
"""The options of TLS, as py-amqp names them; there is none that lets anybody be the broker."""

PARTING = 1.0
"""Seconds for the last words on a connection."""


@dataclass(frozen=True, slots=True)
class Address:
    """One broker, as a URL names it."""

    host: str
    port: int
    userid: str
    password: str
    vhost: str
    is_secure: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" + (f"/{self.vhost}" if self.vhost != "/" else "")


class Brokers:
    """
    The brokers of a URL, of which any will do.

    Args:
        url: one URL, or several with ``;`` between them.
        heartbeat: seconds, within twice of which both sides notice that the other is gone.
        connect_timeout: seconds for each step of connecting to one of them.
        tls: options of TLS, of those in :data:`TLS_OPTIONS`, where a URL begins with ``amqps://``.
        max_body: how many bytes a message may have that is received.

    Raises:
        ConfigError: a URL names no broker, or an option of TLS is unknown.
    """

    def __init__(
        self,
        url: str,
        *,
        heartbeat: int,
        connect_timeout: float,
        tls: Mapping[str, Any],
        max_body: int,
    ) -> None:
        self._addresses = [parsed(part.strip()) for part in url.split(";")]
        unknown = [name for name in tls if name not in TLS_OPTIONS]
        if unknown:
            near = closest(unknown[0], TLS_OPTIONS)
            problem = f"tls: there is no option {unknown[0]!r}{did_you_mean(near)}"
            raise UnknownNameError(problem, name=unknown[0], near=tuple(near))
        self._tls = dict(tls)
        self._heartbeat = heartbeat
        self._connect_timeout = connect_timeout
        self._max_body = max_body

    def __str__(self) -> str:
        return ", ".join(map(str, self._addresses))

    def connect(self, purpose: str) -> Connection:
        """
        Return a connection to the first broker that answers, which is asked first the next time.

        Raises:
            BusError: none of them does; it says for each why.
        """
        problems = []
        for at, address in enumerate(self._addresses):
            try:
                client = self._client(address, purpose)
                connection: Connection = client.transport.establish_connection()
            except (*LOST, AMQPError) as error:
                problems.append(f"{address}: {reason(error)}")
                continue
            self._addresses = self._addresses[at:] + self._addresses[:at]
            # From here on, a wait for an answer ends when the broker has been silent too long.
            connection.sock.settimeout(self._heartbeat)
            return connection
        raise BusError(f"no connection to RabbitMQ at {'; '.join(problems)}")

    def _client(self, address: Address, purpose: str) -> KombuConnection:
        return KombuConnection(  # type: ignore[no-untyped-call]
            hostname=address.host,
            port=address.port,
            userid=address.userid,
            password=address.password,
            virtual_host=address.vhost,
            ssl={"server_hostname": address.host, **self._tls} if address.is_secure else False,
            transport=Transport,
            # RabbitMQ gives up a client after two to three times what was agreed on.
            heartbeat=self._heartbeat // 2,
            connect_timeout=self._connect_timeout,
            transport_options={
                "longest_body": self._max_body,
                "client_properties": {"product": "m3", "connection_name": f"m3: {purpose}"},
                # Milliseconds that what was sent may stay unanswered by the other end's kernel.
                "socket_settings": {USER_TIMEOUT: 2000 * self._heartbeat} if USER_TIMEOUT else {},
            },
        )


def parsed(url: str) -> Address:
    """
    Return what a URL says of a broker.

    Raises:
        ConfigError: it is none of a broker; the password in it is not repeated.
    """
    try:
        parts = urlsplit(url)
        is_secure = parts.scheme == "amqps"
        port = parts.port or (5671 if is_secure else 5672)
    except ValueError:
        problem = "its host or its port can be none"
    else:
        problem = problem_of(parts)
    if problem:
        raise ConfigError(f"the URL of a broker: {problem}; it is amqp://user:password@host/vhost")
    return Address(
        host=unquote(parts.hostname or "127.0.0.1"),
        port=port,
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        vhost=unquote(parts.path.removeprefix("/")) or "/",
        is_secure=is_secure,
    )


def problem_of(parts: SplitResult) -> str:
    """Return what is wrong with a URL, or nothing."""
    if parts.scheme not in ("amqp", "amqps"):
        return "it begins with amqp:// or amqps://"
    if parts.query or parts.fragment:
        return "it has no '?' and no '#', which are %3F and %23 in a password"
    return ""


def is_verdict(error: BaseException | None) -> bool:
    """Return whether a connection was lost because of what was sent, and would be again."""
    return isinstance(error, AMQPConnectionError) and error.reply_code in VERDICTS


def reason(error: BaseException) -> str:
    """Return what a broker, or the system, gives as the reason of an error."""
    text = getattr(error, "reply_text", None) or getattr(error, "strerror", None)
    return str(text) if text else describe(error)


def hang_up(connection: Connection, *, politely: bool) -> None:
    """End a connection; *politely*, if the broker is to know before."""
    with suppress(Exception):
        if connection.connected:
            connection.sock.settimeout(PARTING)
        if politely:
            connection.close()
    with suppress(Exception):
        connection.collect()
