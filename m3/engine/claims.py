"""Files that one user at a time may have, in all processes."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from m3.errors import StateError

__all__ = ("claim", "claimed", "is_at")


def claimed(path: Path, *, refusal: str) -> int:
    """
    Open *path* for reading and appending, for its owner only, and keep others out.

    It is made if it is not there.  Others are let in when the descriptor is
    closed, at the latest when the process ends.

    Returns:
        its descriptor.

    Raises:
        StateError: somebody else has it; the message is *refusal*.
        OSError: it cannot be opened.
    """
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            claim(descriptor, refusal=refusal)
            if is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one who had it has put another in its place, or removed it


def claim(descriptor: int, *, refusal: str) -> None:
    """
    Keep others out of an open file.

    Raises:
        StateError: somebody else has it; the message is *refusal*.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateError(refusal) from error


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is the one at *path* still."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
