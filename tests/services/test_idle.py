"""Services that have nothing to do cost nothing."""

import threading
from time import process_time

import pytest

from m3.messaging import Queue
from m3.services import consume, event_handler, rpc, run_services, timer

SECONDS = 2.0
ALLOWED = 0.01
"""Seconds of the processor, for each second in which nothing happens."""


def idle_service(number):
    """Return a service with an entrypoint of each kind that waits."""

    class Idle:
        name = f"idle-{number}"

        @rpc
        def call(self):
            pass

        @event_handler("somebody", "something")
        def handle(self, _):
            pass

        @consume(Queue(f"idle-{number}"))
        def take(self, _):
            pass

        @timer(interval=3600)
        def tick(self):
            pass

    return Idle


@pytest.mark.parametrize(
    "services",
    [20, pytest.param(1000, marks=[pytest.mark.stress, pytest.mark.timeout(600)])],
)
def test_services_without_work_need_no_processor(services, record_property):
    """All their threads sleep until something happens; none looks whether it has."""
    config = {"AMQP_URI": "memory://idle", "max_workers": 1}
    nothing = threading.Event()
    with run_services(config, *map(idle_service, range(services))):
        nothing.wait(1.0)  # in which the last of them have begun to wait
        before = process_time()
        nothing.wait(SECONDS)
        used = (process_time() - before) / SECONDS
    record_property("seconds of the processor per second", used)
    assert used < ALLOWED
