"""Pools as resources of a conductor: beside components, by annotation, from start to end."""

import pytest

from m3 import BackendPool, Component, Conductor, configure
from m3.errors import ComponentError
from m3.pools import InvalidBackendError, ThreadSafeCreateMixin


class Storage(ThreadSafeCreateMixin):
    id = "memory"

    def __init__(self, told=None):
        self.told = told if told is not None else []
        self.told.append("create")

    def write(self, data):
        self.told.append(data)

    def close(self):
        self.told.append("close")


class StoragePool(BackendPool):
    backend_type = "storage"


class Archive(Component):
    store: StoragePool

    def setup(self):
        self.store.default.write("setup")

    def shutdown(self):
        self.store.default.write("shutdown")


class Stage:
    store: StoragePool


@pytest.fixture
def told():
    """Configure one backend, and return what it tells."""
    configure(pools={"storage": [Storage]})
    return []


def test_a_pool_is_there_before_and_after_who_needs_it(told):
    """Its backends are created before any user's setup, and closed after all have shut down."""
    pool = StoragePool(default="memory", options={"memory": {"told": told}})
    conductor = Conductor()
    conductor.patch(StoragePool, pool)
    conductor.add(Archive)
    conductor.require(Stage)
    with conductor:
        stage = Stage()
        conductor.inject(stage)
        stage.store.default.write("use")
    assert stage.store is pool
    assert told == ["create", "setup", "use", "shutdown", "close"]


def test_a_pool_that_nobody_configured_is_made_by_its_class(told):
    """Without an instance of the user's, the conductor makes one."""

    class Uses(Component):
        store: StoragePool

        def setup(self):
            self.store["memory"].write("x")

    conductor = Conductor()
    uses = conductor.add(Uses)
    with conductor:
        assert uses.store["memory"].told == ["create", "x"]
        backend = uses.store["memory"]
    assert backend.told == ["create", "x", "close"]


def test_two_pools_of_one_class(told):
    """By name, each with backends of its own."""

    class Copies(Component):
        source: StoragePool
        target: StoragePool

    conductor = Conductor()
    for name in ("source", "target"):
        conductor.add(StoragePool(default="memory"), name=name)
    copies = conductor.add(Copies)
    with conductor:
        assert copies.source.default is not copies.target.default


def test_a_wrong_id_ends_the_start(told):
    """Nobody who needs the pool is set up."""
    conductor = Conductor()
    conductor.patch(StoragePool, StoragePool(default="memry"))
    conductor.add(Archive)
    with pytest.raises(ComponentError, match="did you mean 'memory'") as failed:
        conductor.setup()
    assert isinstance(failed.value.__cause__, InvalidBackendError)


def test_an_error_of_closing_reaches_the_caller(told):
    """With the backend that it came from."""

    class Fails(Storage):
        def close(self):
            raise OSError("stays open")

    configure(pools={"storage": [Fails]})
    conductor = Conductor()
    conductor.add(StoragePool(default="memory"))
    conductor.setup()
    with pytest.raises(ComponentError) as failed:
        conductor.shutdown()
    assert failed.value.error.exceptions[0].__notes__ == ["backend 'memory' of StoragePool"]
