"""Names made of items: by a template, as ``orders/{country}/{id}``, or by a function."""

from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal
from string import Formatter
from typing import Any, NamedTuple
from uuid import UUID

from m3.errors import ConfigError, abridged

__all__ = ("PLAIN", "Field", "Name", "has_fields", "naming", "pieces_of")

Name = str | Callable[[Any], str]
"""A template with fields of the item in braces, or what is called with the item."""

PLAIN = (str, int, float, Decimal, date, time, UUID)
"""What a field may be to become a part of a name."""


class Field(NamedTuple):
    """A field of the item, in a name."""

    name: str


def naming(option: str, name: Name, *, longest: int) -> Callable[[Any], str]:
    """
    Return what makes the name of an item.

    It raises :exc:`TypeError` or :exc:`ValueError` if an item has none.

    Args:
        option: what *name* is called in errors.
        name: see :data:`Name`.
        longest: how many bytes a name may have.

    Raises:
        ConfigError: the template cannot be filled in.
    """
    make = name if callable(name) else _Template(option, name)

    def named(item: Any) -> str:
        found = make(item)
        if not isinstance(found, str):
            raise TypeError(f"{option} must be text, and is {abridged(found)}")
        if not 0 < len(found.encode()) <= longest:
            raise ValueError(f"{option} must have 1 to {longest} bytes, and is {abridged(found)}")
        return found

    return named


def has_fields(option: str, name: Name) -> bool:
    """
    Return whether *name* is different for different items.

    Raises:
        ConfigError: the template cannot be filled in.
    """
    return callable(name) or any(isinstance(piece, Field) for piece in pieces_of(option, name))


def pieces_of(option: str, text: str) -> list[str | Field]:
    """
    Return a template as its texts and fields; a brace is written ``{{`` or ``}}``.

    Raises:
        ConfigError: it cannot be filled in.
    """
    pieces: list[str | Field] = []
    try:
        for literal, field, form, conversion in Formatter().parse(text):
            if literal:
                pieces.append(literal)
            if field is not None:
                if not field or form or conversion:
                    raise ValueError("a field is a name between braces")  # noqa: TRY301
                pieces.append(Field(field))
    except ValueError as error:
        raise ConfigError(
            f"{option}={text!r}: {error}; a field of the item is written {{name}}, "
            "a brace {{ or }}"
        ) from error
    return pieces


class _Template:
    def __init__(self, option: str, text: str) -> None:
        self._option = option
        self._pieces = pieces_of(option, text)

    def __call__(self, item: Any) -> str:
        return "".join(
            piece if isinstance(piece, str) else self._value(item, piece.name)
            for piece in self._pieces
        )

    def _value(self, item: Any, field: str) -> str:
        if not isinstance(item, Mapping):
            raise TypeError(f"{self._option} has fields, and {abridged(item)} has none")
        if field not in item:
            raise ValueError(f"the item has no {field!r}, which {self._option} needs")
        value = item[field]
        if not isinstance(value, PLAIN):
            raise TypeError(f"{field!r} is in {self._option} and cannot be {abridged(value)}")
        return str(value)
