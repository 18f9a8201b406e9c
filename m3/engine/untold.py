"""Failures of runs whose end nobody has waited for; they are told in the end all the same."""

import atexit
import traceback
from collections.abc import Iterable

from m3._shown import safe

__all__ = ("keep_untold", "take_untold", "tell")

_texts: dict[int, str] = {}


def keep_untold(engine: object, name: str, failures: Iterable[Exception]) -> None:
    """Keep what the run of *engine* has failed with, until somebody is told."""
    lines = (line for failure in failures for line in traceback.format_exception(failure))
    text = safe("".join(lines))
    if not text:
        return
    if not _texts:
        atexit.unregister(_tell_all)
        atexit.register(_tell_all)
    _texts[id(engine)] = f"pipeline {name!r} failed, and nobody waited for its end:\n{text}"


def take_untold(engine: object) -> str:
    """Return what was kept, for somebody is told now; empty if there is nothing."""
    return _texts.pop(id(engine), "")


def tell(text: str) -> None:
    """Log *text* as an error; without any configuration, logging writes it to stderr."""
    if text:
        import logging

        logging.getLogger("m3.engine").error(text)


def _tell_all() -> None:
    while _texts:
        tell(_texts.popitem()[1])
