"""Methods that are called from time to time."""

from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

from m3._parking import Switch
from m3.errors import ConfigError
from m3.messaging import Bus
from m3.services.clock import Alarm, Clock
from m3.services.cron import Cron
from m3.services.entrypoints import DecoratorDependency
from m3.services.turns import Turns
from m3.stages import Item

__all__ = ("SingletonTimer", "Timer", "timer")

LONGEST_SLEEP = 60.0
"""Seconds after which a timer of the wall clock looks at it again, for it may have jumped."""

SMALL_STEP = 60.0
"""By so many seconds a clock may be put back, and nothing is due again."""


class Timer(DecoratorDependency):
    """
    A method that is called at certain times; use it as ``@timer(...)``.

    The times are on a grid, so they do not drift; a call that is due while the one
    before it lasts is left out, so none overlap.  It runs in each process that runs
    the service, unless ``@timer(..., singleton=True)`` makes a :class:`SingletonTimer` of it.

    Args:
        interval: seconds between two calls.
        cron: instead, the times as a line of cron: see :mod:`m3.services.cron`.
        eager: whether the first call is at the start, and not after the first interval.
        options: as of :class:`DecoratorDependency`.

    Raises:
        ConfigError: not just one of *interval* and *cron* is given, or it is none.
    """

    acks_anywhere = True

    def __init__(
        self,
        interval: float | None = None,
        *,
        cron: str | None = None,
        eager: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if (interval is None) == (cron is None):
            raise ConfigError("timer: give it an interval in seconds, or a line of cron")
        if interval is not None and not _is_time(interval):
            raise ConfigError(f"timer(interval={interval!r}): it is a number of seconds, over 0")
        self.interval = interval
        self.cron = None if cron is None else Cron(cron)
        self.eager = eager

    @classmethod
    def decorator(cls, *args: Any, singleton: bool = False, **options: Any) -> Any:
        """Return the decorator; *singleton* makes it one of a :class:`SingletonTimer`."""
        chosen = SingletonTimer if singleton else cls
        return super(Timer, chosen).decorator(*args, **options)

    def trigger(self) -> Mapping[str, Any]:
        """Return the interval, or the line of cron."""
        times = {"interval": self.interval} if self.cron is None else {"cron": self.cron.text}
        return {**times, "eager": self.eager}

    def setup(self) -> None:
        """Begin to count."""
        self._clock: Clock = self.srv_ctx.clock
        self._alarm: Alarm = self._clock.alarm()
        self._free = Switch()
        self._is_stopped = False

    def produce(self) -> Iterator[Item]:
        """Yield a call when one is due and the last one has ended."""
        for due in self._times():
            if self._is_stopped:
                return
            if self._is_its_turn(due):
                yield self._tick(due)
                self._free.wait()

    def stop(self) -> None:
        """Make no more calls."""
        self._is_stopped = True
        self._alarm.cancel()
        self._free.turn_on()

    def cleanup(self) -> None:
        """Leave no alarm behind: a run that is stopped between two calls does not call stop."""
        self._alarm.cancel()

    def ack(self, _: float) -> None:
        """Take note that the call has ended."""
        self._free.turn_on()

    def nack(self, *_: Any) -> None:
        """Take note that the call has ended; the next one is made all the same."""
        self._free.turn_on()

    def _is_its_turn(self, _: float) -> bool:
        return True

    def _tick(self, due: float) -> Item:
        self._free = Switch()
        if self._is_stopped:  # just now, when the switch was the one before
            self._free.turn_on()
        return Item(self.call(), due)

    def _times(self) -> Iterator[float]:
        """Yield each time when it has come."""
        if self.cron is None:
            return self._by_interval()
        return self._by_the_wall(self.cron.next_due)

    def _by_interval(self) -> Iterator[float]:
        assert self.interval is not None
        start, number = self._clock.monotonic(), 0 if self.eager else 1
        while self._alarm.wait(due := start + number * self.interval):
            yield due
            number = max(number, int((self._clock.monotonic() - start) // self.interval)) + 1

    def _by_the_wall(self, next_due: Callable[[float], float]) -> Iterator[float]:
        due = self._clock.time()
        if not self.eager:
            due = next_due(due)
        while True:
            while (left := due - self._clock.time()) > 0:
                if not self._alarm.wait(self._clock.monotonic() + min(left, LONGEST_SLEEP)):
                    return
            yield due
            now = self._clock.time()
            due = next_due(due if now < due < now + SMALL_STEP else now)


class SingletonTimer(Timer):
    """
    A timer that calls once in the cluster: ``@timer(..., singleton=True)``.

    The times are those of the wall clock, and multiples of *interval* since 1970, so they
    are the same for all instances of the service that are on one bus.  One of the instances
    makes the calls; when its process is gone, another one does from the next time on.
    An eager call is made by an instance that starts when none leads.

    Attributes:
        bus: what the instances are on.
    """

    bus: Bus

    def trigger(self) -> Mapping[str, Any]:
        """Return that, and that it is one for all instances."""
        return {**super().trigger(), "singleton": True}

    def setup(self) -> None:
        """Begin to count."""
        super().setup()
        self._turns = Turns(self.bus, self._name())

    def stop(self) -> None:
        """Make no more calls; another instance may, when the one at hand has ended."""
        super().stop()
        self._turns.stop()

    def cleanup(self) -> None:
        """Let another instance make them."""
        super().cleanup()
        self._turns.close()

    def _is_its_turn(self, due: float) -> bool:
        return self._turns.take(due)

    def _times(self) -> Iterator[float]:
        return self._by_the_wall(self._next_due if self.cron is None else self.cron.next_due)

    def _next_due(self, now: float) -> float:
        assert self.interval is not None
        due = (now // self.interval + 1) * self.interval
        return due if due > now else due + self.interval

    def _name(self) -> str:
        """Return what its queues are called; a method may have several timers."""
        siblings = [
            each
            for each in self.srv_ctx.container.entrypoints
            if isinstance(each, SingletonTimer) and each.method_name == self.method_name
        ]
        number = next(at for at, each in enumerate(siblings, start=1) if each is self)
        suffix = "" if number == 1 else f"-{number}"
        return f"timer-{self.srv_ctx.name}-{self.method_name}{suffix}"


def _is_time(interval: object) -> bool:
    """Return whether *interval* is a number of seconds between calls."""
    is_number = isinstance(interval, Real) and not isinstance(interval, bool)
    return is_number and interval > 0  # type: ignore[operator]


timer = Timer.decorator
