"""
py-amqp: a loop that answers what comes in, without a framework.

Calls are the bare messages: not persistent, not confirmed, and nobody notices when
the service is not there.  Events and what is published are persistent and confirmed,
as they are with the others.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import amqp

from benchmarks.peers import URL, plain

__all__ = ("calling", "dispatching", "left", "publishing", "readline", "serve")

PREFETCH = 10
PERSISTENT = 2


@contextmanager
def channel(*, confirmed: bool = False) -> Iterator[Any]:
    """Connect, and give a channel."""
    parts = urlsplit(URL)
    with amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        virtual_host=parts.path.removeprefix("/") or "/",
        confirm_publish=confirmed,
    ) as connection:
        yield connection.channel()


def serve(tag: str, handled: Callable[[], object]) -> threading.Thread:
    """Answer and handle in one thread."""
    begun = threading.Event()
    thread = threading.Thread(target=loop, args=(tag, handled, begun.set), daemon=True)
    thread.start()
    begun.wait()
    return thread


def loop(tag: str, handled: Callable[[], object], ready: Callable[[], object]) -> None:
    """Answer calls and take events, until the process ends."""
    with channel() as served:

        def answer(request):
            message = amqp.Message(
                json.dumps(json.loads(request.body)),
                correlation_id=request.properties["correlation_id"],
            )
            served.basic_publish(message, routing_key=request.properties["reply_to"])
            served.basic_ack(request.delivery_tag)

        def take(event):
            json.loads(event.body)
            handled()
            served.basic_ack(event.delivery_tag)

        calls, events = left(tag)[0]
        served.basic_qos(0, PREFETCH, False)
        for queue, callback in ((calls, answer), (events, take)):
            served.queue_declare(queue, durable=True, auto_delete=False)
            served.basic_consume(queue, callback=callback)
        ready()
        while True:
            served.connection.drain_events()


@contextmanager
def calling(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Publish to the queue of the calls, and wait for the answer in another."""
    answers: dict[str, Any] = {}
    numbers = count()
    with channel() as own:
        replies, _, _ = own.queue_declare(exclusive=True)

        def arrived(message):
            answers[message.properties["correlation_id"]] = json.loads(message.body)
            own.basic_ack(message.delivery_tag)

        own.basic_consume(replies, callback=arrived)

        def call(value):
            number = str(next(numbers))
            message = amqp.Message(json.dumps(value), correlation_id=number, reply_to=replies)
            own.basic_publish(message, routing_key=left(tag)[0][0])
            while number not in answers:
                own.connection.drain_events()
            return answers.pop(number)

        yield call


@contextmanager
def dispatching(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Publish to the queue of the events."""
    with channel(confirmed=True) as own:
        yield lambda value: publish(own, value, left(tag)[0][1])


@contextmanager
def publishing(tag: str) -> Iterator[Callable[[Any], Any]]:
    """Publish to a queue."""
    with channel(confirmed=True) as own:
        own.queue_declare(plain(tag), durable=True, auto_delete=False)
        yield lambda value: publish(own, value, plain(tag))


def publish(own: Any, value: Any, queue: str) -> None:
    """Publish a message, and wait until the broker has it."""
    message = amqp.Message(json.dumps(value), delivery_mode=PERSISTENT)
    own.basic_publish(message, routing_key=queue)


def left(tag: str) -> tuple[list[str], list[str]]:
    """Return the queues of the calls and the events."""
    return [f"calls-{tag}", f"events-{tag}"], []


def readline() -> str:
    """Return the next line of stdin."""
    return sys.stdin.readline()
