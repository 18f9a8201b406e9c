"""Where values come from, and what is wrong with them."""

from dataclasses import dataclass
from typing import Literal

__all__ = ("DEFAULT", "KeyPath", "Origin", "Problem", "dotted", "hint")

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value; indices of arrays count from 0."""


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a value was given.

    Attributes:
        source: the kind of place; the first in the order of precedence wins.
        where: for people: ``--workers``, ``M3_WORKERS``, ``pipeline.toml:12``.
        line: in the file, or 0.
    """

    source: Literal["flag", "environment", "file", "default"]
    where: str
    line: int = 0

    def __str__(self) -> str:
        return self.where


DEFAULT = Origin("default", "default")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration."""

    origin: Origin
    key: str
    message: str

    def is_about(self, other: "Problem") -> bool:
        """Tell whether fixing this mistake means looking where *other* stands."""
        return self.key == other.key or (
            self.origin.where == other.origin.where and self.message == other.message
        )

    def __str__(self) -> str:
        where = "" if self.origin is DEFAULT else self.origin.where
        return ": ".join(part for part in (where, self.key, self.message) if part)


def dotted(path: KeyPath) -> str:
    """Return *path* as people write it: ``transport.1.workers``, stages counted from 1."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path)


def hint(name: str, known: tuple[str, ...]) -> str:
    """Return ``; did you mean ...?`` for the known names near *name*, else what there is."""
    from difflib import get_close_matches

    if near := get_close_matches(name, known, n=2, cutoff=0.6):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; there are: {', '.join(sorted(known))}" if known else ""
