"""What is found against what should be, told for people; and what a test may take."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import enumerate as threads
from typing import Any, NoReturn
from unittest import SkipTest

from m3.errors import abridged

__all__ = ("differ", "not_given", "same", "what_is_open")


def not_given(hook: str) -> NoReturn:
    """Skip the test, which needs a method that the class has not overridden."""
    raise SkipTest(f"{hook}() is not given")


def same(found: Any, wanted: Any, what: str) -> None:
    """Raise :exc:`AssertionError` unless the two are equal."""
    if found != wanted:
        raise AssertionError(f"{what}: expected {abridged(wanted)}, found {abridged(found)}")


def differ(
    found: Sequence[Any],
    wanted: Sequence[Any],
    what: str,
    *,
    in_order: bool = True,
    show: Callable[[Any], str] = repr,
) -> None:
    """
    Raise :exc:`AssertionError` if the items are not the same ones, each as often.

    Args:
        found: the items there are.
        wanted: the items there should be.
        what: they are.
        in_order: whether they have to be in the same order.
        show: returns a text that is different for different items.
    """
    if list(found) == list(wanted):
        return
    there, due = Counter(map(show, found)), Counter(map(show, wanted))
    lines = [
        f"{text}: {_listed(counter.elements())}"
        for text, counter in (("missing", due - there), ("too many", there - due))
        if counter
    ]
    if in_order and not lines:
        lines = [f"in another order: {_listed(map(show, found))}"]
    if lines:
        raise AssertionError("\n  ".join([what, *lines]))


def what_is_open() -> tuple[list[str], list[str]]:
    """Return the threads there are, and what the open descriptors of the process stand for."""
    folder = Path("/dev/fd")
    descriptors = []
    for entry in list(folder.iterdir()) if folder.is_dir() else []:
        with suppress(OSError):  # the one of iterdir itself
            descriptors.append(str(entry.readlink()))
    return sorted(thread.name for thread in threads()), sorted(descriptors)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)
