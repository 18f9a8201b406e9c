"""What the pipelines under the oracle are made of, beside ready-made stages."""

import asyncio
import os
import random
import time
from pathlib import Path

from m3 import DROP, Backend, Frontend, Item, RetryLater, Transport
from m3.connectors.file import FileBackend

PACE = 0.0005
"""Seconds that each record takes, so that a run lasts long enough to be killed."""

FAN = 4
"""Of a record numbered n, n modulo so many are made."""

SHARDS = 100
DEAD = 7
"""The last digit of the records that fail for good: one in ten."""

STUCK_ONE_IN = 250


def split(line):
    """Return a line as a mapping."""
    number, text = line.split()
    return {"n": int(number), "text": text.decode()}


def answered(data):
    """Return a record, which is a line or a mapping, with its text in capitals."""
    if isinstance(data, bytes):
        return data.upper()
    return {"n": int(data["n"]), "text": data["text"].upper()}


def number_of(data):
    """Return the number of a record."""
    return int(data.split()[0] if isinstance(data, bytes) else data["n"])


class Answer(Transport):
    """The transport of most scenarios: slow enough to be killed."""

    def transport(self, data):
        time.sleep(PACE)
        return answered(data)


def fast_answer(data):
    """Do the same at once."""
    return answered(data)


def one_in_ten_fails(data):
    """Do the same, but for the records that fail for good."""
    if number_of(data) % 10 == DEAD:
        raise ValueError("this record is bad for good")
    return answered(data)


def answer_row(data):
    """Answer with a mapping."""
    time.sleep(PACE)
    return answered(split(data) if isinstance(data, bytes) else data)


class AnswerAsync(Transport):
    async def transport(self, data):
        await asyncio.sleep(10 * PACE)
        return answered(data)


class AnswerBatch(Transport):
    def process_batch(self, items):
        time.sleep(PACE * len(items) / 4)
        return [answered(item) for item in items]


class FanOut(Transport):
    """Several records, or none, of each."""

    def transport(self, data):
        time.sleep(PACE)
        number = number_of(data)
        for part in range(number % FAN):
            yield b"%d %b" % (number * FAN + part, data.split()[1].upper())


class Sharded(Transport):
    """Adds the name of the file that a record is to go to."""

    def transport(self, data):
        time.sleep(PACE)
        record = answered(split(data) if isinstance(data, bytes) else data)
        return {**record, "shard": f"{record['n'] % SHARDS:02}"}


class Flaky(Transport):
    """Fails three times in ten, at random, in one of two ways."""

    def transport(self, data):
        time.sleep(PACE)
        chance = random.random()
        if chance < 0.2:
            raise ConnectionError("the service is not there")
        if chance < 0.3:
            raise RetryLater(0.002)
        return answered(data)


class OneInTenDies(Transport):
    def transport(self, data):
        time.sleep(PACE)
        if number_of(data) % 10 == DEAD:
            raise ValueError("this record is bad for good")
        return answered(data)


class OneInTenDropped(Transport):
    def transport(self, data):
        time.sleep(PACE)
        return DROP if number_of(data) % 10 == DEAD else answered(data)


class SomeStick(Transport):
    """Does not come back from some records."""

    def transport(self, data):
        time.sleep(PACE)
        if number_of(data) % STUCK_ONE_IN == 0:
            time.sleep(3600)
        return answered(data)


class FlakyFile(FileBackend):
    """The ready-made backend, on a disk that fails three times in ten."""

    def process_batch(self, items):
        if random.random() < 0.3:
            raise OSError("the disk is not there")
        super().process_batch(items)


class Appending(Backend):
    """A file that only grows: it can neither go back nor know what it has already."""

    max_workers = 1

    def __init__(self, path):
        self.path = path

    def setup(self):
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def process(self, data):
        os.write(self.descriptor, data + b"\n")

    def commit(self):
        os.fsync(self.descriptor)

    def cleanup(self):
        os.close(self.descriptor)


class Spool(Frontend):
    """A directory of files, each of which is removed when it is acknowledged."""

    def __init__(self, path):
        self.path = Path(path)

    def produce(self):
        for name in sorted(os.listdir(self.path)):
            yield Item((self.path / name).read_bytes(), name)

    def ack(self, position):
        (self.path / position).unlink()
