"""The standard streams of the process."""

import contextlib
import os

__all__ = ("hold_places",)


def hold_places() -> None:
    """
    Take the descriptors 0, 1 and 2 where the process was started without them.

    Otherwise the next file that is opened gets such a number, and what is meant
    for stdout is written into it.  Reading or writing them still fails.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, mode)
