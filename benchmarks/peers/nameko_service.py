"""
nameko: a service with ten workers, the default, and a proxy for each caller.

It is made for green threads, so both processes have those of eventlet; real threads
for the callers were slower.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it is deprecated
    import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from typing import Any  # noqa: E402

from eventlet import tpool  # noqa: E402
from kombu import Exchange, Queue  # noqa: E402
from nameko.amqp.publish import Publisher  # noqa: E402
from nameko.events import event_handler  # noqa: E402
from nameko.rpc import rpc  # noqa: E402
from nameko.runners import ServiceRunner  # noqa: E402
from nameko.standalone.events import event_dispatcher  # noqa: E402
from nameko.standalone.rpc import ClusterRpcProxy  # noqa: E402

from benchmarks.peers import URL, plain  # noqa: E402

__all__ = ("calling", "dispatching", "left", "publishing", "readline", "serve")


def config(tag: str) -> dict[str, str]:
    """Return the configuration of a service."""
    return {"AMQP_URI": URL, "rpc_exchange": f"rpc-{tag}"}


def serve(tag: str, handled: Callable[[], object]) -> ServiceRunner:
    """Run the service."""

    class Echo:
        name = f"echo-{tag}"

        @rpc
        def echo(self, value):
            return value

        @event_handler(f"source-{tag}", "something")
        def take(self, _):
            handled()

    runner = ServiceRunner(config(tag))
    runner.add_service(Echo)
    runner.start()
    return runner


@contextmanager
def calling(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Call over a proxy."""
    with ClusterRpcProxy(config(tag)) as proxy:
        yield proxy[f"echo-{tag}"].echo


@contextmanager
def dispatching(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Dispatch in the name of a service; each event is confirmed, the default."""
    dispatch = event_dispatcher(config(tag))
    yield lambda value: dispatch(f"source-{tag}", "something", value)


@contextmanager
def publishing(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Publish persistent messages, the default; each is confirmed, which is on the disk."""
    queue = Queue(plain(tag), Exchange(""), routing_key=plain(tag))
    publisher = Publisher(URL, declare=[queue])
    yield lambda value: publisher.publish(value, exchange="", routing_key=plain(tag))


def left(tag: str) -> tuple[list[str], list[str]]:
    """Return what a service has declared."""
    events = f"evt-source-{tag}-something--echo-{tag}.take"
    return [f"rpc-echo-{tag}", events], [f"rpc-{tag}", f"source-{tag}.events"]


def readline() -> str:
    """Return the next line of stdin; green threads go on meanwhile."""
    return tpool.execute(sys.stdin.readline)
