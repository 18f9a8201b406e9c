"""Where a thread is at the moment, for those who have to say where something hangs."""

import threading
import traceback
from collections.abc import Iterable
from types import CodeType
from typing import NamedTuple

from m3._frames import places_of

__all__ = ("Place", "formatted", "frames_of")


class Place(NamedTuple):
    """Where a frame is: the code that it runs, and the line."""

    code: CodeType
    line: int


def frames_of(thread: threading.Thread | None) -> list[Place]:
    """Return where the frames of a thread are, the outermost first; none if it has ended."""
    if thread is None or thread.ident is None or not thread.is_alive():
        return []
    return [Place(code, line) for code, line in reversed(places_of(thread.ident))]


def formatted(places: Iterable[Place]) -> str:
    """Return *places* as lines of a traceback."""
    lines = [(code.co_filename, line, code.co_name, None) for code, line in places]
    return "".join(traceback.StackSummary.from_list(lines).format())
