"""What the messages of errors are made of."""

from collections.abc import Iterable, Sequence
from typing import Any

from m3._shown import masked, one_line, safe

__all__ = ("abridged", "closest", "describe", "did_you_mean")

LONGEST_SECRET = 2048


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Return those of *known* that look like *name*, best first."""
    from difflib import get_close_matches

    return get_close_matches(name, list(known))


def did_you_mean(near: Sequence[str]) -> str:
    """Return the question that names what is near, if anything is."""
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def describe(error: BaseException) -> str:
    """
    Return ``Type: text`` of *error*, also if its ``__str__`` raises.

    Secrets and passwords in URLs are masked, and control characters escaped
    except line ends and tabs.
    """
    try:
        text = safe(str(error))
    except BaseException:  # whatever it is, a message can be made without it
        text = "<its __str__ raised>"
    name = _type_name(error)
    return f"{name}: {text}" if text else name


def abridged(value: Any, limit: int = 200) -> str:
    """
    Return ``repr(value)`` in one line cut to *limit* characters, also if it raises.

    Secrets and passwords in URLs are masked.
    """
    if isinstance(value, (bytes, bytearray, str)) and len(value) > limit:
        return repr(_beginning(value, limit)) + "..."
    try:
        text = one_line(repr(value))
    except BaseException:
        return f"<{_type_name(value)} whose __repr__ raised>"
    return text if len(text) <= limit else text[:limit] + "..."


def _type_name(value: object) -> str:
    return one_line(type(value).__qualname__)


def _beginning(value: bytes | bytearray | str, limit: int) -> bytes | bytearray | str:
    """Return *limit* characters of *value*, masked as long as what is cut off is still there."""
    if isinstance(value, str):
        return masked(value[: limit + LONGEST_SECRET])[:limit]
    text = masked(value[: limit + LONGEST_SECRET].decode("latin-1"))[:limit]
    return text.encode("latin-1") if isinstance(value, bytes) else bytearray(text, "latin-1")
