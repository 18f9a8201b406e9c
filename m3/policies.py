"""How a stage is to behave, as frozen records; the engine acts on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from m3.errors import PlanError, StageError

__all__ = ("Batch", "ErrorPolicy", "MaxFailures", "Ordering")

Ordering = Literal["completion", "input"]
"""In which order a stage's results go on: as they complete, or as they came in."""

ErrorPolicy = Literal["fail", "skip"] | Callable[[StageError], Any]
"""
What happens when a stage raises on an item.

``"fail"`` ends the run; ``"skip"`` counts the item as failed and goes on.  A
callable is called with the :class:`~m3.errors.StageError` (which has the item,
the stage, the worker and the original error), in the worker's thread, and
returns one of the two, or ``m3.DROP`` to count the item as dropped; ``None``
means ``"skip"``, and raising means ``"fail"``.
"""


MaxFailures = int | float
"""
How many items may fail under a policy that goes on: a number, or a fraction of all below 1.

A fraction is judged from the hundredth item on, and at the end.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """
    How items are gathered for ``process_batch``.

    A batch is handed over as soon as any bound is reached, and at the end of
    the input and at a stop whatever there is.

    Attributes:
        count: the most items in a batch.
        bytes: the most bytes; sizes are ``len()`` of bytes and strings, the
            ``nbytes`` of arrays, and 0 for anything else.  An item that is
            larger makes a batch of its own.
        period: how long, in seconds since its first item, a batch may wait for
            more; 0 takes what is waiting and never waits.
    """

    count: int = 256
    bytes: int | None = None
    period: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PlanError(f"Batch(count={self.count}): at least 1 item makes a batch")
        if self.bytes is not None and self.bytes < 1:
            raise PlanError(f"Batch(bytes={self.bytes}): at least 1 byte makes a batch")
        if self.period < 0:
            raise PlanError(f"Batch(period={self.period}): a time cannot be negative")
