"""Measure how fast messages go through a bus: published, received, acknowledged."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks.figures import Figures, fitting_count

__all__ = ("CASES", "measure")

CASES = {
    "kombu": "kombu, memory://",
    "memory": "m3, memory://",
    "transient": "m3, sqlite:///, not persistent",
    "persistent": "m3, sqlite:///, persistent",
}
"""Every bus: how :func:`measure` knows it, and what to call it in a table."""

BODY = bytes(100)


def measure(*, case: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """Let one thread publish messages of 100 bytes, and receive and acknowledge each."""
    with kombu_trip() if case == "kombu" else m3_trip(case) as trip:

        def seconds_for(messages: int) -> float:
            began = perf_counter()
            for _ in range(messages):
                trip()
            return perf_counter() - began

        count = count or fitting_count(seconds_for, seconds)
        cpu_before = process_time()
        wall = seconds_for(count)
        cpu = (process_time() - cpu_before) / count
    return {"count": count, "rate": count / wall, "wall": wall, "cpu": cpu}


@contextmanager
def m3_trip(case: str) -> Iterator[Callable[[], None]]:
    """Yield what sends one message through a bus of m3."""
    messaging = importlib.import_module("m3.messaging")
    with TemporaryDirectory() as folder:
        path = Path(folder, "bus.db")
        url = "memory://benchmark" if case == "memory" else f"sqlite:///{path}"
        with messaging.connect(url) as bus:
            consumer = bus.consumer(messaging.Queue("jobs"), prefetch=10)
            persistent = case == "persistent"

            def trip() -> None:
                message = messaging.Message(body=BODY, persistent=persistent)
                bus.publish(message, routing_key="jobs")
                consumer.ack(consumer.receive())

            yield trip


@contextmanager
def kombu_trip() -> Iterator[Callable[[], None]]:
    """Yield what sends one message through kombu's bus in memory."""
    kombu = importlib.import_module("kombu")
    with kombu.Connection("memory://") as connection:
        queue = kombu.Queue("jobs")
        producer = connection.Producer(auto_declare=False)
        received: list[object] = []
        consumer = connection.Consumer(
            queue, accept=None, callbacks=[lambda _, message: received.append(message)]
        )
        consumer.qos(prefetch_count=10)
        with consumer:

            def trip() -> None:
                producer.publish(BODY, routing_key="jobs", content_encoding="binary")
                while not received:
                    connection.drain_events()
                received.pop().ack()

            yield trip
