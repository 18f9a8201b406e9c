"""
The plugin of pytest: services in tests, and for each test a bus of its own.

pytest loads it wherever m3 is installed, also for tests of something else. So
importing it costs nothing: what is needed of m3 is imported by the fixtures.

``container_factory``, ``runner_factory`` and ``rabbit_config`` have the names of nameko's
plugin, for tests that come from there.  Fixtures with such plain names may be
somebody's already; theirs come first then, and nothing here asks for these three.
What fixtures here ask for has names that begin with ``m3_``: to replace one of
them, as by a virtual host that your tests make themselves, is done on purpose.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from m3.messaging import Bus
    from m3.services import ClusterRpcProxy, ServiceContainer, ServiceRunner
    from m3.testing import FakeClock
    from m3.testing._running import Running

__all__ = (
    "container_factory",
    "m3_bus",
    "m3_bus_url",
    "m3_clock",
    "m3_config",
    "m3_rpc",
    "m3_running",
    "pytest_addoption",
    "rabbit_config",
    "runner_factory",
)

BUS = (
    "the bus of the tests that use m3's fixtures: memory:// (the default), sqlite://, or "
    "amqp://user:password@host/vhost, a vhost for tests alone; {worker} in it is gw0, gw1 ..."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let users say which bus it is."""
    parser.getgroup("m3").addoption("--m3-bus", metavar="URL", help=BUS)
    parser.addini("m3_bus", help=BUS, default="memory://")


@pytest.fixture
def m3_bus_url(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a bus for this test, of the kind that --m3-bus names."""
    from m3.testing._own_bus import own_url

    chosen = pytestconfig.getoption("m3_bus") or pytestconfig.getini("m3_bus")
    return own_url(chosen, lambda: tmp_path_factory.mktemp("m3"))


@pytest.fixture
def m3_config(m3_bus_url: str) -> Iterator[dict[str, Any]]:
    """Return a configuration of services with that bus; RabbitMQ is cleared after the test."""
    from m3.testing._own_bus import own_bus

    with own_bus(m3_bus_url) as config:
        yield config


@pytest.fixture
def rabbit_config(m3_config: dict[str, Any]) -> dict[str, Any]:
    """Return what ``m3_config`` is, under the name that it has in nameko."""
    return m3_config


@pytest.fixture
def m3_bus(m3_config: dict[str, Any]) -> "Iterator[Bus]":
    """Return the bus, connected: what is on it stays until the test ends."""
    from m3.services.container import bus_of

    with bus_of(m3_config) as bus:
        yield bus


@pytest.fixture
def m3_clock() -> "FakeClock":
    """Return a clock that the test moves, which all services of the test go by."""
    from m3.testing import FakeClock

    return FakeClock()


@pytest.fixture
def m3_running(request: pytest.FixtureRequest, m3_config: dict[str, Any]) -> "Iterator[Running]":
    """Return what makes containers and runners, and stops them after the test."""
    from m3.testing._running import Running

    request.getfixturevalue("m3_bus")
    uses_clock = "m3_clock" in request.fixturenames
    clock = request.getfixturevalue("m3_clock") if uses_clock else None
    with Running(m3_config, clock) as running:
        yield running


@pytest.fixture
def container_factory(m3_running: "Running") -> "Callable[..., ServiceContainer]":
    """
    Return a function that returns the container of a service, to be started by the test.

    ``container_factory(service_cls, config=None, **options)``: *config* is added to ``m3_config``,
    *options* are those of :class:`~m3.services.ServiceContainer`.  It is stopped after the test,
    which has failed if the service has, unless ``container.wait()`` has told the test.
    """
    return m3_running.container


@pytest.fixture
def runner_factory(m3_running: "Running") -> "Callable[..., ServiceRunner]":
    """
    Return a function that returns a runner of services, to be started by the test.

    ``runner_factory(*service_classes, config=None, **options)``; see ``container_factory``.  As in
    nameko, the configuration may also come before the classes.
    """
    return m3_running.runner


@pytest.fixture
def m3_rpc(m3_config: dict[str, Any]) -> "Iterator[ClusterRpcProxy]":
    """Return all services on the bus: ``m3_rpc.orders.place("nuts")`` calls a method."""
    from m3.services import ClusterRpcProxy

    with ClusterRpcProxy(m3_config) as cluster:
        yield cluster
