"""What can stand in a row: the values that databases have, and what is made of others."""

import math
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from m3.connectors._json import dumps

__all__ = ("PLAIN", "as_text", "storable")

PLAIN = frozenset({type(None), bool, int, str, bytes})
"""What goes into SQLite as it is.  Real numbers are not here because of NaN."""


def storable(value: Any) -> Any:
    """
    Return *value* as SQLite can hold it.

    Raises:
        TypeError: it cannot.
        ValueError: it is not a number, or has such a thing in it.
        OverflowError: it is an integer of more than 64 bits.
    """
    value = as_text(value)
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("it is NaN, which SQLite does not have")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise OverflowError(f"{value} has more than the 64 bits of an integer in SQLite")
    if isinstance(value, None | int | float | str | bytes | bytearray | memoryview):
        return value
    raise TypeError(f"SQLite cannot hold a {type(value).__qualname__}")


def as_text(value: Any) -> Any:
    """Return the text of what databases have no common type for, and all else as it is."""
    if isinstance(value, dict | list | tuple):
        return dumps(value).decode()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    return value
