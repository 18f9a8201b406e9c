"""Timers: when they call, with a clock that the test moves."""
# ruff: noqa: DTZ001, DTZ006  # lines of cron are about the time of the machine

import threading
import uuid
from datetime import datetime, timedelta
from importlib import import_module

import pytest

from m3._parking import Switch
from m3.errors import ConfigError
from m3.services import ServiceContainer, once, timer
from m3.testing import FakeClock

DAY = 24 * 3600

timers = import_module("m3.services.timer")  # the name in the package is the decorator


@pytest.fixture
def bus_url():
    """Return the URL of a bus; timers in each process have no use for it."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def clock():
    return FakeClock()


def test_a_day_without_drift(start, clock):
    """Whatever the calls do, they are made at the times of the grid, all of them."""
    times = []

    class Sweeper:
        @timer(interval=5)
        def tick(self):
            times.append(clock.monotonic())
            if len(times) % 1000 == 0:
                raise ValueError("some fail")

    start(Sweeper)
    clock.run(DAY)
    assert times == [5.0 * number for number in range(1, DAY // 5 + 1)]


def test_a_clock_has_no_alarm_of_a_timer_that_has_stopped(hurried, bus_url, clock):
    """Who moves the clock waits for no timer of a service that was stopped, at any moment."""

    class Eager:
        name = "eager"

        @timer(interval=1, eager=True)
        def tick(self):
            pass

    for _ in range(60):
        with ServiceContainer(Eager, {"AMQP_URI": bus_url}, clock=clock):
            pass
    with ServiceContainer(Eager, {"AMQP_URI": bus_url}, clock=clock):
        clock.run(2, timeout=2)


def test_an_interval_that_floats_cannot_write_down(start, clock):
    """No time of the grid is missed, or comes twice, because of rounding."""
    times = []

    class Tenth:
        @timer(interval=0.1, eager=True)
        def tick(self):
            times.append(clock.monotonic())

    clock.advance(12345.678)
    start(Tenth)
    clock.run(100.05)
    assert times == [12345.678 + number * 0.1 for number in range(1001)]


def test_a_day_of_slow_calls(start, clock):
    """Calls that last longer than the interval neither overlap nor shift the grid."""
    times, running = [], []

    class Slow:
        @timer(interval=20)
        def tick(self):
            running.append(1)
            times.append((clock.monotonic(), len(running)))
            if len(times) % 7 == 0:
                clock.advance(50)
            running.pop()

    start(Slow)
    clock.run(DAY)
    expected, due = [], 20
    while due <= DAY:
        expected.append((float(due), 1))
        due += 60 if len(expected) % 7 == 0 else 20
    assert times == expected


def test_two_timers_of_a_service(start, clock):
    """Each has its own grid, and a clock that is run waits for both."""
    times = []

    class Two:
        @timer(interval=4)
        @timer(interval=6)
        def tick(self):
            times.append(clock.monotonic())

    start(Two)
    clock.run(24)
    assert sorted(times) == [4, 6, 8, 12, 12, 16, 18, 20, 24, 24]


def test_no_calls_overlap(start, clock):
    """What is due while a call lasts is left out; the next is on the grid again."""
    times, begun, may_end = [], threading.Semaphore(0), threading.Event()

    class Slow:
        @timer(interval=10)
        def tick(self):
            times.append(clock.monotonic())
            begun.release()
            may_end.wait(20)

    start(Slow)
    clock.await_sleepers()
    clock.advance(10)
    assert begun.acquire(timeout=20)
    clock.advance(37)
    may_end.set()
    clock.await_sleepers()
    assert times == [10]
    clock.advance(3)
    assert begun.acquire(timeout=20)
    assert times == [10, 50]


def test_eager(start, clock):
    """An eager timer calls at the start, too."""
    times, called = [], threading.Semaphore(0)

    class Eager:
        @timer(interval=10, eager=True)
        def tick(self):
            times.append(clock.monotonic())
            called.release()

    start(Eager)
    assert called.acquire(timeout=20)
    clock.await_sleepers()
    clock.advance(10)
    assert called.acquire(timeout=20)
    assert times == [0, 10]


def test_a_timer_by_cron(config, bus):
    """A line of cron says when; the clock of the wall counts."""
    clock = FakeClock(datetime(2026, 3, 2, 8, 59, 30).timestamp())
    times = []

    class Report:
        @timer(cron="0 9 * * mon-fri")
        def send(self):
            times.append(datetime.fromtimestamp(clock.time()))

    with ServiceContainer(Report, config, clock=clock):
        clock.run(7 * DAY + 60)
    assert times == [datetime(2026, 3, day, 9, 0) for day in (2, 3, 4, 5, 6, 9)]


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("day", "hours", "quarters", "half_past_two"),
    [
        (datetime(2026, 3, 28), 24, 96, ["02:30"]),
        (datetime(2026, 3, 29), 23, 92, ["03:30"]),
        (datetime(2026, 10, 25), 25, 100, ["02:30"]),
    ],
)
def test_a_day_on_which_clocks_are_changed(config, bus, day, hours, quarters, half_past_two):
    """Every hour means every real hour; a certain time comes once a day."""
    clock, seen = FakeClock(day.timestamp() - 1), {"quarter": [], "night": []}

    class Reports:
        @timer(cron="*/15 * * * *")
        def quarter(self):
            seen["quarter"].append(clock.time() - day.timestamp())

        @timer(cron="30 2 * * *")
        def night(self):
            seen["night"].append(f"{datetime.fromtimestamp(clock.time()):%H:%M}")

    with ServiceContainer(Reports, config, clock=clock):
        clock.run(hours * 3600)
    assert seen["quarter"] == [900.0 * number for number in range(quarters)]
    assert seen["night"] == half_past_two


def test_a_clock_that_is_put_back_a_little_makes_no_second_call(config, bus):
    """What was due is not due again when the wall clock is set right by a few seconds."""
    begin = datetime(2026, 3, 2, 8, 59).timestamp()
    clock, times = WanderingClock(begin), []

    class Report:
        @timer(cron="0 9 * * *")
        def send(self):
            times.append(datetime.fromtimestamp(clock.time()))
            clock.put_back(20)

    with ServiceContainer(Report, config, clock=clock):
        clock.run(DAY + 3600)
    assert times == [datetime(2026, 3, 2, 9), datetime(2026, 3, 3, 9)]


class WanderingClock(FakeClock):
    """A fake clock whose wall clock can be set, while its monotonic one goes on."""

    off = 0.0

    def put_back(self, seconds):
        self.off += seconds

    def time(self):
        return super().time() - self.off


def bound_timer(**options):
    """Return a timer of a service that is set up, and not run by an engine."""

    class Ticking:
        @timer(**options)
        def tick(self):
            """Nothing."""

    container = ServiceContainer(Ticking, {"AMQP_URI": f"memory://{uuid.uuid4().hex}"})
    (found,) = container.entrypoints
    found.setup()
    return found


def test_no_call_begins_after_a_stop():
    """A call that is due is not made when the stop has returned."""
    found = bound_timer(cron="0 9 * * *", eager=True)
    found.stop()
    assert list(found.produce()) == []


def test_a_stop_just_when_a_call_begins(monkeypatch):
    """The timer does not wait for a call that the stop has made pointless, at whatever moment."""
    found, is_over = bound_timer(interval=10, eager=True), threading.Event()

    class Stopping(Switch):
        def __init__(self):
            monkeypatch.undo()
            found.stop()

    def produce():
        yielded.extend(found.produce())
        is_over.set()

    yielded = []
    monkeypatch.setattr(timers, "Switch", Stopping)
    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        assert is_over.wait(5)
    finally:
        found.ack(0.0)
        thread.join(20)


def test_a_service_stops_while_its_timer_waits_or_its_call_lasts(start, clock):
    """A stop does not wait for the next time, and lets the call at hand end."""
    ended = []
    begun, may_end = threading.Event(), threading.Event()

    class Both:
        @timer(interval=1000)
        def idle(self):
            """Never called."""

        @timer(interval=10)
        def slow(self):
            begun.set()
            may_end.wait(20)
            ended.append(1)

    container = start(Both)
    clock.await_sleepers()
    clock.advance(10)
    assert begun.wait(20)
    container.request_stop()
    may_end.set()
    container.wait(20)
    assert ended == [1]


NO_TIMES = [
    {},
    {"interval": 0},
    {"interval": 1, "cron": "* * * * *"},
    *({"interval": wrong} for wrong in ("x", "5", True, float("nan"), timedelta(seconds=5), [1])),
]


@pytest.mark.parametrize("options", NO_TIMES)
def test_a_timer_is_told_when(options):
    """An interval or a line of cron, and not both."""
    with pytest.raises(ConfigError, match="timer"):
        timer(**options)


def test_once(start):
    """Called once, with what it was given, when the service has started."""
    called, done = [], threading.Event()

    class Boot:
        @once("a", key="b")
        def boot(self, first, key):
            called.append((first, key))
            done.set()

    container = start(Boot)
    assert done.wait(20)
    container.stop()
    assert called == [("a", "b")]
