"""Signals in tests: a handler that raises, at each moment when one may come to code of a bus."""

import sys
from itertools import count
from pathlib import Path

import m3.messaging

__all__ = ("interrupted_at_each_moment",)

FOLDER = f"{Path(m3.messaging.__file__).parent}/"


class Signal:
    """
    A signal whose handler raises: at the moment *at*, of those when this thread may get one.

    That is when a function begins, and when one that is compiled has returned.
    """

    def __init__(self, at):
        self.left = at
        self.has_come = False

    def __enter__(self):
        sys.setprofile(self.look)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def look(self, frame, event, _):
        is_moment = event in ("call", "c_return") and frame.f_code.co_filename.startswith(FOLDER)
        if is_moment and not self.has_come:
            self.has_come = self.left == 0
            self.left -= 1
            if self.has_come:
                raise KeyboardInterrupt


def interrupted_at_each_moment(connected, scenario):
    """
    Run a scenario for each moment at which a signal may come.

    Args:
        connected: returns a context with a new bus.
        scenario: takes the bus, and a function; that calls what it gets, and is interrupted then.
    """
    for at in count():
        signal = Signal(at)

        def interrupt(act, *arguments, signal=signal):
            try:
                with signal:
                    return act(*arguments)
            except KeyboardInterrupt:
                return None

        with connected() as bus:
            scenario(bus, interrupt)
        if not signal.has_come:
            assert at > 5
            return
