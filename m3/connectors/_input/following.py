"""
Reading a file that grows, as ``tail -F`` does: and the files that take its place.

A log is rotated in one of two ways: the file gets another name and a new one
its own, or its content is copied to another file and cut off.  Both are
noticed within the interval at which we look, for nothing tells us of them.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from m3.connectors._input.compression import Decompression
from m3.connectors._input.passages import Passage, Readable
from m3.connectors._input.places import Place, Trail, check_unchanged, place_of
from m3.connectors._input.reading import BLOCK, open_path
from m3.connectors._input.records import RecordPosition, Splitting
from m3.connectors._input.wakeup import Wakeup
from m3.errors import ConfigError, StateError, abridged

__all__ = ("INTERVAL", "Following")

INTERVAL = 0.2
"""Seconds between two looks for something new."""

GRACE = 5
"""How often to look whether the writer still writes to a file that has been renamed."""

WINDOW = 1024

VERSION = 1

ROTATED = re.compile(r"[.-]\d[\d.-]*(\.(gz|bz2|xz|zst))?")
"""What is put behind the name of a log when it is rotated: ``.1``, ``-20240131.gz``."""

Identity = tuple[int, int]
"""The device and the number of a file on it."""


class LiveFile:
    """
    A file that others write to; it ends when another one has its name, or it was cut off.

    Args:
        path: where it was opened.
        name: what it is called in positions.
        descriptor: of the open file.
    """

    def __init__(self, path: str, name: str, descriptor: int) -> None:
        self._path = path
        self.name = name
        self.descriptor = descriptor
        self._offset = 0
        self._tail = b""

    def blocks(self, wakeup: Wakeup) -> Iterator[bytes]:
        """Yield blocks; wait for more until the file has ended or *wakeup* is set."""
        self._offset = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        self._tail = self._before()
        looks = 0
        while not wakeup.is_set() and self._is_as_it_was():
            block = os.read(self.descriptor, BLOCK)
            if block:
                looks = 0
                self._offset += len(block)
                self._tail = (self._tail + block)[-WINDOW:]
                yield block
                continue
            looks = looks + 1 if self._has_another_its_name() else 0
            if looks > GRACE:
                return
            wakeup.wait(INTERVAL)

    def _before(self) -> bytes:
        window = min(WINDOW, self._offset)
        return os.pread(self.descriptor, window, self._offset - window)

    def _is_as_it_was(self) -> bool:
        """Say whether what was read is still there, and was not cut off and written anew."""
        return self._before() == self._tail

    def _has_another_its_name(self) -> bool:
        try:
            return identity(Path(self._path).stat()) != identity(os.fstat(self.descriptor))
        except FileNotFoundError:
            return False


class Following:
    """
    Follows a path over any number of files that are found there.

    Args:
        path: of the file, which may not be there yet.
        wakeup: ends the waiting.
    """

    def __init__(self, path: str, wakeup: Wakeup) -> None:
        self._path = path
        self._wakeup = wakeup
        self._trails: dict[str, tuple[Trail, Identity]] = {}
        self._opened = 0
        self._keeps_state = False
        self._first: list[str] = []
        self._start = Place()

    def check(self) -> None:
        """
        Check that the path can be followed.

        Raises:
            ConfigError: it is no regular file, or a pattern.
            OSError: its directory is not there, or it cannot be read.
        """
        try:
            status = Path(self._path).stat()
        except FileNotFoundError:
            Path(self._path).parent.stat()
            return
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"path={self._path!r}: only a file can be followed, by its name")

    def lists(self, make_splitter: Callable[..., Splitting]) -> Iterator[Iterable[Any]]:
        """Yield the items of each block until the wakeup is set."""
        start = self._start
        for path in self._first:
            with open_path(path) as source:
                yield from self._passage(source, start, Decompression()).lists(make_splitter)
            start = Place()
            if self._wakeup.is_set():
                return
        while (descriptor := self._open()) is not None:
            try:
                live = LiveFile(self._path, self._next_name(), descriptor)
                passage = self._passage(live, start, Decompression("none"))
                yield from passage.lists(make_splitter)
            finally:
                os.close(descriptor)
            start = Place()

    def checkpoint(self, position: RecordPosition) -> dict[str, Any]:
        """Return the place behind the record at *position*, and of which file."""
        trail, file = self._trails[position.source]
        place = trail.place(position)
        names = list(self._trails)
        later = names[names.index(position.source) + 1 :]
        if place.whole and later:
            place, file = Place(), self._trails[later[0]][1]
        return {"version": VERSION, "followed": list(file), "files": [place.text(self._path)]}

    def resume(self, checkpoint: Any) -> None:
        """
        Find the file that was read, under whatever name, and go on in it.

        Those that were rotated after it come next, and then the path itself.

        Raises:
            StateError: it cannot be found any more.
        """
        self._keeps_state = True
        if checkpoint is None:
            return
        try:
            assert checkpoint["version"] == VERSION
            device, number = checkpoint["followed"]
            ((_, self._start),) = map(place_of, checkpoint["files"])
        except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise StateError(
                f"this is no checkpoint of a followed file: {abridged(checkpoint)}; "
                "begin anew with --from-start"
            ) from error
        self._first = self._rotated_since((device, number))

    def _passage(self, source: Readable, start: Place, decompression: Decompression) -> Passage:
        assert source.descriptor is not None
        trail = Trail(source.name, start)
        self._trails[source.name] = trail, identity(os.fstat(source.descriptor))
        return Passage(
            source,
            start,
            trail=trail,
            decompression=decompression,
            wakeup=self._wakeup,
            rest_at_stop=not self._keeps_state,
        )

    def _next_name(self) -> str:
        """Return what to call the next file at the path: the path, later with a number."""
        self._opened += 1
        return f"{self._path}#{self._opened}" if self._opened > 1 else self._path

    def _open(self) -> int | None:
        """Open the file as soon as it is there; None if the wakeup was set before."""
        while not self._wakeup.is_set():
            with suppress(FileNotFoundError):
                return os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._wakeup.wait(INTERVAL)
        return None

    def _rotated_since(self, file: Identity) -> list[str]:
        """Return the names under which to read on before the path itself, oldest first."""
        if self._is_ours(self._path, file):
            return []
        # From the newest: the copy of a log that was cut off is the newest of its kind.
        names = sorted(self._rotated(), key=age, reverse=True)
        ours = [name for name in names if self._is_ours(name, file)]
        copies = [name for name in names if self._is_ours(name, None)]
        if not ours and self._has_number(file):
            ours = copies
        if not ours:
            raise StateError(
                f"{self._path} is not the file any more that was followed (number {file[1]}), and "
                f"neither is any of {len(names)} rotated ones beside it; what was written after "
                f"byte {self._start.offset} of it would be lost; put it beside it, as "
                f"{self._path}.1, or begin anew with --from-start"
            )
        return names[names.index(ours[0]) :: -1]

    def _has_number(self, file: Identity) -> bool:
        with suppress(FileNotFoundError):
            return identity(Path(self._path).stat()) == file
        return False

    def _is_ours(self, path: str, file: Identity | None) -> bool:
        """Say whether a file begins with what was read; with *file*, also whether it is that."""
        with suppress(StateError, FileNotFoundError), open_path(path) as source:
            assert source.descriptor is not None
            check_unchanged(path, source.descriptor, self._start)
            return file is None or identity(os.fstat(source.descriptor)) == file
        return False

    def _rotated(self) -> Iterator[str]:
        path = Path(self._path)
        for other in path.parent.iterdir():
            behind = other.name.removeprefix(path.name)
            if behind != other.name and ROTATED.fullmatch(behind) and other.is_file():
                yield str(other)


def age(name: str) -> tuple[int, int]:
    """Return what is greater for a rotated log that is newer."""
    number = int("0" + "".join(re.findall(r"\d", name.rpartition(".")[2])))
    return Path(name).stat().st_mtime_ns, -number


def identity(status: os.stat_result) -> Identity:
    """Return what tells a file from all others that are there."""
    return status.st_dev, status.st_ino
