"""What users test their services with."""

import threading

import pytest

from m3 import Component
from m3.services import (
    Config,
    EventDispatcher,
    ExtensionNotFound,
    RpcTimeout,
    Service,
    ServiceContainer,
    ServiceStateError,
    event_handler,
    rpc,
    timer,
)
from m3.testing import (
    FakeClock,
    entrypoint_hook,
    entrypoint_waiter,
    replace_dependencies,
    restrict_entrypoints,
    worker_factory,
)


class Database(Component):
    """A resource."""


class Shop:
    name = "shop"
    stock = Service("stock")
    dispatch = EventDispatcher()
    config = Config()
    database: Database
    label: str = "a shop"

    @rpc
    def sell(self, thing):
        if not self.stock.take(thing):
            raise LookupError(thing)
        self.dispatch("sold", thing)
        return f"{thing} sold"

    @event_handler("stock", "low")
    def order(self, thing):
        """Called by nobody here."""

    @timer(interval=10)
    def tick(self):
        """Called by the clock."""


@pytest.fixture
def container():
    """A container of the shop, whose other services are mocks."""
    container = ServiceContainer(Shop, {"AMQP_URI": "memory://testing"})
    container.stock, container.dispatch = replace_dependencies(container, "stock", "dispatch")
    return container


def test_worker_factory():
    """The methods of a service can be called without a container; what is not named is a mock."""
    shop = worker_factory(Shop, database="mine")
    shop.stock.take.return_value = True
    assert shop.sell("nut") == "nut sold"
    shop.dispatch.assert_called_once_with("sold", "nut")
    assert (shop.database, shop.label) == ("mine", "a shop")
    assert worker_factory(Shop, stock=None).stock is None


def test_worker_factory_knows_what_is_declared():
    """A name that the service does not declare is a mistake in the test."""
    with pytest.raises(ExtensionNotFound, match=r"no dependency 'stok'; it has .*stock"):
        worker_factory(Shop, stok=None)


def test_entrypoint_hook(container):
    """A method is called as any caller would, and returns or raises what it does."""
    with container, entrypoint_hook(container, "sell") as sell:
        assert sell("nut") == "nut sold"
        container.stock.take.return_value = False
        with pytest.raises(LookupError):
            sell(thing="bolt")
    with pytest.raises(ExtensionNotFound), entrypoint_hook(container, "sel"):
        """Never gets here."""


def test_entrypoint_waiter(container):
    """The end of the block waits for a call, and has what came of it."""
    with container:
        with entrypoint_waiter(container, "sell") as result:
            container.spawn_worker("sell", ("nut",))
        assert result.get() == "nut sold"
        container.stock.take.return_value = False
        with entrypoint_waiter(container, "sell") as result:
            with pytest.raises(LookupError, match="not ended yet"):
                result.get()
            container.spawn_worker("sell", ("bolt",))
        with pytest.raises(LookupError, match="bolt"):
            result.get()


def test_entrypoint_waiter_waits_for_a_certain_call(container):
    """A callback says which call is meant."""
    with container:
        with entrypoint_waiter(
            container, "sell", callback=lambda call, result, error: "bolt" in call.args
        ) as result:
            for thing in ("nut", "bolt", "screw"):
                container.spawn_worker("sell", (thing,))
        assert result.get() == "bolt sold"


def test_entrypoint_waiter_does_not_wait_for_ever(container):
    """After the timeout it says which call has not come."""
    with (
        container,
        pytest.raises(RpcTimeout, match=r"shop\.sell"),
        entrypoint_waiter(container, "sell", timeout=0.01),
    ):
        """Nothing calls it."""


def fails(call, result, error):
    """Say by an exception that the call is not what was expected."""
    raise AssertionError(f"not {result}")


def gives_up(call, result, error):
    """Say so by what is no ``Exception``."""
    pytest.fail(f"not {result}")


@pytest.mark.parametrize(
    ("callback", "raised"), [(fails, AssertionError), (gives_up, pytest.fail.Exception)]
)
def test_what_the_callback_of_a_waiter_raises(container, callback, raised):
    """It comes out at the end of the block, and changes nothing for the call."""
    with container:
        with (
            pytest.raises(raised, match="not nut sold"),
            entrypoint_waiter(container, "sell", callback=callback),
        ):
            call = container.spawn_worker("sell", ("nut",))
        assert call.result(20) == "nut sold"


def test_entrypoint_waiter_takes_one_call(container):
    """Of calls that end at the same time it is asked for one after the other."""
    other, asked = threading.Event(), []

    def callback(call, result, error):
        asked.append(result)
        if len(asked) > 1:
            other.set()
        other.wait(0.5)
        return True

    with container:
        with entrypoint_waiter(container, "sell", callback=callback) as result:
            calls = [container.spawn_worker("sell", (thing,)) for thing in ("nut", "bolt")]
        assert {call.result(20) for call in calls} == {"nut sold", "bolt sold"}
        assert asked == [result.get()]


def test_replace_dependencies_by_objects():
    """A certain object in place of a dependency; one mock comes by itself."""
    container = ServiceContainer(Shop, {"AMQP_URI": "memory://testing"})
    stock = replace_dependencies(container, "stock", dispatch=lambda *event: None)
    with container, entrypoint_hook(container, "sell") as sell:
        assert sell("nut") == "nut sold"
        stock.take.assert_called_once_with("nut")
        with pytest.raises(ServiceStateError):
            replace_dependencies(container, "stock")
    with pytest.raises(ExtensionNotFound, match="no dependency 'stok'"):
        replace_dependencies(ServiceContainer(Shop, {}), "stok")


def test_restrict_entrypoints(container):
    """Only the named methods are called; all can be, by hand."""
    restrict_entrypoints(container, "order")
    names = [spec.name for spec in container.plan().frontends]
    assert names == ["direct", "eventhandler-order"]
    with pytest.raises(ExtensionNotFound):
        restrict_entrypoints(container, "nothing")
    with container, pytest.raises(ServiceStateError):
        restrict_entrypoints(container, "order")


def test_fake_clock():
    """A thread waits for a time of it, which comes when the test says so."""
    clock, woken = FakeClock(100.0), []
    alarm, other = clock.alarm(), clock.alarm()
    sleepers = [
        threading.Thread(target=lambda: woken.append(("first", alarm.wait(5)))),
        threading.Thread(target=lambda: woken.append(("second", other.wait(50)))),
    ]
    for sleeper in sleepers:
        sleeper.start()
    clock.await_sleepers(2)
    clock.advance(5)
    sleepers[0].join()
    assert (clock.time(), clock.monotonic(), woken) == (105, 5, [("first", True)])
    other.cancel()
    sleepers[1].join()
    assert woken[1] == ("second", False)
    assert other.wait(1000) is False
    with pytest.raises(TimeoutError, match="0 timers wait, 1 more"):
        clock.await_sleepers(timeout=0.01)
