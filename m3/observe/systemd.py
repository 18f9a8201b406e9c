"""What a service manager such as systemd is told, by the protocol of ``sd_notify(3)``."""

import logging
import os
import socket
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Self

from m3._shown import one_line

__all__ = ("ServiceManager", "Watchdog")

logger = logging.getLogger("m3.observe")

PATIENCE = 1.0
"""Seconds that a message waits for room; then it is lost."""


class ServiceManager:
    """
    Whoever has started this process and wants to know how it gets on; perhaps nobody.

    It has left its address in the environment, from which that is taken, since child processes
    are not meant. What cannot be told is lost without a word.

    Args:
        environ: the environment.

    Attributes:
        watchdog: seconds after which the process counts as dead unless it is told that it
            is alive; None if nobody looks.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = os.fsencode(environ.pop("NOTIFY_SOCKET", ""))
        seconds = _microseconds(environ.pop("WATCHDOG_USEC", ""))
        is_meant = environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._address = _address_of(path)
        self.watchdog = seconds if is_meant and self._address is not None else None

    def ready(self, status: str) -> None:
        """Tell that the start is over."""
        self._tell("READY=1", _status(status))

    def stopping(self, status: str) -> None:
        """Tell that the stop has begun."""
        self._tell("STOPPING=1", _status(status))

    def status(self, status: str) -> None:
        """Tell how it stands, in a line for people."""
        self._tell(_status(status))

    def alive(self) -> None:
        """Tell that it is alive, for as long again as :attr:`watchdog` says."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.settimeout(PATIENCE)
            sending.sendto("\n".join(lines).encode(), self._address)


class Watchdog:
    """
    Tells a service manager that the process is alive, as long as it is, in a ``with`` block.

    It is told twice in the time that the manager waits for it. If it looks for no such word,
    nothing happens here.

    Args:
        manager: whom to tell.
        why_not_live: returns why the process is better started anew; empty if it is alive.
    """

    def __init__(self, manager: ServiceManager, why_not_live: Callable[[], list[str]]) -> None:
        self._manager = manager
        self._why_not_live = why_not_live
        self._ended = threading.Event()
        self._was_told = False
        self._thread = threading.Thread(target=self._run, name="m3-watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self._manager.watchdog is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._manager.watchdog is not None
        while not self._ended.wait(self._manager.watchdog / 2):
            problems = self._why_not_live()
            if not problems:
                self._manager.alive()
                self._was_told = False
            elif not self._was_told:
                self._was_told = True
                text = "; ".join(problems)
                logger.error("not alive, and the watchdog is left to bark: %s", text)
                self._manager.status(f"not alive: {text}")


def _address_of(path: bytes) -> bytes | None:
    """Return the address of a socket in the file system, or of an abstract one."""
    if path.startswith(b"@"):
        return b"\0" + path[1:]
    return path if path.startswith(b"/") else None


def _microseconds(text: str) -> float | None:
    """Return the seconds; None if there are none."""
    return int(text) / 1e6 if text.isascii() and text.isdecimal() and int(text) else None


def _status(text: str) -> str:
    return f"STATUS={one_line(text)}"
