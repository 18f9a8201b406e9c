"""
Files that are written in place, and can be brought back to where they were.

A :class:`Written` knows how much of a file is ours, also while the file is
closed.  What it returns as a mark is the length and a digest of the last KiB,
so that a file which somebody else has changed is not taken for ours.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from m3._durable import sync
from m3.connectors._both_ends import Inputs
from m3.connectors._output.sinks import append_whole
from m3.connectors._output.torn import Lacking, line_end
from m3.connectors._paths import FilePath
from m3.errors import StateError, abridged

__all__ = ("InPlace", "Written")

WINDOW = 1024

REMEDY = "restore the file, or begin anew with --from-start"


class Written:
    """
    How much of a file was written, and what it ends with.

    The descriptors that the methods take are those of the file, open for
    reading and for appending.

    Args:
        name: of the file, for errors.
        lacking: tells what its last record is to be ended with first, where that is
            of others, or was torn.
    """

    def __init__(self, name: str, lacking: Lacking = line_end) -> None:
        self._name = name
        self._lacking = lacking
        self._length = 0
        self._tail = b""
        self._may_be_torn = False

    def begin(self, descriptor: int, *, append: bool) -> None:
        """Begin with an empty file; with *append*, behind the last record that is there."""
        if append:
            append_whole(descriptor, self._lacking(descriptor))
        else:
            os.ftruncate(descriptor, 0)
        self._take(descriptor, os.fstat(descriptor).st_size)

    def go_back(self, descriptor: int, mark: Any) -> None:
        """
        Cut off what was written after :meth:`mark` has returned *mark*.

        Raises:
            StateError: the file is not as it was then.
        """
        length, digest = read_mark(mark)
        size = os.fstat(descriptor).st_size
        if size < length:
            raise StateError(
                f"{self._name} has become shorter: {length} bytes of it were written and "
                f"committed, now it has {size}; {REMEDY}"
            )
        self._take(descriptor, length)
        if self._digest() != digest:
            raise StateError(
                f"{self._name} has changed: its first {length} bytes do not end as they were "
                f"written; {REMEDY}"
            )
        os.ftruncate(descriptor, length)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of *data* to the end, or nothing of it."""
        if self._may_be_torn:
            data = self._lacking(descriptor) + data
        self._may_be_torn = True
        append_whole(descriptor, data)
        self._may_be_torn = False
        self._length += len(data)
        self._tail = (data if len(data) >= WINDOW else self._tail + data)[-WINDOW:]

    def check(self, descriptor: int) -> None:
        """Raise :exc:`~m3.errors.StateError` if the file has not the length that was written."""
        size = os.fstat(descriptor).st_size
        if size != self._length:
            raise StateError(
                f"{self._name} has {size} bytes and should have {self._length}: somebody else "
                "has written to it, so it cannot be said any more what is in it"
            )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the file."""
        return not self._length

    def mark(self) -> list[Any]:
        """Return what :meth:`go_back` needs to come back to here."""
        return [self._length, self._digest()]

    def _take(self, descriptor: int, length: int) -> None:
        window = min(WINDOW, length)
        self._length = length
        self._tail = os.pread(descriptor, window, length - window)

    def _digest(self) -> str:
        return blake2b(self._tail, digest_size=16).hexdigest()


class InPlace:
    """
    A file that a run with state writes to, as the items come.

    Args:
        path: the file.
        mark: where to go on, as returned by :meth:`commit`; None for an empty file.
        append: where there is no mark, go on behind what is there.
        lacking: of the file, as of :class:`Written`.

    Raises:
        StateError: the file is not as it was left, or is one of those that are read.
        OSError: it cannot be written to.
    """

    def __init__(
        self, path: FilePath, mark: Any, *, append: bool, lacking: Lacking = line_end
    ) -> None:
        self._path = Path(path)
        self._written = Written(os.fspath(path), lacking)
        self._name_is_durable = False
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if mark is None else 0)
        try:
            self._descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError as error:
            if mark is None:
                raise
            raise StateError(f"{path} is gone, and was written to; {REMEDY}") from error
        try:
            empties = mark is None and not append
            Inputs().refuse(os.fspath(path), self._descriptor, emptying=empties)
            if mark is None:
                self._written.begin(self._descriptor, append=append)
            else:
                self._written.go_back(self._descriptor, mark)
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self._written.is_empty

    def write(self, data: bytes) -> None:
        """Write all of *data*, or nothing of it."""
        self._written.write(self._descriptor, data)

    def commit(self) -> list[Any]:
        """
        Make durable what was written; return the mark of it.

        Raises:
            StateError: somebody else has written to the file, or removed it.
        """
        self._written.check(self._descriptor)
        if not self._is_at_its_path():
            raise StateError(
                f"{self._path} was removed or replaced by somebody else while it was written to"
            )
        os.fsync(self._descriptor)
        if not self._name_is_durable:
            sync(self._path.resolve().parent)
            self._name_is_durable = True
        return self._written.mark()

    def close(self, *, keep: bool) -> None:
        """Close it; with *keep*, make it durable first."""
        try:
            if keep:
                self.commit()
        finally:
            os.close(self._descriptor)

    def _is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False


def read_mark(mark: Any) -> tuple[int, str]:
    """
    Return the length and the digest in a mark.

    Raises:
        StateError: it is none.
    """
    try:
        length, digest = mark
    except (TypeError, ValueError):
        length = digest = None
    if not isinstance(length, int) or length < 0 or not isinstance(digest, str):
        raise StateError(
            f"this is no mark of a file that this version of m3 has written: {abridged(mark)}; "
            "begin anew with --from-start"
        )
    return length, digest
