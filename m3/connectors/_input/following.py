"""
Reading a file that grows, as ``tail -F`` does: and the files that take its place.

A log is rotated in one of two ways: the file gets another name and a new one
its own, or its content is copied to another file and cut off.  Both are
noticed within the interval at which we look, for nothing tells us of them.  What
was rotated since the last look is found by what it is called and when it was
written to.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from m3.connectors._input.compression import Decompression
from m3.connectors._input.passages import Passage, Readable
from m3.connectors._input.places import (
    Fingerprint,
    Place,
    Trail,
    check_unchanged,
    fingerprint_of,
    place_of,
)
from m3.connectors._input.reading import BLOCK, Source, open_path
from m3.connectors._input.records import RecordPosition, Splitting
from m3.connectors._input.wakeup import Wakeup
from m3.errors import ConfigError, StateError, abridged

__all__ = ("INTERVAL", "Following")

INTERVAL = 0.2
"""Seconds between two looks for something new."""

GRACE = 5
"""How often to look whether the writer still writes to a file that has been renamed."""

VERSION = 1

ROTATED = re.compile(r"([.-]\d[\d.-]*)(\.(gz|bz2|xz|zst))?")
"""What is put behind the name of a log when it is rotated: ``.1``, ``-20240131.gz``."""

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

Identity = tuple[int, int]
"""The device and the number of a file on it."""


class Rotated(NamedTuple):
    """A file beside the log that was rotated; a greater one is newer."""

    time: int
    """When it was last written to, in nanoseconds."""
    order: int
    """Minus its number: of those of the same time, ``.1`` is the newest."""
    name: str
    identity: Identity


class LiveFile:
    """
    A file that others write to; it ends when another one has its name, or it was cut off.

    Args:
        path: where it was opened.
        name: what it is called in positions.
        descriptor: of the open file.
        rotated: returns the files that were rotated since, the newest first.

    Attributes:
        identity: of the file that has its last records: its own, or that of the copy
            that was made of it before it was cut off.
    """

    def __init__(
        self, path: str, name: str, descriptor: int, rotated: Callable[[], list[Rotated]]
    ) -> None:
        self._path = path
        self.name = name
        self.descriptor = descriptor
        self.identity = identity(os.fstat(descriptor))
        self._rotated = rotated
        self._read = Fingerprint()

    def blocks(self, wakeup: Wakeup) -> Iterator[bytes]:
        """Yield blocks; wait for more until the file has ended or *wakeup* is set."""
        offset = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        self._read = fingerprint_of(self.descriptor, offset)
        looks = 0
        while not wakeup.is_set():
            if not self._begins_so(self.descriptor):
                yield from self._rest_of_copy(wakeup)
                return
            block = os.read(self.descriptor, BLOCK)
            if block:
                looks = 0
                self._read.feed(block)
                yield block
                continue
            looks = looks + 1 if self._has_another_its_name() else 0
            if looks > GRACE:
                return
            wakeup.wait(INTERVAL)

    def _begins_so(self, descriptor: int) -> bool:
        """Say whether a file begins with what was read."""
        if os.fstat(descriptor).st_size < self._read.size:
            return False
        return fingerprint_of(descriptor, self._read.size).digest() == self._read.digest()

    def _rest_of_copy(self, wakeup: Wakeup) -> Iterator[bytes]:
        """Yield what was written between the last look and the copy, if there is one."""
        for copy in self._rotated():
            with suppress(FileNotFoundError), open_path(copy.name) as source:
                assert source.descriptor is not None
                if self._begins_so(source.descriptor):
                    self.identity = identity(os.fstat(source.descriptor))
                    os.lseek(source.descriptor, self._read.size, os.SEEK_SET)
                    yield from source.blocks(wakeup)
                    return

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
        self._file: Identity | None = None
        self._start = Place()
        self._known: set[tuple[Identity, int]] = set()
        self._is_live = True

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
        start, descriptor = self._start, self._open_first()
        while descriptor is not None:
            try:
                source = self._source(descriptor)
                yield from self._passage(source, start).lists(make_splitter)
                behind = source.identity if isinstance(source, LiveFile) else None
                following = self._open_behind(behind or identity(os.fstat(descriptor)))
            finally:
                os.close(descriptor)
            start, descriptor = Place(), following

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
        self._file = device, number
        self._name_of(self._file)

    def _source(self, descriptor: int) -> "LiveFile | Source":
        """Return what reads an open file: as it grows, or once if nobody writes to it any more."""
        name = self._next_name()
        if self._is_live:
            return LiveFile(self._path, name, descriptor, self._rotated_since)
        return Source(name, lambda size: os.read(descriptor, size), descriptor)

    def _passage(self, source: Readable, start: Place) -> Passage:
        assert source.descriptor is not None
        trail = Trail(source.name, start)
        self._trails[source.name] = trail, identity(os.fstat(source.descriptor))
        return Passage(
            source,
            start,
            trail=trail,
            decompression=Decompression("none" if isinstance(source, LiveFile) else "auto"),
            wakeup=self._wakeup,
            rest_at_stop=not self._keeps_state,
        )

    def _next_name(self) -> str:
        """Return what to call the next file at the path: the path, later with a number."""
        self._opened += 1
        return f"{self._path}#{self._opened}" if self._opened > 1 else self._path

    def _open_first(self) -> int | None:
        """Open the file that an earlier run has read, or the path."""
        if self._file is None:
            return self._open_behind(None)
        known = self._rotated_ones()
        name = self._name_of(self._file)
        if name == self._path:
            self._known = known
        descriptor = os.open(name, FLAGS)
        newest = [self._path, *(each.name for each in sorted(self._rotated(), reverse=True))][:2]
        self._is_live = name == self._path or (name in newest and not is_packed(descriptor))
        return descriptor

    def _open_behind(self, file: Identity | None) -> int | None:
        """
        Open what was rotated next after *file*, or the path as soon as it is there.

        Returns None if the wakeup was set before.
        """
        while not self._wakeup.is_set():
            known = self._rotated_ones()
            here = opened(self._path)
            # Looked for when the path is open, so that what is rotated meanwhile is found.
            behind = self._behind(file)
            if not behind and here is not None:
                self._known, self._is_live = known, True
                return here
            if here is not None:
                os.close(here)
            descriptor = opened(behind[0].name) if behind else None
            if not behind:
                self._wakeup.wait(INTERVAL)
            elif descriptor is not None:
                if identity(os.fstat(descriptor)) == behind[0].identity:
                    self._is_live = len(behind) == 1 and not is_packed(descriptor)
                    return descriptor
                os.close(descriptor)
        return None

    def _behind(self, file: Identity | None) -> list[Rotated]:
        """Return the files that were rotated after *file*, if it still is there, oldest first."""
        # A file that gets another name meanwhile may be missing in a list, so there are two.
        lists = (each for _ in range(2) for each in self._rotated())
        ours = next((each for each in lists if each.identity == file), None)
        return sorted(each for each in self._rotated_since() if ours and each > ours)

    def _rotated_since(self) -> list[Rotated]:
        """Return what was rotated since the path was opened and not read yet, newest first."""
        new = [each for each in self._rotated() if (each.identity, each.time) not in self._known]
        return sorted((each for each in new if not self._was_read(each)), reverse=True)

    def _rotated_ones(self) -> set[tuple[Identity, int]]:
        """Return what tells the rotated files that there are now from later ones."""
        return {(each.identity, each.time) for each in self._rotated()}

    def _was_read(self, file: Rotated) -> bool:
        return any(
            file.identity == number and trail.has_records and begins(file.name, trail.end_place)
            for trail, number in self._trails.values()
        )

    def _name_of(self, file: Identity) -> str:
        """
        Return what the file is called now that an earlier run has read.

        Raises:
            StateError: it is not there.
        """
        if is_ours(self._path, self._start, file):
            return self._path
        # From the newest: the copy of a log that was cut off is the newest of its kind.
        rotated = [each.name for each in sorted(self._rotated(), reverse=True)]
        ours = [name for name in rotated if is_ours(name, self._start, file)]
        if not ours and self._has_number(file):
            ours = [name for name in rotated if begins(name, self._start)]
        if not ours:
            raise StateError(
                f"{self._path} is not the file any more that was followed (number {file[1]}), and "
                f"neither is any of {len(rotated)} rotated ones beside it; what was written after "
                f"byte {self._start.offset} of it would be lost; put it beside it, as "
                f"{self._path}.1, or begin anew with --from-start"
            )
        return ours[0]

    def _has_number(self, file: Identity) -> bool:
        with suppress(FileNotFoundError):
            return identity(Path(self._path).stat()) == file
        return False

    def _rotated(self) -> Iterator[Rotated]:
        path = Path(self._path)
        for other in path.parent.iterdir():
            behind = ROTATED.fullmatch(other.name.removeprefix(path.name))
            if behind is None or not other.name.startswith(path.name):
                continue
            with suppress(FileNotFoundError):
                status = other.stat()
                if stat.S_ISREG(status.st_mode):
                    order = -int("".join(re.findall(r"\d", behind[1])))
                    yield Rotated(status.st_mtime_ns, order, str(other), identity(status))


def opened(path: str) -> int | None:
    """Open a file, if it is there."""
    with suppress(FileNotFoundError):
        return os.open(path, FLAGS)
    return None


def is_packed(descriptor: int) -> bool:
    """Say whether a file is compressed."""
    return Decompression().of(descriptor) != "none"


def begins(path: str, place: Place) -> bool:
    """Say whether a file is there and begins with what was read up to *place*."""
    with suppress(StateError, FileNotFoundError), open_path(path) as source:
        assert source.descriptor is not None
        check_unchanged(path, source.descriptor, place)
        return True
    return False


def is_ours(path: str, place: Place, file: Identity) -> bool:
    """Say whether *file* is at *path*, and begins with what was read up to *place*."""
    with suppress(FileNotFoundError):
        return identity(Path(path).stat()) == file and begins(path, place)
    return False


def identity(status: os.stat_result) -> Identity:
    """Return what tells a file from all others that are there."""
    return status.st_dev, status.st_ino
