"""Engines that still run when the interpreter exits are stopped then."""

import atexit
import logging
from typing import Protocol

__all__ = ("Stoppable", "forget", "watch")


class Stoppable(Protocol):
    """What is asked of an engine at exit."""

    def give_back(self) -> None:
        """Begin to stop, without waiting for anybody to take results; return at once."""

    def end_at_exit(self) -> object:
        """Wait for the end."""


_running: dict[int, Stoppable] = {}


def watch(engine: Stoppable) -> None:
    """Stop *engine* when the interpreter exits, unless it ends before."""
    if not _running:
        # Again, so that it comes before whatever was registered since.
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)
    _running[id(engine)] = engine


def forget(engine: Stoppable) -> None:
    """Take note that *engine* has ended."""
    _running.pop(id(engine), None)


def _stop_all() -> None:
    engines = list(_running.values())
    for engine in engines:
        engine.give_back()
    for engine in engines:
        try:
            engine.end_at_exit()
        except Exception:
            logging.getLogger("m3.engine").exception("a pipeline could not be ended")
