"""Doing several things of which none may be left out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

__all__ = ("call_all", "taken_from")

T = TypeVar("T")


def call_all(calls: Iterable[Callable[[], object]]) -> None:
    """
    Call each, also if one before it raises, or is interrupted.

    Raises:
        BaseException: the first that one of them has raised.
    """
    first: BaseException | None = None
    for call in calls:
        try:
            call()
        except BaseException as raised:
            first = first or raised
    if first is not None:
        raise first


def taken_from(things: deque[T]) -> Iterator[T]:
    """Yield what is first until nothing is there; other threads may do the same."""
    with suppress(IndexError):
        while True:
            yield things.popleft()
