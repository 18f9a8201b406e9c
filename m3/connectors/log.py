"""
``log``: items to the log.

Each item is logged at INFO with the logger ``m3.log``, as ``repr`` shows it
(so control characters are escaped), cut to 200 characters.  The transport
passes it on, the backend consumes it.  Nothing is seen unless the program
that runs the pipeline lets this logger through.
"""

import logging
from typing import TypeVar

from m3.errors import abridged
from m3.stages import Backend, Transport

__all__ = ("LogBackend", "LogTransport")

In = TypeVar("In")

logger = logging.getLogger("m3.log")


def log(item: object) -> None:
    """Log *item*, if anybody listens."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", abridged(item))


class LogTransport(Transport[In, In]):
    """Log each item and pass it on."""

    def transport(self, data: In) -> In:
        """Log *data* and return it."""
        log(data)
        return data


class LogBackend(Backend[object]):
    """Log each item."""

    def process(self, data: object) -> None:
        """Log *data*."""
        log(data)
