"""Pipelines whose threads are struck by an exception out of nowhere."""

import ctypes
import threading
import time
from pathlib import Path

from sturdy import Lines, Numbers

from m3 import Backoff, Batch, Frontend, Item, Pipeline, Retry
from m3.errors import BatchError, M3Error

COUNT = 200


class Bolt(BaseException):
    """Raised from another thread."""


class SoftBolt(Exception):
    """Likewise, of the kind that policies are for."""


KINDS = (SystemExit, Bolt, SoftBolt)


def strike(ident, kind):
    """Have *kind* raised in the thread, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))


class Target:
    """Code of a stage that waits, in one of its calls, until its thread was struck."""

    def __init__(self, at):
        self.at = at
        self.calls = 0
        self.is_struck = False
        self.ident = None
        self.arrived = threading.Event()
        self.lock = threading.Lock()

    def one(self, item):
        with self.lock:
            self.calls += 1
            is_at = self.calls == self.at
        if is_at and not self.is_struck:
            self.ident = threading.get_ident()
            self.arrived.set()
            while not self.is_struck:
                pass
            while True:  # until it is there
                pass
        return item

    async def later(self, item):
        return self.one(item)

    def expand(self, item):
        yield item
        yield self.one(item)

    def process_batch(self, items):
        return [self.one(item) for item in items]


class Told(Frontend):
    """Numbers; keeps what it was answered."""

    def __init__(self, target, answers):
        self.target = target
        self.answers = answers
        self.ack = answers.append  # which is no Python code, so that no strike hits the test's own

    def produce(self):
        for number in range(COUNT):
            self.target(number)
            yield Item(number, number)

    def ack(self, position):
        self.answers.append(position)

    def nack(self, position, error):
        self.answers.append(position)


def drop(item):
    """Be a backend that forgets."""


AGAIN = Retry(attempts=2, backoff=Backoff(initial=0.001), then="skip")


def pipelines(target, folder, answers):
    """Return pipelines that call *target* in every kind of place."""
    numbers = range(COUNT)
    told = Told(lambda item: item, answers)
    state = {"state": folder / "state", "checkpoint_interval": 0.005}
    return {
        "call": Pipeline(numbers).transport(target.one, workers=2).backend(drop),
        "chained": Pipeline(numbers).transport(target.one, workers=0).backend(drop),
        "ordered": Pipeline(numbers)
        .transport(target.one, workers=3, ordering="input")
        .backend(drop),
        "skip": Pipeline(numbers).transport(target.one, on_error="skip").backend(drop),
        "retry": Pipeline(numbers).transport(target.one, on_error=AGAIN).backend(drop),
        "timeout": Pipeline(numbers).transport(target.one, timeout=30).backend(drop),
        "expand": Pipeline(numbers).transport(target.expand).backend(drop),
        "gather": Pipeline(numbers).backend(Gathering(target), batch=Batch(count=7)),
        "async": Pipeline(numbers).transport(target.later, concurrency=4).backend(drop),
        "frontend": Pipeline(Told(target.one, answers)).backend(drop),
        "backend": Pipeline(numbers).backend(target.one),
        "answered": Pipeline(told).transport(target.one, workers=2).backend(drop),
        "two ends": Pipeline(numbers).transport(target.one).backend(drop).backend(str),
        "state": Pipeline(Numbers(COUNT), **state)
        .transport(target.one)
        .backend(Lines(folder / "out")),
    }


def third_fails(number):
    if number % 3 == 0:
        raise ValueError(number)
    return number


async def third_fails_later(number):
    return third_fails(number)


class PartlyFailing:
    """A backend of whose batches some items fail."""

    def process_batch(self, items):
        errors = {at: ValueError(it) for at, it in enumerate(items) if it % 3 == 0}
        if errors:
            raise BatchError(errors)


def slow(number):
    if number in (5, 150):
        time.sleep(0.08)
    return number


LETTER = Retry(attempts=2, backoff=Backoff(initial=0.0005), then="dead_letter")


def failing_pipelines(_target, folder, answers):
    """Return pipelines in which items fail, and are tried again, put aside or given up."""
    told = Told(lambda item: item, answers)
    ordered = {"workers": 2, "ordering": "input"}
    kept = Pipeline(told, dead_letters=folder / "letters.jsonl")
    return {
        "letters": kept.transport(third_fails, on_error="dead_letter").backend(drop),
        "letters in order": kept.transport(third_fails, on_error=LETTER, **ordered).backend(drop),
        "letters, async": kept.transport(
            third_fails_later, on_error=LETTER, ordering="input", concurrency=4
        ).backend(drop),
        "letters of batches": kept.backend(PartlyFailing(), batch=Batch(count=7), on_error=LETTER),
        "limit": Pipeline(told)
        .transport(third_fails, on_error="skip", max_failures=20)
        .backend(drop),
        "expired": Pipeline(told)
        .transport(slow, workers=2, timeout=0.03, on_error="skip")
        .backend(drop),
        "expired in order": Pipeline(told)
        .transport(slow, timeout=0.03, on_error=AGAIN, **ordered)
        .backend(drop),
    }


class Gathering:
    """A backend that takes batches."""

    def __init__(self, target):
        self.process_batch = target.process_batch


NAMES = list(pipelines(Target(1), Path(), []))
"""What they are called."""

FAILING = list(failing_pipelines(None, Path(), []))
"""Likewise."""


def run(engine, errors):
    try:
        engine.start()
    except (M3Error, BaseExceptionGroup, *KINDS) as error:
        errors.append(error)
