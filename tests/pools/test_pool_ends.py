"""Pools that are shut down while somebody asks for their backends, or after that."""

import threading

import pytest

from m3 import BackendPool, configure
from m3.errors import ComponentStateError
from m3.pools import ImproperlyConfigured, SingletonCreateMixin, ThreadSafeCreateMixin

PATIENCE = 20.0


class Gated:
    """A backend whose making waits until the test lets it end."""

    id = "gated"
    is_begun: threading.Event
    may_end: threading.Event
    told: list[str]

    def __init__(self):
        self.is_begun.set()
        assert self.may_end.wait(PATIENCE)
        self.told.append("made")

    def close(self):
        self.told.append("closed")


class GatedPool(BackendPool):
    backend_type = "gated"


@pytest.fixture(params=[ThreadSafeCreateMixin, SingletonCreateMixin])
def backend(request):
    """Configure one backend, of each kind in turn, and return its class."""
    body = {"is_begun": threading.Event(), "may_end": threading.Event(), "told": []}
    backend = type("Backend", (request.param, Gated), body)
    configure(pools={"gated": [backend]})
    return backend


@pytest.fixture
def pool(backend):
    """Return a pool that is set up."""
    pool = GatedPool()
    pool.setup()
    return pool


def test_a_backend_that_is_made_during_the_shutdown_is_closed(pool, backend):
    """The shutdown does not wait for it; who has asked for it is told that the pool is down."""
    errors = []

    def ask():
        try:
            pool["gated"]
        except ComponentStateError as error:
            errors.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    assert backend.is_begun.wait(PATIENCE)
    pool.shutdown()
    backend.may_end.set()
    asking.join(PATIENCE)
    assert backend.told == ["made", "closed"]
    assert len(errors) == 1
    assert "'gated' of GatedPool: the pool was shut down" in errors[0]
    pool.setup()
    assert pool["gated"] is pool["gated"]
    assert backend.told == ["made", "closed", "made"]
    pool.shutdown()


def test_nothing_is_made_after_the_shutdown(pool, backend):
    """Until the next setup, for nobody would close it."""
    backend.may_end.set()
    first = pool["gated"]
    pool.shutdown()
    with pytest.raises(ComponentStateError, match="the pool was shut down"):
        pool["gated"]
    assert backend.told == ["made", "closed"]
    pool.setup()
    assert pool["gated"] is not first
    pool.shutdown()


def test_a_pool_class_without_a_type():
    """It is told as such, and not as a type called None that is not configured."""

    class Typeless(BackendPool):
        """Nothing."""

    for ask in (Typeless.all_classes, lambda: Typeless.get("x"), Typeless().setup):
        with pytest.raises(ImproperlyConfigured, match="Typeless has no backend_type"):
            ask()
