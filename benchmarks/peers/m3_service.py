"""m3: a service with ten workers, the default, and a proxy for each caller."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.peers import URL, plain
from m3.messaging import Queue, connect
from m3.messaging.bodies import Bodies
from m3.services import ClusterRpcProxy, ServiceRunner, event_dispatcher, event_handler, rpc

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
    """Dispatch in the name of a service; each event is confirmed."""
    with event_dispatcher(config(tag)) as dispatch:
        yield lambda value: dispatch(f"source-{tag}", "something", value)


@contextmanager
def publishing(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Publish on a bus; each message is confirmed, which is on the disk."""
    bodies = Bodies()
    with connect(URL) as bus:
        bus.declare(Queue(plain(tag)))
        yield lambda value: bus.publish(bodies.dumps(value), routing_key=plain(tag))


def left(tag: str) -> tuple[list[str], list[str]]:
    """Return what a service has declared."""
    events = f"evt-source-{tag}-something--echo-{tag}.take"
    queues = [f"rpc-echo-{tag}", events, f"dead-echo-{tag}"]
    return queues, [f"rpc-{tag}", f"source-{tag}.events"]


def readline() -> str:
    """Return the next line of stdin."""
    return sys.stdin.readline()
