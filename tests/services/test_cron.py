"""Lines of cron: what they mean, and when they are due where clocks are changed."""
# ruff: noqa: DTZ001, DTZ006  # lines of cron are about the time of the machine

from datetime import datetime, timedelta

import pytest

from m3.errors import ConfigError
from m3.services import timer
from m3.services.cron import Cron

SPRING = datetime(2026, 3, 29)
"""At 02:00 the clocks of Berlin are put forward to 03:00."""

AUTUMN = datetime(2026, 10, 25)
"""At 03:00 the clocks of Berlin are put back to 02:00."""


def due_within(line, day):
    """Return when a line is due on a day: what clocks show, and the minutes since midnight."""
    begin, end = day.timestamp(), (day + timedelta(days=1)).timestamp()
    cron, now, found = Cron(line), begin - 1, []
    while (now := cron.next_due(now)) < end:
        found.append((f"{datetime.fromtimestamp(now):%H:%M}", int(now - begin) // 60))
    return found


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("line", "day", "due"),
    [
        ("30 2 * * *", SPRING, [("03:30", 150)]),
        ("0 2,3 * * *", SPRING, [("03:00", 120)]),
        ("*/20 2 * * *", SPRING, [("03:00", 120)]),
        ("0 1-4 * * *", SPRING, [("01:00", 60), ("03:00", 120), ("04:00", 180)]),
        ("30 2 * * *", AUTUMN, [("02:30", 150)]),
        ("0 2,3 * * *", AUTUMN, [("02:00", 120), ("03:00", 240)]),
        ("*/20 2 * * *", AUTUMN, [("02:00", 120), ("02:20", 140), ("02:40", 160)]),
        ("0 1-4 * * *", AUTUMN, [("01:00", 60), ("02:00", 120), ("03:00", 240), ("04:00", 300)]),
    ],
)
def test_a_line_for_certain_hours_is_due_once_where_clocks_are_changed(line, day, due):
    """What is left out is due as much later, and what comes twice the first time."""
    assert due_within(line, day) == due


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
@pytest.mark.parametrize("minutes", [1, 15, 60])
def test_a_line_for_every_hour_goes_on_evenly_where_clocks_are_changed(day, hours, minutes):
    """A quarter of an hour after another one there is the next, whatever clocks show."""
    line = "0 * * * *" if minutes == 60 else f"*/{minutes} * * * *"
    passed = [minute for _, minute in due_within(line, day)]
    assert passed == list(range(0, hours * 60, minutes))


@pytest.mark.usefixtures("berlin")
def test_a_line_is_not_due_again_in_an_hour_that_comes_twice():
    """Who asks in the second of the two hours is told the next time, not one that is over."""
    second = AUTUMN.timestamp() + 190 * 60
    assert datetime.fromtimestamp(second) == AUTUMN.replace(hour=2, minute=10, fold=1)
    due = datetime.fromtimestamp(Cron("30 2 * * *").next_due(second))
    assert due == AUTUMN.replace(day=26, hour=2, minute=30)


@pytest.mark.usefixtures("berlin")
def test_a_year_of_a_line_has_as_many_days():
    """Neither change of the clocks adds a day to a year or takes one."""
    cron, now, days = Cron("30 2 * * *"), datetime(2026, 1, 1).timestamp(), []
    while (now := cron.next_due(now)) < datetime(2027, 1, 1).timestamp():
        days.append(datetime.fromtimestamp(now).date())
    assert len(days) == len(set(days)) == 365


@pytest.mark.parametrize(
    ("line", "after", "due"),
    [
        ("* * * * *", "2026-01-01 00:00", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01 00:15", "2026-01-01 00:30"),
        ("5-10/5,50 * * * *", "2026-01-01 00:06", "2026-01-01 00:10"),
        ("5/20 * * * *", "2026-01-01 00:06", "2026-01-01 00:25"),
        ("0 0 1 * *", "2026-01-01 00:00", "2026-02-01 00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
        ("30 6 * jan,Mar sun", "2026-01-25 07:00", "2026-03-01 06:30"),
        ("0 12 * * 7", "2026-01-01 00:00", "2026-01-04 12:00"),
        ("0 12 * * 5-7", "2026-01-04 13:00", "2026-01-09 12:00"),
        ("0 0 13 * fri", "2026-01-01 00:00", "2026-01-02 00:00"),
        ("0 0 13 * fri", "2026-01-10 00:00", "2026-01-13 00:00"),
        ("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59"),
    ],
)
def test_when_a_line_of_cron_is_due(line, after, due):
    """As cron has it: either day is enough if both are restricted, and 7 is Sunday."""
    assert Cron(line).after(datetime.fromisoformat(after)) == datetime.fromisoformat(due)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("* * * *", "4 fields"),
        ("60 * * * *", "'60' is no minute, which is 0 to 59"),
        ("* * * * mox", "'mox' is no day of week"),
        ("10-5 * * * *", "'10-5' means no minute"),
        ("*/0 * * * *", "means no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("0 0 31 2 *", "there is no such day"),
    ],
)
def test_what_is_no_line_of_cron_is_refused(line, text):
    """A mistake is told when the class is made, not when nothing happens."""
    with pytest.raises(ConfigError, match=text):
        timer(cron=line)
