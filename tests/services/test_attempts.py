"""Methods that ask to be called again, or end their service: what whoever waits is told."""

import http.client
import threading

import pytest

from m3.errors import RetryLater, StopPipeline
from m3.services import (
    RemoteError,
    RpcTimeout,
    ServiceContainer,
    ServiceRpcProxy,
    ServiceStopped,
    once,
    rpc,
    timer,
)
from m3.services import (
    http as route,
)
from m3.services.entrypoints import MOST_ATTEMPTS
from m3.testing import FakeClock, entrypoint_hook


class Moody:
    """Succeeds at the attempt that it is told."""

    attempts = 0

    @rpc
    def serve(self, good, seconds=0):
        Moody.attempts += 1
        if Moody.attempts < good:
            raise RetryLater(seconds, "not in the mood")
        return Moody.attempts

    @rpc
    def end(self):
        raise StopPipeline


@pytest.fixture
def moody(serve):
    Moody.attempts = 0
    return serve(Moody).container("moody")


@pytest.fixture
def proxy(moody, config):
    with ServiceRpcProxy("moody", config, timeout=20) as proxy:
        yield proxy


def test_a_call_that_asks_for_it_is_made_again(proxy):
    """Its caller knows nothing of that, and gets the result."""
    assert proxy.serve(3) == 3


def test_a_call_is_not_made_again_without_end(proxy):
    """After the last attempt its caller is told what the method has raised."""
    with pytest.raises(RemoteError, match="RetryLater not in the mood"):
        proxy.serve(1000)
    assert Moody.attempts == MOST_ATTEMPTS


def test_a_caller_does_not_wait_for_what_is_after_its_deadline(proxy):
    """An attempt that would come too late is an error at once, and is not made."""
    with pytest.raises(RpcTimeout, match=r"moody\.serve wants to be called again in 3600 s"):
        proxy.serve(2, seconds=3600)
    assert Moody.attempts == 1


def test_the_caller_of_a_method_that_ends_its_service_is_told_so(proxy, moody):
    """No result will come, and it does not wait for its deadline to learn that."""
    with pytest.raises(ServiceStopped, match=r"moody\.end has ended its service"):
        proxy.end()
    assert moody.wait(20).state == "finished"


def test_a_direct_call(moody):
    """It is made again, has a limit, and knows when it has ended the service."""
    with entrypoint_hook(moody, "serve") as call:
        assert call(3) == 3
        with pytest.raises(RetryLater, match="not in the mood"):
            call(1000)
    assert Moody.attempts == 3 + MOST_ATTEMPTS
    with entrypoint_hook(moody, "end") as call, pytest.raises(ServiceStopped, match="has ended"):
        call()


def test_a_timer_that_asks_for_another_attempt(config, bus):
    """The attempts are one call: what is due meanwhile is left out, and then it goes on."""
    clock, times = FakeClock(), []

    class Sweeper:
        @timer(interval=10)
        def sweep(self):
            times.append(clock.monotonic())
            if len(times) < 4:
                clock.advance(4)
                raise RetryLater(0)

    with ServiceContainer(Sweeper, config, clock=clock):
        clock.run(40)
    assert times == [10, 14, 18, 22, 30, 40]


def test_once_asks_for_another_attempt(config, bus):
    """What is called once at the start may be tried again, as often as all else."""
    attempts, done = [], threading.Event()

    class Boot:
        @once
        def boot(self):
            attempts.append(1)
            if len(attempts) == MOST_ATTEMPTS:
                done.set()
            raise RetryLater(0)

    with ServiceContainer(Boot, config) as container:
        assert done.wait(20)
    assert len(attempts) == MOST_ATTEMPTS
    assert container.report().failed == 1


def test_a_request_that_comes_too_early():
    """A client is told at once when to come again, in the word that HTTP has for it."""
    pytest.importorskip("cheroot")

    class Shop:
        @route("GET", "/")
        def item(self, request):
            raise RetryLater(1.2)

    config = {"AMQP_URI": "memory://attempts", "WEB_SERVER_ADDRESS": "127.0.0.1:0"}
    with ServiceContainer(Shop, config) as container:
        connection = http.client.HTTPConnection(*container.entrypoint("item").address, timeout=20)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        connection.close()
