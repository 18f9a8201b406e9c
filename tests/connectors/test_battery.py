"""Our own connectors, proven with the batteries that third parties use."""

import json
import os
import sys

import pytest

from m3.connectors.count import CountBackend
from m3.connectors.file import FileBackend, FileFrontend
from m3.connectors.jsonl import JsonlBackend, JsonlFrontend
from m3.connectors.null import NullBackend
from m3.connectors.stdin import StdinFrontend
from m3.connectors.stdout import StdoutBackend
from m3.testing import BackendBattery, FrontendBattery, MemorySink, MemorySource

pytestmark = pytest.mark.once

LINES = [b"first", b"", b"\xff\0", "fünf".encode(), b"5\r", b"x" * 3000, b"7", b"8", b"9", b"last"]
DOCUMENTS = [1, None, "two", [], {"a": [True]}, 6.5, -7, "acht", {"n": 9}, 10]


def put_in_place(battery, name, value):
    """Set an attribute of sys until the end of the test."""
    battery.exit_stack.callback(setattr, sys, name, getattr(sys, name))
    setattr(sys, name, value)


class TestMemorySource(FrontendBattery):
    def prepare(self):
        self.list = list(range(10))

    def make(self):
        return MemorySource(self.list)

    def expected(self):
        return list(range(10))

    def grow_input(self):
        self.list.append("more")
        return ["more"]

    def change_input(self):
        del self.list[:]


class TestMemorySink(BackendBattery):
    outlives_the_process = False

    def prepare(self):
        self.sink = MemorySink()

    def make(self):
        return self.sink

    def read_back(self):
        return self.sink.items

    def change_output(self):
        del self.sink.items[:]


class FileInput(FrontendBattery):
    """A file of lines, for those who read files."""

    def prepare(self):
        self.path = self.folder / "input"
        self.path.write_bytes(b"\n".join(LINES))

    def expected(self):
        return LINES

    def grow_input(self):
        with self.path.open("ab") as file:
            file.write(b"\nmore\nyet more\n")
        return [b"more", b"yet more"]

    def change_input(self):
        self.path.write_bytes(self.path.read_bytes().replace(b"first", b"other"))


class TestFileFrontend(FileInput):
    def make(self):
        return FileFrontend(path=self.path)

    def make_blocked(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR)
        self.exit_stack.callback(os.close, writer)
        os.write(writer, b"\n".join(LINES) + b"\n")
        return FileFrontend(path=fifo)


class TestFileFrontendOfManyFiles(FrontendBattery):
    def prepare(self):
        self.paths = [self.folder / name for name in "abcd"]
        contents = (b"1\n2\n3", b"", b"4\n5\n6\n", b"7\n8\n\n10")
        for path, content in zip(self.paths, contents, strict=True):
            path.write_bytes(content)

    def make(self):
        return FileFrontend(path=self.paths)

    def expected(self):
        return [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"", b"10"]

    def grow_input(self):
        self.paths.append(self.folder / "e")
        self.paths[-1].write_bytes(b"11\n12")
        return [b"11", b"12"]

    def change_input(self):
        for path in self.paths:
            path.write_bytes(b"?")


class TestJsonlFrontend(FrontendBattery):
    def prepare(self):
        self.path = self.folder / "input"
        records = [*map(json.dumps, DOCUMENTS[:5]), "{", *map(json.dumps, DOCUMENTS[5:])]
        self.path.write_text("".join(f"{record}\n" for record in records))

    def make(self):
        return JsonlFrontend(path=self.path)

    def expected(self):
        return DOCUMENTS

    def grow_input(self):
        with self.path.open("a") as file:
            file.write('"more"\n')
        return ["more"]

    def change_input(self):
        self.path.write_text("\n" + self.path.read_text())


class TestStdinFrontend(FileInput):
    def make(self):
        put_in_place(self, "stdin", self.exit_stack.enter_context(self.path.open("rb")))
        return StdinFrontend()

    def make_blocked(self):
        read_end, write_end = os.pipe()
        put_in_place(self, "stdin", self.exit_stack.enter_context(os.fdopen(read_end)))
        self.exit_stack.callback(os.close, write_end)
        os.write(write_end, b"\n".join(LINES) + b"\n")
        return StdinFrontend()


class FileOutput(BackendBattery):
    """A file of lines, for those who write files."""

    @property
    def path(self):
        return self.folder / "output"

    def read_back(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def unwritable(self):
        return {1, 2}

    def change_output(self):
        self.path.write_text("other\n")


class TestFileBackend(FileOutput):
    is_whole = True

    def make(self):
        return FileBackend(path=self.path)


class TestFileBackendThatAppends(FileOutput):
    def make(self):
        return FileBackend(path=self.path, append=True)


class TestJsonlBackend(FileOutput):
    is_whole = True

    def make(self):
        return JsonlBackend(path=self.path)

    def items(self):
        return DOCUMENTS

    def read_back(self):
        return list(map(json.loads, super().read_back()))


class TestJsonlBackendThatAppends(TestJsonlBackend):
    is_whole = False

    def make(self):
        return JsonlBackend(path=self.path, append=True)


class TestStdoutBackend(FileOutput):
    def make(self):
        put_in_place(self, "stdout", self.exit_stack.enter_context(self.path.open("a")))
        return StdoutBackend()

    def unwritable(self):
        return "\ud800"


class TestCountBackend(BackendBattery):
    def make(self):
        return CountBackend()


class TestNullBackend(BackendBattery):
    def make(self):
        return NullBackend()
