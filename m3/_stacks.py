"""Where a thread is at the moment, for those who have to say where something hangs."""

import sys
import threading
import traceback
from collections.abc import Iterable
from types import FrameType

__all__ = ("formatted", "frames_of")


def frames_of(thread: threading.Thread | None) -> list[FrameType]:
    """Return the frames of a thread, the outermost first; none if it has ended."""
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    return [each for each, _ in traceback.walk_stack(frame)][::-1] if frame is not None else []


def formatted(frames: Iterable[FrameType]) -> str:
    """Return *frames* as lines of a traceback."""
    lines = ((frame, frame.f_lineno) for frame in frames)
    return "".join(traceback.StackSummary.extract(lines).format())
