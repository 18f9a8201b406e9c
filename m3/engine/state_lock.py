"""
Who uses a state, and how far it has got: the file ``lock`` beside it.

Its first line names the process that uses the state; the second one repeats
the number of the last checkpoint, so that a database that has lost commits is
noticed.  Each is written in one piece over what stood there.
"""

import errno
import fcntl
import os
import weakref
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from m3.engine.claims import is_at
from m3.errors import StateError

__all__ = ("UNMADE", "LastNumber", "StateLock", "user_of")

UNMADE = -1
"""The number in the lock of a state whose creation has begun, and perhaps not ended."""

HEADER = b"m3: part of the state, not to be removed; used by process "
PID_WIDTH = 12
RECORD_AT = len(HEADER) + PID_WIDTH
ROUNDS = 1000

_held: "weakref.WeakSet[StateLock]" = weakref.WeakSet()


class LastNumber(NamedTuple):
    """What the lock says about the database: its key, and its last checkpoint."""

    key: str
    number: int

    def line(self) -> bytes:
        """Return it as it stands in the file, always of the same length."""
        body = f"last checkpoint: {self.number:20d} of {self.key:36} "
        return f"{body}{zlib.crc32(body.encode()):08x}\n".encode()


LINE_WIDTH = len(LastNumber("", 0).line())


class StateLock:
    """
    The lock on a state; held from the beginning until :meth:`close`.

    It goes when the process ends, however that happens.  The child of a fork
    does not hold it; programs started from the process don't either.

    Args:
        path: the file; made if it is missing.

    Raises:
        StateError: another run uses the state, or it cannot be locked.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _locked(path)
        self._has_entered = False
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """Tell whether it is held, by this process."""
        return self._file >= 0

    def is_own(self) -> bool:
        """Tell whether the file is one of m3, whole or not."""
        return _is_own(self._file)

    def enter(self) -> None:
        """Write the number of this process into the file."""
        self._has_entered = True
        self._write_user(str(os.getpid()))

    def last(self) -> LastNumber | None:
        """
        Return what the file says, or None if it says nothing yet.

        Raises:
            ValueError: it cannot be read.
        """
        return _last(self._file)

    def note(self, last: LastNumber, *, durably: bool = False) -> None:
        """Let the file say *last*; *durably*: block until that outlives a power loss."""
        try:
            _write(self._file, last.line(), RECORD_AT)
        except OSError:
            self._remove_half_a_line()
            raise
        if durably:
            os.fsync(self._file)

    def close(self) -> None:
        """Let others use the state."""
        if self.is_held and self._has_entered:
            with suppress(OSError):
                self._write_user("")
        self.forget()

    def remove(self) -> None:
        """Remove the file; it stays locked until :meth:`close`."""
        self.path.unlink()

    def forget(self) -> None:
        """Close the file; the lock stays with the process that this one was forked from."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _remove_half_a_line(self) -> None:
        if os.fstat(self._file).st_size < RECORD_AT + LINE_WIDTH:
            os.ftruncate(self._file, RECORD_AT)

    def _write_user(self, user: str) -> None:
        _write(self._file, HEADER + f"{user:{PID_WIDTH - 1}}\n".encode(), 0)


def user_of(path: Path) -> tuple[str, LastNumber | None]:
    """
    Return the number of the process that uses the state, or "", and what the lock says.

    Both are empty if there is no lock.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return "", None
    try:
        if not _is_own(file):
            raise ValueError("it is damaged")
        user = _user(file)
        if user and _tries(file, fcntl.LOCK_SH):
            user = ""
        return user, _last(file)
    finally:
        os.close(file)


def _locked(path: Path) -> int:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(path, flags, 0o600)
        try:
            _lock(file, path)
            if is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # a reset removed it, and another one may be there by now


def _lock(file: int, path: Path) -> None:
    """Take the lock; those who only look, for an instant, are waited out."""
    for _ in range(ROUNDS):
        if _tries(file, fcntl.LOCK_EX):
            return
        if not _tries(file, fcntl.LOCK_SH):
            break
    user = _user(file)
    raise StateError(
        f"{path.parent} is used by another run{f', process {user}' if user else ''}; "
        "wait for its end, stop it, or use another folder for the state"
    )


def _tries(file: int, operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise StateError(
            f"a state cannot be locked here ({error.strerror}); keep it on a local disk"
        ) from error
    return True


def _is_own(file: int) -> bool:
    return HEADER.startswith(os.pread(file, len(HEADER), 0))


def _user(file: int) -> str:
    line = os.pread(file, RECORD_AT, 0)
    return line.removeprefix(HEADER).decode("ascii", "replace").strip()


def _last(file: int) -> LastNumber | None:
    line = os.pread(file, LINE_WIDTH + 1, RECORD_AT)
    if not line:
        return None
    words = line.decode("ascii", "replace").split()
    try:
        last = LastNumber(words[4], int(words[2]))
    except (IndexError, ValueError):
        last = None
    if last is None or last.line() != line:
        raise ValueError("it does not say which checkpoint was the last")
    return last


def _write(file: int, data: bytes, offset: int) -> None:
    written = os.pwrite(file, data, offset)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)
