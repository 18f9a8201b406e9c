"""Stages that survive: a source that resumes, and sinks of each kind, as plain as can be."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from m3 import Backend, Frontend, Item, TransactionalBackend


class Numbers(Frontend):
    """The numbers from 0 on; the position of each is itself."""

    def __init__(self, count, hook=None):
        self.count = count
        self.hook = hook
        self.first = 0
        self.resumed = "never"

    def resume(self, checkpoint):
        self.resumed = checkpoint
        self.first = 0 if checkpoint is None else checkpoint + 1

    def produce(self):
        for number in range(self.first, self.count):
            if self.hook is not None:
                self.hook(number)
            yield Item(number, number)


class Lines(Backend):
    """A file that is cut off at the mark when it is gone back to."""

    max_workers = 1

    def __init__(self, path):
        self.path = Path(path)

    def setup(self):
        self.file = self.path.open("ab")

    def process(self, data):
        self.file.write(b"%d\n" % data)

    def commit(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def resume(self, mark):
        self.file.truncate(mark or 0)
        self.file.seek(0, os.SEEK_END)

    def cleanup(self):
        self.file.close()


class Appended(Backend):
    """A file that only grows."""

    def __init__(self, path):
        self.path = Path(path)

    def setup(self):
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def process(self, data):
        os.write(self.descriptor, b"%d\n" % data)

    def cleanup(self):
        os.close(self.descriptor)


class Table(TransactionalBackend):
    """A table of numbers, and the checkpoint beside it."""

    max_workers = 1

    def __init__(self, path):
        self.path = path
        self.is_kept = False

    def setup(self):
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.execute("create table if not exists numbers (number)")
        self.database.execute("create table if not exists kept (key primary key, value)")
        self.database.execute("begin")

    def process(self, data):
        self.database.execute("insert into numbers values (?)", (data,))
        if not self.is_kept:
            self.end()

    def committed(self, key):
        self.is_kept = True
        row = self.database.execute("select value from kept where key = ?", (key,)).fetchone()
        return row and row[0]

    def commit_with(self, key, checkpoint):
        self.database.execute("insert or replace into kept values (?, ?)", (key, checkpoint))
        self.end()

    def end(self):
        self.database.execute("commit")
        self.database.execute("begin")

    def cleanup(self):
        with suppress(sqlite3.Error):
            self.database.rollback()
        self.database.close()


def lines_of(path):
    """Return the numbers in a file, in their order."""
    return [int(line) for line in Path(path).read_bytes().split()] if Path(path).exists() else []


def rows_of(path):
    """Return the numbers in a table, in their order."""
    database = sqlite3.connect(path)
    try:
        return [number for (number,) in database.execute("select number from numbers")]
    finally:
        database.close()
