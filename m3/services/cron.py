"""
When a line of cron is due: ``minute hour day-of-month month day-of-week``.

As in cron of Vixie and POSIX: ``*``, numbers, ranges ``1-5``, steps ``*/15``, lists
``0,30``, names of months and days, 7 for Sunday; if both days are restricted, either
is enough.  The times are those of the machine's time zone.

Where its clocks are put forward, what falls into the hour that is left out is due as
much later: 02:30 at 03:30, once.  Where they are put back, a line is due in the first of
the two hours that are called the same; one that names every hour, in both.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from m3.errors import ConfigError, abridged

__all__ = ("Cron",)

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)

PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?")

HOURS = 24

FARTHEST = timedelta(days=366 * 9)
"""Further ahead nothing is looked for: 29 February is eight years away at most."""


class Cron:
    """
    The times that a line of cron means.

    Raises:
        ConfigError: the line is none, or means no time at all.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        fields = text.split()
        if len(fields) != len(FIELDS):
            raise ConfigError(
                f"cron {abridged(text)}: it has {len(fields)} fields; it has 5: minute, hour, day "
                "of month, month, day of week"
            )
        sets = [
            frozenset(_values(field, *known, text=text))
            for field, known in zip(fields, FIELDS, strict=True)
        ]
        self._minutes, self._hours, self._days, self._months, weekdays = sets
        self._weekdays = frozenset(day % 7 for day in weekdays)
        self._is_either = not (fields[2].startswith("*") or fields[4].startswith("*"))
        self._is_hourly = len(self._hours) == HOURS
        self.after(datetime(2000, 1, 1))  # noqa: DTZ001  # as the machine's clock shows it

    def next_due(self, now: float) -> float:
        """Return the first time after *now*, both in seconds since 1970."""
        here = found = datetime.fromtimestamp(now)  # noqa: DTZ006  # local, as cron is
        while True:
            found = self.after(found)
            times = {found.timestamp(), self._by_elapsed(now, found - here)}
            if later := [due for due in times if due > now]:
                return min(later)

    def _by_elapsed(self, now: float, seconds: timedelta) -> float:
        """Return the time so much later, if a line for every hour is due then; else *now*."""
        due = float(round(now + seconds.total_seconds()))
        local = datetime.fromtimestamp(due)  # noqa: DTZ006
        return due if self._is_hourly and self._is_at(local) else now

    def after(self, moment: datetime) -> datetime:
        """Return the first time after *moment*; both are as the machine's clock shows them."""
        found = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = found + FARTHEST
        while found < end:
            if found.month not in self._months or not self._is_day(found):
                found = found.replace(hour=0, minute=0) + timedelta(days=1)
            elif found.hour not in self._hours:
                found = found.replace(minute=0) + timedelta(hours=1)
            elif found.minute not in self._minutes:
                found += timedelta(minutes=1)
            else:
                return found
        raise ConfigError(f"cron {abridged(self.text)}: there is no such day")

    def _is_at(self, moment: datetime) -> bool:
        is_month_and_day = moment.month in self._months and self._is_day(moment)
        return is_month_and_day and moment.hour in self._hours and moment.minute in self._minutes

    def _is_day(self, moment: datetime) -> bool:
        in_month = moment.day in self._days
        in_week = moment.isoweekday() % 7 in self._weekdays
        return (in_month or in_week) if self._is_either else (in_month and in_week)


def _values(
    field: str, what: str, least: int, most: int, names: Sequence[str], *, text: str
) -> Iterator[int]:
    """Yield the numbers that a field means."""

    def number(word: str) -> int:
        if word.lower() in names:
            return names.index(word.lower()) + least
        if not word.isdecimal() or not least <= int(word) <= most:
            raise ConfigError(
                f"cron {abridged(text)}: {word!r} is no {what}, which is {least} to {most}"
            )
        return int(word)

    for part in field.split(","):
        match = PART.fullmatch(part)
        if match is None:
            raise ConfigError(f"cron {abridged(text)}: {abridged(part)} is no {what}")
        star, first, last, step = match.groups()
        begin = least if star else number(first)
        end = most if star or (step and not last) else number(last or first)
        if end < begin or step == "0":
            raise ConfigError(f"cron {abridged(text)}: {abridged(part)} means no {what}")
        yield from range(begin, end + 1, int(step or 1))
