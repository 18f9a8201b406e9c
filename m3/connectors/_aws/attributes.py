"""
Values as DynamoDB has them, each with its type, and their sizes.

Numbers are exact: a float is the decimal number that Python writes for it.
"""

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from m3.errors import abridged

__all__ = ("attribute_of", "attributes_of", "key_of", "size_of")

DIGITS = 38
"""Of a number (Amazon DynamoDB developer guide, Supported data types)."""

LARGEST = Decimal("9.9999999999999999999999999999999999999E+125")
SMALLEST = Decimal("1E-130")


def attributes_of(item: Any) -> dict[str, Any]:
    """
    Return *item*, a mapping, as the attributes of an item of a table.

    Raises:
        TypeError: it is none, or has a value that DynamoDB has not.
        ValueError: it has a number that DynamoDB has not.
    """
    if not isinstance(item, Mapping):
        raise TypeError(f"an item of a table is a mapping, not {abridged(item)}")
    return {name_of(name): attribute_of(value) for name, value in item.items()}


def attribute_of(value: Any) -> dict[str, Any]:
    """Return *value* with its type; raises as :func:`attributes_of`."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int | float | Decimal):
        return {"N": number_of(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"B": bytes(value)}
    if isinstance(value, Mapping):
        return {"M": attributes_of(value)}
    if isinstance(value, list | tuple):
        return {"L": [attribute_of(each) for each in value]}
    if isinstance(value, set | frozenset):
        return set_of(value)
    if isinstance(value, date | time):
        return {"S": value.isoformat()}
    if isinstance(value, UUID):
        return {"S": str(value)}
    raise TypeError(f"DynamoDB has no value for {abridged(value)}")


def key_of(attributes: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    """
    Return what two items have in common of which one replaces the other.

    Raises:
        ValueError: an attribute of the key is missing.
    """
    found: list[Any] = []
    for name in names:
        if name not in attributes:
            raise ValueError(f"the item has no {name!r}, which is in the key of the table")
        ((kind, value),) = attributes[name].items()
        found.append((kind, Decimal(value) if kind == "N" else value))
    return tuple(found)


def size_of(attributes: Mapping[str, Any]) -> int:
    """Return about how many bytes the table needs for an item (Item sizes and formats)."""
    return sum(len(name.encode()) + _size(value) for name, value in attributes.items())


def name_of(name: Any) -> str:
    """Return the name of an attribute."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of an attribute is text, not {abridged(name)}")
    return name


def number_of(value: float | Decimal) -> str:
    """Return a number as DynamoDB writes it."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValueError(f"DynamoDB has no number {value}")
    digits = "".join(map(str, number.as_tuple().digits))
    if len(digits.strip("0")) > DIGITS:
        raise ValueError(f"DynamoDB has {DIGITS} digits, and {abridged(value)} has more")
    if number and not SMALLEST <= abs(number) <= LARGEST:
        raise ValueError(f"{abridged(value)} is beyond the numbers of DynamoDB")
    return str(number)


def set_of(values: Any) -> dict[str, Any]:
    """Return a set, whose members are of one type: text, numbers or bytes."""
    members = [attribute_of(each) for each in values]
    kinds = {kind for member in members for kind in member}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        raise TypeError(
            f"a set of DynamoDB has text, numbers or bytes, and at least one: {abridged(values)}"
        )
    (kind,) = kinds
    return {f"{kind}S": sorted(member[kind] for member in members)}


def _size(attribute: Mapping[str, Any]) -> int:
    ((kind, value),) = attribute.items()
    if kind == "S":
        return len(value.encode())
    if kind == "N":
        return len(value) // 2 + 2
    if kind == "B":
        return len(value)
    if kind == "M":
        return 3 + len(value) + size_of(value)
    if kind == "L":
        return 3 + sum(1 + _size(each) for each in value)
    if kind in ("SS", "NS", "BS"):
        return 3 + sum(1 + _size({kind[0]: each}) for each in value)
    return 1
