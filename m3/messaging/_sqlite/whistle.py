"""
How a clerk is woken, and how it knows that another one is gone: a named pipe.

Each clerk reads from its own; who has something for it writes a byte.  Nobody
else reads from it, so the end of its process, however that happens, is an error
on the pipe at once for all who have it open for writing.  Clerks of one process find
each other without that: with a pipe from each to each, many would need too many.
"""

import errno
import os
import select
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

__all__ = ("Whistle",)

_here: dict[str, "Whistle"] = {}
"""Those of this process, by name."""


class Whistle:
    """
    The pipe of one clerk, and those of the others.

    Args:
        folder: where the pipes are; made if it is missing.

    Attributes:
        name: what the others know it by.

    Raises:
        OSError: there can be no pipe.
    """

    def __init__(self, folder: Path) -> None:
        self.name = uuid4().hex
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        os.mkfifo(folder / self.name, 0o600)
        self._own = os.open(folder / self.name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._others: dict[str, int] = {}
        self._near: set[str] = set()
        self._poll = select.poll()
        self._poll.register(self._own, select.POLLIN)
        _here[self.name] = self

    def blow(self) -> None:
        """Wake its own clerk; may be called in any thread."""
        with self._lock:  # the number of a file that is closed is soon that of another one
            if self._own >= 0:
                _write(self._own)

    def call(self, names: Iterable[str]) -> None:
        """Wake others."""
        for name in names:
            if name in self._others:
                _write(self._others[name])
            elif near := _here.get(name):
                near.blow()

    def greet(self, names: set[str]) -> None:
        """Wake those of other processes, so that they learn when it is gone."""
        self.call(names - set(_here))

    def wait(self, seconds: float) -> set[str]:
        """
        Wait until somebody blows it, or another clerk is gone.

        Returns:
            the names of those that are gone.
        """
        events = self._poll.poll(max(seconds, 0.0) * 1000)
        if any(file == self._own for file, _ in events):
            with suppress(BlockingIOError):
                os.read(self._own, 65536)
        broken = {file for file, _ in events if file != self._own}
        gone = {name for name, file in self._others.items() if file in broken}
        for name in gone:
            self._forget(name)
        return gone

    def know(self, names: set[str]) -> set[str]:
        """
        Have the pipes of exactly these others open.

        One whose pipe was removed may be there all the same; its lease will tell.

        Returns:
            the names of those that are gone.
        """
        for name in self._others.keys() - names:
            self._forget(name)
        near, self._near = self._near, names & set(_here) - {self.name}
        gone = (near & names) - self._near
        new = names - self._others.keys() - self._near - gone - {self.name}
        return gone | {name for name in new if self._is_gone(name)}

    def clear_away(self, name: str) -> None:
        """Remove the pipe of one that is gone."""
        if name.isalnum():
            (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all, and remove its own pipe."""
        with self._lock:
            self.abandon()
        (self._folder / self.name).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close all; in the child of a fork the pipe stays that of its parent."""
        _here.pop(self.name, None)
        files = [*self._others.values(), self._own]
        self._others, self._own = {}, -1
        for file in files:
            if file >= 0:
                os.close(file)

    def _is_gone(self, name: str) -> bool:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        if not name.isalnum():
            return True
        try:
            file = os.open(self._folder / name, flags)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads from it
                return True
            raise
        self._others[name] = file
        self._poll.register(file, 0)
        return False

    def _forget(self, name: str) -> None:
        file = self._others.pop(name)
        self._poll.unregister(file)
        os.close(file)


def _write(file: int) -> None:
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(file, b"\0")


def _abandon_all() -> None:
    for whistle in list(_here.values()):
        whistle.abandon()


os.register_at_fork(after_in_child=_abandon_all)
