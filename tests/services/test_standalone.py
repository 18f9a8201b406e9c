"""Programs that are no service: what their calls do when the connection ends."""

import threading

import pytest

from m3.errors import BusError
from m3.messaging import connect
from m3.services import (
    ClusterRpcProxy,
    RpcTimeout,
    ServiceRpcProxy,
    ServiceStateError,
    rpc,
    standalone,
)
from m3.services.proxies import Caller, ServiceProxy
from m3.services.replies import Replies
from m3.services.standalone import StandaloneDispatcher, bus_of


class Slow:
    name = "slow"
    may_end = threading.Event()

    @rpc
    def wait(self, seconds):
        self.may_end.wait(seconds)
        return "done"


@pytest.fixture
def slow(serve):
    """Run a service whose calls last until the test lets them end."""
    Slow.may_end.clear()
    yield serve(Slow)
    Slow.may_end.set()


def test_calls_that_are_not_answered_yet_fail_when_the_proxy_stops(slow, config):
    """They do not wait for their deadline."""
    with ClusterRpcProxy(config) as cluster:
        reply = cluster.slow.wait.call_async(20)
    with pytest.raises(BusError, match="the replies were stopped"):
        reply.result()


def test_a_dispatcher_is_for_all_threads(hurried, config, monkeypatch):
    """Each event has its own connection, which is closed, whoever else dispatches meanwhile."""
    opened = []

    def kept_bus_of(config):
        bus = bus_of(config)
        opened.append(bus)
        return bus

    monkeypatch.setattr(standalone, "bus_of", kept_bus_of)
    dispatch = StandaloneDispatcher(config)
    together, failures = threading.Barrier(4), []

    def dispatch_many():
        together.wait()
        try:
            for number in range(20):
                dispatch("ship", "arrived", number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=dispatch_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(opened) == 80
    for bus in opened:
        with pytest.raises(BusError):  # it was closed
            bus.health()


def test_a_proxy_can_be_started_and_stopped_by_hand(serve, config):
    """Where there is no block, ``start`` gives the proxy, and ``stop`` ends it."""

    class Stock:
        name = "stock"

        @rpc
        def take(self):
            return 1

    serve(Stock)
    connection = ServiceRpcProxy("stock", config)
    stock = connection.start()
    assert stock.take() == 1
    connection.stop()
    with pytest.raises(BusError):
        stock.take()


def test_a_proxy_is_used_within_its_block(config, bus):
    """Before and after it there is no connection, and the error says so."""
    cluster = ClusterRpcProxy(config)
    for _ in range(2):
        with pytest.raises(ServiceStateError, match="with block"):
            cluster.slow.wait(1)
        with cluster:
            assert repr(cluster.slow.wait) == "<method slow.wait>"
    with pytest.raises(AttributeError):
        cluster.__nothing__  # noqa: B018


def test_late_answers_are_counted(slow, bus, bus_url):
    """An answer that nobody waits for any longer is discarded; the next one is not."""
    replies = Replies()
    with connect(bus_url) as replies.bus:
        replies.setup()
        try:
            proxy = ServiceProxy(Caller(replies.bus, replies, {}, {}, timeout=0.2), "slow")
            with pytest.raises(RpcTimeout):
                proxy.wait(20)
            patient = ServiceProxy(Caller(replies.bus, replies, {}, {}), "slow")
            Slow.may_end.set()
            while replies.late == 0:
                assert patient.wait(0) == "done"
        finally:
            replies.shutdown()


def test_a_dispatcher_is_in_one_with_block_at_a_time(config, monkeypatch):
    """A second one is refused, so that the connection of the first is not lost, and left open."""
    opened = []

    class Counted:
        def __init__(self, config):
            self.is_up = False
            opened.append(self)

        def setup(self):
            self.is_up = True

        def shutdown(self):
            self.is_up = False

    monkeypatch.setattr(standalone, "bus_of", Counted)
    dispatch = StandaloneDispatcher(config)
    with dispatch, pytest.raises(ServiceStateError, match="in a with block already"), dispatch:
        """Not reached."""
    assert [bus.is_up for bus in opened] == [False]
    with dispatch:
        assert opened[-1].is_up
    assert not opened[-1].is_up


def test_a_call_that_is_interrupted_is_forgotten(slow, config, monkeypatch):
    """After Ctrl-C nobody waits for its answer any more, and nothing is kept for it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with ClusterRpcProxy(config) as cluster:
        replies = cluster._caller._replies
        monkeypatch.setattr(replies.bus, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.slow.wait(20)
        monkeypatch.undo()
        assert replies._open == {}
