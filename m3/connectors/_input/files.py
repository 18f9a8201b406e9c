"""What the frontends that read files have in common: which files, and going on in them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from m3.connectors._input.compression import Compression, Decompression
from m3.connectors._input.following import Following
from m3.connectors._input.passages import Passage
from m3.connectors._input.places import Place, Trail, check_unchanged, place_of
from m3.connectors._input.reading import (
    RecordFrontend,
    Source,
    check_readable,
    open_path,
    open_stdin,
)
from m3.connectors._input.records import RecordPosition, Splitting, check_line_end
from m3.connectors._paths import FilePath, FilePaths, expanded, is_stream, named
from m3.errors import ConfigError, StateError, abridged

__all__ = ("FilesFrontend",)

VERSION = 1

PLAIN = ("auto", "none")


class FilesFrontend(RecordFrontend):
    """
    Read the records of files, one file after the other.

    Args:
        path: see :func:`~m3.connectors._paths.expanded`.
        splitter: makes what makes items of a file.
        compression: of the files.
        max_ratio: how many times as long as its input a file may become.
        max_output: the most bytes that one file may hold.
        follow: wait for more at the end of the file, of which there is one.
    """

    standard_input: ClassVar[str | None] = None
    """The path that stands for standard input, if one does."""

    line_ends: ClassVar[Sequence[bytes]] = (b"\n",)
    """What a line end can begin with."""

    can_resume: bool = True
    """Whether all input can be read again; FIFOs, devices and standard input cannot."""

    def __init__(
        self,
        *,
        path: FilePaths,
        splitter: Callable[..., Splitting],
        compression: Compression,
        max_ratio: float,
        max_output: int,
        follow: bool = False,
    ) -> None:
        super().__init__(splitter)
        self._paths = named(path)
        self._decompression = Decompression(compression, max_ratio, max_output)
        self._decompression.check()
        self._files: list[str] = []
        self._places: dict[str, Place] = {}
        self._trails: dict[str, Trail] = {}
        self._following = self._followed() if follow else None
        self.can_resume = not any(map(self._is_stream, self._paths))

    def setup(self) -> None:
        """Look which files there are, and check that they can be read."""
        self.can_resume = not any(map(self._is_stream, self._paths))
        if self._following is not None:
            self._following.check()
            super().setup()
            self._reading.begin(self._paths, follows=True)
            return
        self._files = expanded(self._paths)
        for path in self._files:
            if path != self.standard_input:
                self.check(path)
        super().setup()
        self._reading.begin(self._files)

    def check(self, path: str) -> None:
        """Raise, before the run begins, what reading *path* would raise."""
        check_readable(path)

    def sources(self) -> Iterator[AbstractContextManager[Source]]:
        """Yield what opens and closes each file."""
        for path in self._files:
            yield open_stdin() if path == self.standard_input else open_path(path)

    def checkpoint(self, position: RecordPosition) -> dict[str, Any]:
        """
        Return how far each file was read, if all up to *position* is done.

        Files that come later are in it if an earlier run had read a part of them.
        """
        if self._following is not None:
            return self._following.checkpoint(position)
        places = dict(self._places)
        for trail in list(self._trails.values()):
            if trail.name == position.source:
                places[trail.name] = trail.place(position)
                break
            places[trail.name] = trail.end_place
        else:
            raise ValueError(f"{position}: nothing was read there")
        return {"version": VERSION, "files": [place.text(name) for name, place in places.items()]}

    def resume(self, checkpoint: Any) -> None:
        """
        Read on in each file where an earlier run has ended, and new files from the beginning.

        A finished file that is not to be read any more is remembered as long as it is there.

        Raises:
            StateError: a file no longer begins with what had been read of it,
                or is gone before it was read to its end.
        """
        if self._following is not None:
            self._following.resume(checkpoint)
            return
        if checkpoint is None:
            return
        places = places_in(checkpoint)
        here = set(self._files)
        for name, place in places.items():
            if name in here:
                self._check(name, place)
            elif not place.whole:
                raise StateError(
                    f"{name} is gone, or no longer among the files to be read, and had been read "
                    f"to line {place.line} only; restore it, or begin anew with --from-start"
                )
        self._places = {
            name: place for name, place in places.items() if name in here or Path(name).exists()
        }

    def _check(self, name: str, place: Place) -> None:
        """Check that the file can be gone on in; if there is nothing new, leave it out."""
        with open_path(name) as source:
            assert source.descriptor is not None
            check_unchanged(name, source.descriptor, place)
            if place.whole and os.fstat(source.descriptor).st_size == place.size:
                self._files.remove(name)
            elif place.unended and self._decompression.of(source.descriptor) == "none":
                following = os.pread(source.descriptor, 1, place.offset)
                check_line_end(name, place.line, place.offset, following, self.line_ends)

    def _is_stream(self, path: FilePath) -> bool:
        return path == self.standard_input or (is_stream(path) and not Path(path).is_dir())

    def _followed(self) -> Following:
        path, *others = self._paths
        if others or path == self.standard_input or self._decompression.compression not in PLAIN:
            raise ConfigError(
                f"follow: one file can be followed, which is not compressed; not {self._paths} "
                f"with compression={self._decompression.compression!r}"
            )
        return Following(os.fspath(path), self._wakeup)

    def _lists(self) -> Iterator[Iterable[Any]]:
        if self._following is not None:
            splitter = partial(self._splitter, positions=self.wants_positions)
            yield from self._following.lists(splitter)
            return
        read = self._read_with_positions if self.wants_positions else self._read
        for opening in self.sources():
            with opening as source:
                yield from read(source)
            if self._wakeup.is_set():
                return

    def _read(self, source: Source) -> Iterator[Iterable[Any]]:
        stopped = self._wakeup.is_set
        splitter = self._splitter(source.name)
        blocks = source.blocks(self._wakeup)
        yield from map(splitter.feed, self._decompression.applied(source.name, blocks, stopped))
        if not stopped():
            yield splitter.end()

    def _read_with_positions(self, source: Source) -> Iterator[Iterable[Any]]:
        start = self._places.get(source.name, Place())
        trail = self._trails[source.name] = Trail(source.name, start)
        passage = Passage(
            source,
            start,
            trail=trail,
            decompression=self._decompression,
            wakeup=self._wakeup,
        )
        return passage.lists(partial(self._splitter, positions=True))


def places_in(checkpoint: Any) -> dict[str, Place]:
    """
    Return the places in a checkpoint, by the names of the files.

    Raises:
        StateError: it is none.
    """
    try:
        assert checkpoint["version"] == VERSION
        return dict(map(place_of, checkpoint["files"]))
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(
            f"this is no checkpoint of files that this version of m3 has written: "
            f"{abridged(checkpoint)}; begin anew with --from-start"
        ) from error
