"""
``count``: how many items there were.

The backend counts the items and writes the number to standard output at the
end, like ``wc -l``; not if the run failed, for then it would be wrong.  The
transport passes the items on and writes the number to standard error.  Both
have it as ``total``; give an instance instead of the name to get at it.
"""

import sys
from typing import ClassVar, TypeVar

from m3.connectors._output.sinks import Stdout
from m3.stages import Backend, Transport

__all__ = ("CountBackend", "CountTransport")

In = TypeVar("In")


class CountTransport(Transport[In, In]):
    """
    Count the items and pass them on; the number goes to standard error.

    Attributes:
        total: how many items came so far.
    """

    max_workers: ClassVar[int | None] = 1
    """Several would each have a part of the number."""

    def __init__(self) -> None:
        self.total = 0

    def process_batch(self, items: list[In]) -> list[In]:
        """Count *items* and return them."""
        self.total += len(items)
        return items

    def cleanup(self) -> None:
        """Write the number."""
        sys.stderr.write(f"count: {self.total}\n")


class CountBackend(Backend[object]):
    """
    Count the items; the number goes to standard output.

    Attributes:
        total: how many items came so far.
    """

    max_workers: ClassVar[int | None] = 1
    """Several would each have a part of the number."""

    def __init__(self) -> None:
        self.total = 0

    def process_batch(self, items: list[object]) -> None:
        """Count *items*."""
        self.total += len(items)

    def cleanup(self) -> None:
        """Write the number, if all were counted."""
        if not self.failed:
            Stdout().write(b"%d\n" % self.total)
