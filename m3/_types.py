"""The words that every floor shares: sentinels and envelopes; no logic."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

__all__ = ("DROP", "Drop", "Failure", "Item")


class Drop(Enum):
    """The type of :data:`DROP`."""

    DROP = "DROP"

    def __repr__(self) -> str:
        return "m3.DROP"


DROP: Final[Literal[Drop.DROP]] = Drop.DROP
"""Returned by a transport instead of an item: this item goes no further."""


# Not frozen: making a frozen one takes three times as long, and there is one for each record.
@dataclass(slots=True, unsafe_hash=True)
class Item:
    """
    An item together with where in its source it came from.

    Attributes:
        value: what the stages get.
        position: opaque to the engine; it appears in errors.
    """

    value: Any
    position: Any = None


@dataclass(frozen=True, slots=True)
class Failure:
    """
    Yielded by a frontend in place of an item that it could not read.

    It is an item that failed in the frontend: the ``on_error`` policy of the
    frontend decides, and the frontend goes on with its next item.

    Attributes:
        error: why it could not be read.
        value: what is known of it, perhaps its beginning.
        position: where in the source it is.
    """

    error: Exception
    value: Any = None
    position: Any = None
