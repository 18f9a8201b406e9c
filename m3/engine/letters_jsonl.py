"""Dead letters as lines of JSON."""

import os
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from m3._durable import sync
from m3._plain import dumps, loads
from m3.engine.claims import claim, claimed
from m3.engine.dead_letter import (
    EVERY,
    NOBODY,
    OF_STATE,
    DeadLetter,
    Row,
    Selection,
    checked,
    read_mark,
    row_of,
    rows_of,
    states_of,
)
from m3.errors import DeadLetterError, StageError, StateError

__all__ = ("JsonlDeadLetters",)


class Line(NamedTuple):
    """A line of the file, the letter that it says, and who wrote it."""

    text: bytes
    letter: DeadLetter
    writer: str


class JsonlDeadLetters:
    """
    A store as of :class:`~m3.engine.letters.DeadLetters`.

    A last line that is cut off, as a killed process leaves it, is removed when
    the file is opened for writing, and left out when it is only read.

    Args:
        path: the file; made, for its owner only, if it is to be written.
        for_writing: keep other writers out.

    Raises:
        StateError: a line says no letter, somebody else writes to the file, or
            it cannot be opened.
    """

    def __init__(self, path: Path, *, for_writing: bool) -> None:
        self.note = ""
        self._path = path
        self._refusal = (
            f"{path}: another process writes these dead letters; wait until it has ended, or "
            "keep them in SQLite"
        )
        self._lock = threading.RLock()
        self._writer = secrets.token_hex(8)
        self._last = 0
        self._is_new = False
        self._descriptor: int | None = None
        try:
            if for_writing:
                self._descriptor = claimed(path, refusal=self._refusal)
                sync(path.parent)
            self._check(for_writing=for_writing)
        except OSError as error:
            self._disconnect()
            raise StateError(
                f"{path}: cannot be opened as a store of dead letters: {error.strerror}"
            ) from error
        except BaseException:
            self._disconnect()
            raise

    # -- putting letters in

    def put(
        self,
        failure: StageError,
        *,
        items: Sequence[tuple[Any, Any]],
        kind: str,
        pipeline: str,
        now: float,
    ) -> None:
        """Append a line for each of *items*."""
        rows = [*rows_of(failure, items=items, kind=kind, pipeline=pipeline, now=now)]
        with self._lock:
            numbered = enumerate(rows, self._last + 1)
            self._append(b"".join(line_of(number, row, self._writer) for number, row in numbered))
            self._last += len(rows)

    def belong_to(self, state: str) -> None:
        """Note the folder of the state of the run that puts letters."""
        self._writer += OF_STATE + state

    def states(self) -> set[str]:
        """Return the folders of the states of the runs that have put them."""
        return states_of(line.writer for line in self._lines())

    def commit(self) -> None:
        """Make durable what was put."""
        with self._lock:
            if self._is_new:
                self._sync()
                self._is_new = False

    def _sync(self) -> None:
        try:
            os.fsync(self._connected())
        except OSError as error:
            raise self._error(error) from error

    def hasten(self, seconds: float) -> None:
        """Do nothing: other processes are kept out while it is open."""

    def close(self) -> None:
        """Commit and close."""
        with self._lock:
            try:
                self.commit()
            finally:
                self._disconnect()

    # -- going back

    def mark(self) -> Any:
        """Commit, and return where the store stands."""
        with self._lock:
            self.commit()
            return {"writer": self._writer, "last": self._last}

    def resume(self, mark: Any) -> None:
        """Remove what was put since *mark* by those who go by it."""
        if mark is None:
            return
        writer, last = read_mark(mark, self._path)
        with self._lock:
            gone = [
                line.letter.id
                for line in self._lines()
                if line.writer == writer and line.letter.id > last
            ]
            if gone:
                self.settle(gone=gone)
            self._writer, self._last = writer, max(last, self._last)

    # -- looking at them, and taking them out

    def select(self, selection: Selection = EVERY) -> Iterator[DeadLetter]:
        """Iterate over the letters of *selection* that are there now."""
        return (line.letter for line in self._lines() if line.letter in selection)

    def settle(self, *, gone: Collection[int] = (), changed: Iterable[DeadLetter] = ()) -> None:
        """Write the file anew without what is *gone* and with what is *changed*."""
        gone, changed = frozenset(gone), [*changed]
        old = {letter.id: letter for letter in changed if letter.id}
        new = [letter for letter in changed if not letter.id]
        with self._lock:
            last = self._last + len(new)
            numbered = enumerate(new, self._last + 1)
            try:
                self._replace([*self._settled(gone, old), *self._added(numbered)])
            except OSError as error:
                raise self._error(error) from error
            self._last = last

    def redriving(self) -> AbstractContextManager[None]:
        """Do nothing: the store has one writer."""
        return nullcontext()

    def _settled(self, gone: Collection[int], changed: dict[int, DeadLetter]) -> Iterator[bytes]:
        for line in self._lines():
            number = line.letter.id
            if number in changed:
                yield line_of(number, row_of(changed[number]), line.writer)
            elif number not in gone:
                yield line.text

    def _added(self, numbered: Iterable[tuple[int, DeadLetter]]) -> Iterator[bytes]:
        for number, letter in numbered:
            yield line_of(number, row_of(letter), NOBODY)

    # -- the file

    def _check(self, *, for_writing: bool) -> None:
        """Read all lines once; cut off a last one that is not whole."""
        end = 0
        for line in self._lines():
            end += len(line.text)
            self._last = max(self._last, line.letter.id)
        if not for_writing:
            return
        descriptor = self._connected()
        if os.fstat(descriptor).st_size > end:
            os.ftruncate(descriptor, end)
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            os.write(descriptor, b"\n")
        self._is_new = bool(self.note)
        self.commit()

    def _lines(self) -> Iterator[Line]:
        with self._path.open("rb") as file:
            yield from self._lines_of(file)

    def _lines_of(self, file: BinaryIO) -> Iterator[Line]:
        for number, text in enumerate(file, 1):
            try:
                yield line_from(text)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                if text.endswith(b"\n"):
                    raise StateError(
                        f"{self._path}, line {number}: is no dead letter; repair or remove the line"
                    ) from error
                self.note = (
                    f"{self._path}, line {number}: the last letter is cut off; its process was "
                    "killed, or is just writing it; it is left out"
                )

    def _append(self, data: bytes) -> None:
        """Append *data*, or nothing of it if that fails."""
        descriptor = self._connected()
        end = os.fstat(descriptor).st_size
        try:
            self._is_new = True
            _write_all(descriptor, data)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(descriptor, end)
            raise self._error(error) from error

    def _replace(self, lines: Iterable[bytes]) -> None:
        """Put a file of *lines* in the place of the old one, durably."""
        temporary = self._path.with_name(f".m3-{secrets.token_hex(8)}.tmp")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            claim(descriptor, refusal=self._refusal)
            for line in lines:
                _write_all(descriptor, line)
            os.fsync(descriptor)
            temporary.replace(self._path)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        self._disconnect()
        self._descriptor = descriptor
        sync(self._path.parent)

    def _disconnect(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _connected(self) -> int:
        if self._descriptor is None:
            raise DeadLetterError(f"{self._path}: the store is not open for writing")
        return self._descriptor

    def _error(self, error: OSError) -> DeadLetterError:
        return DeadLetterError(
            f"{self._path}: the dead letters cannot be written: {error.strerror}"
        )


def line_of(number: int, row: Row, writer: str) -> bytes:
    """Return the line for a letter."""
    fields = {"id": number, "is_plain": row.item is not None, **row._asdict(), "writer": writer}
    values = {name: dumps(value) for name, value in fields.items()}
    values |= {"item": row.item or "null", "position": row.position}
    text = ",".join(f'"{name}":{value}' for name, value in values.items())
    return f"{{{text}}}\n".encode()


def line_from(text: bytes) -> Line:
    """
    Return what :func:`line_of` has written, with or without its end.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it has not written this.
    """
    fields = loads(text.decode())
    writer = fields.pop("writer")
    return Line(text, checked(DeadLetter(**fields)), writer)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
