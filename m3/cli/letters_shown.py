"""Dead letters, for people and as JSON."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from m3._plain import dumps
from m3._shown import one_line
from m3.engine.dead_letter import DeadLetter, row_of

__all__ = ("as_json", "details", "in_one_line", "statistics")

WIDTH = 100
"""Characters that the message, and the item, of a letter may take in a line."""


def in_one_line(letter: DeadLetter) -> str:
    """Return *letter* as a line of a list."""
    what = f"{letter.error_type}: {letter.message}" if letter.message else letter.error_type
    is_text = "" if letter.is_plain else "  (kept as text only, cannot be redriven)"
    fields = (one_line(letter.stage), _cut(one_line(what)), f"item: {_cut(one_line(letter.text))}")
    return f"{letter.id:>6}  {_moment(letter.last_failed)}  {'  '.join(fields)}{is_text}"


def as_json(letter: DeadLetter) -> str:
    """Return everything about *letter* as JSON in one line, in ASCII."""
    row = row_of(letter)
    values = {name: json.dumps(value) for name, value in row._asdict().items()}
    values |= {"item": row.item or "null", "position": row.position}
    first = {"id": str(letter.id), "is_plain": json.dumps(letter.is_plain)}
    return "{" + ", ".join(f'"{name}": {text}' for name, text in (first | values).items()) + "}"


def details(letter: DeadLetter) -> Iterator[str]:
    """Iterate over the lines that tell everything about *letter*."""
    is_text = "" if letter.is_plain else "  (kept as text only, cannot be redriven)"
    rows = {
        "letter": f"{letter.id}{is_text}",
        "pipeline": letter.pipeline,
        "stage": f"{letter.stage}  ({letter.kind}, worker {letter.worker})",
        "position": dumps(letter.position),
        "attempts": f"{letter.attempts}",
        "first failed": _moment(letter.first_failed),
        "last failed": _moment(letter.last_failed),
        "error": letter.error_type,
        "message": letter.message,
        "item": dumps(letter.item) if letter.is_plain else letter.text,
    }
    for name, text in rows.items():
        first, *others = text.split("\n")
        yield f"{name:<13} {one_line(first)}"
        yield from (f"{'':<13} {one_line(line)}" for line in others)
    yield from (one_line(line) for line in letter.traceback.rstrip("\n").split("\n"))


def statistics(letters: Iterable[DeadLetter]) -> Iterator[str]:
    """Iterate over the lines that count *letters* by stage and type, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    oldest, newest, texts = float("inf"), 0.0, 0
    for letter in letters:
        counts[letter.stage, letter.error_type] += 1
        oldest, newest = min(oldest, letter.first_failed), max(newest, letter.last_failed)
        texts += not letter.is_plain
    if not counts:
        yield "no letters"
        return
    times = f"the oldest of {_moment(oldest)}, the newest of {_moment(newest)}"
    yield f"{counted(counts.total())}, {times}"
    for (stage, error_type), count in counts.most_common():
        yield f"{count:>8,}  {one_line(stage)}  {one_line(error_type)}"
    if texts:
        yield f"{texts:,} of them kept as text only; they cannot be redriven"


def counted(count: int) -> str:
    """Return how many letters there are, in words."""
    return "1 letter" if count == 1 else f"{count:,} letters"


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[:WIDTH] + "..."


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
