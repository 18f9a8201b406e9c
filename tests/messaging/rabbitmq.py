"""
A plugin of pytest: RabbitMQ, as a server of the machine.

It is the one at ``M3_AMQP_URL``, or at the usual place.  Tests take names of their
own for exchanges and queues, and delete them; or they take a virtual host of their
own, where they may leave what they like.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from m3.errors import M3Error
from m3.messaging import connect

URL = os.environ.get("M3_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")

AT_ONCE = 20
"""Of a call of rabbitmqctl, half a second is its own start, and a virtual host is 15 ms."""

ADD = """
rabbit_vhost:add(Name, <<"m3">>),
rabbit_auth_backend_internal:set_permissions(
    <<"{user}">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"m3">>)
"""

DELETE = 'rabbit_vhost:delete(Name, <<"m3">>)'


def cannot(reason: str) -> NoReturn:
    """Skip the test, or fail it where RabbitMQ is required."""
    (pytest.fail if os.environ.get("M3_REQUIRE_SERVICES") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def rabbitmq() -> str:
    """Return the URL of RabbitMQ, if it is there; else skip, or fail where it is required."""
    try:
        with connect(URL):
            pass
    except M3Error as error:
        cannot(f"RabbitMQ cannot be used: {error}")
    return URL


class VirtualHosts:
    """Virtual hosts that nobody else uses, made and deleted many at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._user = parts.username or "guest"
        self._base = parts._replace(path="").geturl()
        self._prefix = f"m3-{uuid4().hex[:8]}"
        self._made = 0
        self._fresh: list[str] = []
        self._used: list[str] = []

    def take(self) -> str:
        """Return the URL of one that is empty."""
        if not self._fresh:
            self.refill()
        self._used.append(self._fresh.pop())
        return f"{self._base}/{self._used[-1]}"

    def refill(self) -> None:
        """Delete those that were taken, and make others."""
        names = [f"{self._prefix}-{self._made + number}" for number in range(AT_ONCE)]
        evaluate(for_each(self._used, DELETE), for_each(names, ADD.format(user=self._user)))
        self._made += AT_ONCE
        self._fresh, self._used = names, []

    def what_is_in(self, url: str) -> list[str]:
        """Return the names of the queues, and of the exchanges that are not RabbitMQ's own."""
        host = url.rpartition("/")[2]
        names = [
            name
            for what in ("list_queues", "list_exchanges")
            for name in control("--vhost", host, what, "name", "--no-table-headers").split()
        ]
        return sorted(name for name in names if not name.startswith("amq."))

    def close(self) -> None:
        """Delete them all."""
        evaluate(for_each(self._used + self._fresh, DELETE))


def for_each(names: list[str], act: str) -> str:
    """Return an expression of Erlang that does something with each name."""
    listed = ", ".join(f'<<"{name}">>' for name in names)
    return f"lists:foreach(fun (Name) -> {act} end, [{listed}])"


def evaluate(*expressions: str) -> None:
    """Have RabbitMQ evaluate expressions of Erlang."""
    control("eval", f"{', '.join(expressions)}.")


def control(*arguments: str) -> str:
    """Have rabbitmqctl do something; return what it prints."""
    command = ["rabbitmqctl", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    if done.returncode:
        cannot(f"rabbitmqctl has failed: {(done.stderr or done.stdout).strip()[:500]}")
    return done.stdout


@pytest.fixture(scope="session")
def virtual_hosts(rabbitmq) -> Iterator[VirtualHosts]:
    """Return where virtual hosts come from; skip, or fail, where none can be made."""
    if urlsplit(rabbitmq).hostname not in {"localhost", "127.0.0.1", "::1"}:
        cannot("virtual hosts are made with rabbitmqctl, which is for RabbitMQ on this machine")
    if shutil.which("rabbitmqctl") is None:
        cannot("there is no rabbitmqctl to make virtual hosts with")
    hosts = VirtualHosts(rabbitmq)
    hosts.refill()
    yield hosts
    hosts.close()


@pytest.fixture
def own_rabbitmq(virtual_hosts) -> str:
    """Return the URL of a virtual host of the test's own, in which there is nothing yet."""
    return virtual_hosts.take()


@pytest.fixture(scope="class")
def own_rabbitmq_of_each_scenario(request, virtual_hosts) -> None:
    """Let a class, a battery, call ``own_rabbitmq()`` for the URL of a virtual host."""
    request.cls.own_rabbitmq = virtual_hosts.take
