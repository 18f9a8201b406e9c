"""
One dead letter: what is kept of an item that failed for good.

A store writes :class:`Row`, in which item and position are text already: it
is made when the item fails, for later its user's code may change the item.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from m3._plain import dumps, loads
from m3._shown import masked
from m3.engine.tracebacks import foreign_traceback
from m3.errors import ItemTimeoutError, StageError, StateError, abridged

__all__ = (
    "EVERY",
    "NOBODY",
    "OF_STATE",
    "DeadLetter",
    "Row",
    "Selection",
    "checked",
    "kept_position",
    "letter_of",
    "read_mark",
    "row_of",
    "rows_of",
    "states_of",
)

TEXT_LIMIT = 1_000
MESSAGE_LIMIT = 10_000
TRACEBACK_LIMIT = 64_000

NOBODY = ""
"""The writer of a letter that was made in a redrive: no run takes it back."""

OF_STATE = " of "
"""What stands in the name of a writer before the folder of the state of its runs."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    An item that failed for good, with its cause.

    Attributes:
        id: its number in its store, from 1.
        item: the item, or None if it is not plain.
        text: the ``repr`` of the item, abridged, for people.
        is_plain: whether ``item`` is the item itself, so that it can be redriven.
        position: where in its source it came from; a ``repr`` if that was not plain.
        stage: the name of the stage that raised.
        kind: of that stage: ``"frontend"``, ``"transport"`` or ``"backend"``.
        worker: the number of its worker.
        pipeline: the name of the pipeline.
        error_type: of what was raised, as ``module.Name``; of a builtin, its name.
        message: of what was raised.
        traceback: the part of it that is not m3's own.
        attempts: how often the stage's code was called with the item.
        first_failed: seconds since the epoch.
        last_failed: the same, after it was redriven and failed again.
    """

    id: int
    item: Any
    text: str
    is_plain: bool
    position: Any
    stage: str
    kind: str
    worker: int
    pipeline: str
    error_type: str
    message: str
    traceback: str
    attempts: int
    first_failed: float
    last_failed: float


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Which letters are meant; None leaves a question open.

    Attributes:
        only: the type of the error, with or without its module.
        stage: the name of the stage.
        before: they last failed before this, in seconds since the epoch.
        ids: their numbers.
    """

    only: str | None = None
    stage: str | None = None
    before: float | None = None
    ids: Collection[int] | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        """Return whether *letter* is one of them."""
        return (
            (self.only is None or self._is_of_type(letter.error_type))
            and (self.stage is None or self.stage == letter.stage)
            and (self.before is None or letter.last_failed < self.before)
            and (self.ids is None or letter.id in self.ids)
        )

    def _is_of_type(self, error_type: str) -> bool:
        return error_type == self.only or error_type.endswith(f".{self.only}")


EVERY = Selection()


class Row(NamedTuple):
    """A letter as it is kept, without its number; *item* and *position* as of ``m3._plain``."""

    item: str | None
    text: str
    position: str
    stage: str
    kind: str
    worker: int
    pipeline: str
    error_type: str
    message: str
    traceback: str
    attempts: int
    first_failed: float
    last_failed: float

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return len(self.item or "") + len(self.text) + len(self.message) + len(self.traceback)


def rows_of(
    failure: StageError, *, items: Sequence[tuple[Any, Any]], kind: str, pipeline: str, now: float
) -> Iterator[Row]:
    """Yield a row for each item and position of *items*, all of which failed in one way."""
    error = failure.error
    message = kept_text(masked(message_of(error)), MESSAGE_LIMIT)
    told = kept_text(masked(foreign_traceback(error)), TRACEBACK_LIMIT)
    for item, position in items:
        yield Row(
            item=_dumps_if_plain(item),
            text=kept_text(abridged(item, TEXT_LIMIT), 2 * TEXT_LIMIT),
            position=kept_position(position),
            stage=failure.stage,
            kind=kind,
            worker=failure.worker,
            pipeline=pipeline,
            error_type=type_of(error),
            message=message,
            traceback=told,
            attempts=failure.attempts,
            first_failed=now,
            last_failed=now,
        )


def kept_position(position: Any) -> str:
    """Return *position* as it is kept: itself if it is plain, else its ``repr``."""
    return _dumps_if_plain(position) or dumps(abridged(position, TEXT_LIMIT))


def row_of(letter: DeadLetter) -> Row:
    """Return how *letter* is kept."""
    values = {name: getattr(letter, name) for name in Row._fields}
    values["item"] = dumps(letter.item) if letter.is_plain else None
    values["position"] = dumps(letter.position)
    return Row(**values)


def letter_of(number: int, row: Row) -> DeadLetter:
    """
    Return the letter that is kept as *row*.

    Raises:
        ValueError: the row is nothing that :func:`rows_of` makes.
    """
    item = None if row.item is None else loads(row.item)
    values = row._asdict() | {"item": item, "position": loads(row.position)}
    return checked(DeadLetter(id=number, is_plain=row.item is not None, **values))


def checked(letter: DeadLetter) -> DeadLetter:
    """
    Return *letter*, of which all fields are what they are to be.

    Raises:
        ValueError: one is something else.
    """
    for field in fields(DeadLetter):
        value = getattr(letter, field.name)
        if field.type is not Any and type(value) is not field.type:
            raise ValueError(f"{field.name} of a letter is no {abridged(value)}")
    return letter


def type_of(error: BaseException) -> str:
    """Return ``module.Name`` of the type of *error*; of a builtin, its name."""
    kind = type(error)
    is_builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """Return what *error* says, without its type."""
    if isinstance(error, ItemTimeoutError):  # it says its stack, too
        return f"took longer than timeout={error.seconds:g} s and was given up"
    try:
        return str(error)
    except Exception:
        return "<its __str__ raised>"


def kept_text(text: str, limit: int) -> str:
    """Return *text* as a database takes it, and without its middle if it is over *limit*."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    left_out = f"\n... {len(text) - limit:,} characters left out ...\n"
    return text[: limit // 4] + left_out + text[-(limit - limit // 4) :]


def read_mark(mark: Any, path: Path) -> tuple[str, int]:
    """Return who goes by a *mark* of the store at *path*, and the last number before it."""
    match mark:
        case {"writer": str(writer), "last": int(last)}:
            return writer, last
    raise StateError(f"{path}: {abridged(mark)} is no mark of a store of dead letters")


def states_of(writers: Iterable[str]) -> set[str]:
    """Return the folders of the states of the runs that have put letters into a store."""
    return {writer.partition(OF_STATE)[2] for writer in writers} - {""}


def _dumps_if_plain(value: Any) -> str | None:
    try:
        return dumps(value)
    except Exception:  # not plain, or its methods raise: it is kept as text
        return None
