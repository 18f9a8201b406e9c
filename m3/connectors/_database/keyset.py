"""
Frontends that read rows page by page, in the order of a key.

Each page is a query of its own, for the rows behind the last key: so nothing
is held open, memory is bounded by a page, and a run can go on behind any key.
A key that does not tell all rows apart would lose some at the end of a page;
so each page begins with the last row of the one before, which shows them.
"""

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar, Protocol

from m3._messages import closest, did_you_mean
from m3.errors import ConfigError, StateError, abridged
from m3.stages import Frontend, Item

__all__ = ("PAGE_SIZE", "KeysetFrontend", "Rows", "check_key", "check_source", "fingerprint")

PAGE_SIZE = 1000
"""The default for how many rows are read at once."""

Key = tuple[Any, ...]
Row = tuple[Any, ...]


class Rows(Protocol):
    """What a table has, or a query results in."""

    identity: str
    """Which rows they are, to recognise them by in a later run; without secrets."""

    names: tuple[str, ...]
    """The columns that make an item."""

    key: tuple[str, ...]
    """The columns of the key; none if there is no key."""

    def page(self, start: Key | None, limit: int) -> list[Row]:
        """
        Return the first rows in the order of the key, *limit* at most.

        A row is the values of its key and those of its columns.  With *start*,
        only rows from there on come, each with one value more: whether the
        database takes its key for equal to *start*.
        """

    def has_null_in_key(self) -> bool:
        """Say whether there is a row without a value for a column of the key."""

    def pages(self, size: int) -> Iterator[list[Row]]:
        """Yield all rows, only the values of their columns, in the order in which they come."""

    def interrupt(self) -> None:
        """End the query that another thread waits for, where that is possible."""

    def close(self) -> None:
        """Let go of the database."""


def check_source(table: str | None, query: str | None) -> None:
    """Raise :exc:`ConfigError` unless exactly one of the two is given."""
    if (table is None) == (query is None):
        raise ConfigError("give either a table or a query")


def check_key(key: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Raise :exc:`ConfigError` if a column of *key* is not among *names*."""
    for name in key:
        if name not in names:
            near = did_you_mean(closest(name, names))
            raise ConfigError(f"key={name!r}: there is no such column{near}")


def fingerprint(query: str) -> str:
    """Return what tells *query* from others, and nothing that it says."""
    return hashlib.sha256(query.encode()).hexdigest()[:16]


class KeysetFrontend(Frontend[dict[str, Any]]):
    """
    What the frontends that read rows have in common.

    Args:
        page_size: how many rows are read at once.
        can_resume: whether there is a key to go on behind, as far as is known yet.

    Attributes:
        can_resume: whether there is.
    """

    max_workers: ClassVar[int | None] = 1
    """Each of two would read all rows."""

    def __init__(self, *, page_size: int, can_resume: bool) -> None:
        if page_size < 1:
            raise ConfigError(f"page_size={page_size}: a page has 1 row at least")
        self._page_size = page_size
        self.can_resume = can_resume

    def open(self) -> Rows:
        """Return what to read."""
        raise NotImplementedError

    def setup(self) -> None:
        """Open the database; look whether there is what is to be read."""
        self._is_stopped = False
        self._start: Key | None = None
        self._rows = self.open()
        self.can_resume = bool(self._rows.key)

    def resume(self, checkpoint: Any) -> None:
        """Begin behind the key that *checkpoint* says."""
        if checkpoint is None:
            return
        if not self._rows.key:
            raise StateError("without a key, rows are not read in an order to go on in; name a key")
        if checkpoint["rows"] != self._rows.identity or checkpoint["key"] != [*self._rows.key]:
            raise StateError(
                f"the checkpoint is of {checkpoint['rows']} by {', '.join(checkpoint['key'])}, and "
                f"this is {self._rows.identity} by {', '.join(self._rows.key)}; begin again "
                "without the state, or read what was read before"
            )
        self._start = tuple(checkpoint["behind"])

    def checkpoint(self, position: Any) -> dict[str, Any]:
        """Return the key of a row, and what it is a key of."""
        key = self._rows.key
        behind = [position] if len(key) == 1 else list(position)
        return {"rows": self._rows.identity, "key": [*key], "behind": behind}

    def produce(self) -> Iterator[Any]:
        """Return an iterator of the rows, as dictionaries; it blocks while the database does."""
        return chain.from_iterable(self._lists())

    def stop(self) -> None:
        """End :meth:`produce` with the page that it is at, or the query that it waits for."""
        self._is_stopped = True
        self._rows.interrupt()

    def cleanup(self) -> None:
        """Close the database."""
        self._rows.close()

    def _lists(self) -> Iterator[list[Any]]:
        pages = self._by_key() if self._rows.key else self._rows.pages(self._page_size)
        make = self._with_positions if self._rows.key and self.wants_positions else self._plain
        try:
            for page in pages:
                yield make(page)
                if self._is_stopped:
                    return
        except Exception:
            if not self._is_stopped:
                raise

    def _by_key(self) -> Iterator[list[Row]]:
        """Yield pages until there is nothing behind the last key."""
        if self._rows.has_null_in_key():
            raise ConfigError(
                f"{self._described_key()}: there are rows with NULL in it, which have no place in "
                "its order; name other columns, or leave those rows out with a query"
            )
        width = len(self._rows.key)
        while page := self._page(width):
            self._start = tuple(page[-1][:width])
            yield page

    def _page(self, width: int) -> list[Row]:
        """Return the next rows; raise if the key does not tell them apart."""
        start = self._start
        page = self._rows.page(start, self._page_size + (start is not None))
        known = [row for row in page[:2] if start is not None and row[-1]]
        page = page[len(known) :]
        keys = {tuple(row[:width]) for row in page}
        if len(known) > 1 or len(keys) < len(page) or start in keys:
            raise ConfigError(
                f"{self._described_key()}: it does not tell all rows apart (see those near "
                f"{abridged(start or page[0][:width])}), so some would be lost; "
                "add a column to the key"
            )
        return page

    def _described_key(self) -> str:
        return f"key={', '.join(map(repr, self._rows.key))} of {self._rows.identity}"

    def _plain(self, page: list[Row]) -> list[Any]:
        names, skip = self._rows.names, len(self._rows.key)
        return [dict(zip(names, row[skip:], strict=False)) for row in page]

    def _with_positions(self, page: list[Row]) -> list[Any]:
        width = len(self._rows.key)
        keys = [row[0] if width == 1 else tuple(row[:width]) for row in page]
        return list(map(Item, self._plain(page), keys))
