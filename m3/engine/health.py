"""How a run is, for those who ask often and want an answer soon."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from m3._parking import Switch
from m3._shown import one_line
from m3.errors import M3Error, StageError, describe

if TYPE_CHECKING:
    from m3.engine.engine import Engine
    from m3.engine.runtime import Runtime

__all__ = ("Condition", "Examine", "Examiner", "Health", "why_not_live", "why_not_ready")

Condition = Literal["starting", "ready", "draining", "stopped", "failed"]

PATIENCE = 2.0
"""Seconds that an answer may take."""

CHECK_TIMEOUT = 1.5
"""Seconds that each component has to tell how it is, so that the others' answers are not lost."""

FRESH = 1.0
"""Seconds for which the answers of components hold."""

NO_ANSWER = {"components": f"no answer within {PATIENCE:g} s"}

Components = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Health:
    """
    How a pipeline or a service is.

    Attributes:
        name: of the pipeline or the service.
        state: ``"starting"`` until all is set up, then ``"ready"``; ``"draining"`` from the
            beginning of a stop to its end, then ``"stopped"``; or ``"failed"``.
        in_flight: how many items, or calls, are under way.
        components: by name, what is wrong with each component, or None; empty if they were
            not asked. The bus of a service is called ``"bus"``.
        errors: what it has failed with.
        hung: why it counts as hung; None if it does not.
    """

    name: str
    state: Condition
    in_flight: int = 0
    components: Components = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    hung: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether it gets on; if not, it is better started anew."""
        return not self.why_not_live()

    @property
    def is_ready(self) -> bool:
        """Whether it can be given work."""
        return not self.why_not_ready()

    def why_not_live(self) -> list[str]:
        """Return why it does not get on."""
        failed = ["failed", *self.errors] if self.state == "failed" else []
        return failed if self.hung is None else [*failed, self.hung]

    def why_not_ready(self) -> list[str]:
        """Return why it cannot be given work."""
        state = [self.state] if self.state not in ("ready", "failed") else []
        unwell = [f"{name}: {error}" for name, error in self.components.items() if error]
        return [*state, *self.why_not_live(), *unwell]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data that JSON can hold, without the name."""
        return {
            "state": self.state,
            "in_flight": self.in_flight,
            "components": dict(self.components),
            "errors": list(self.errors),
            "hung": self.hung,
        }


def why_not_live(found: Mapping[str, Health]) -> list[str]:
    """Return why a process with these parts is better started anew; empty if it gets on."""
    return [f"{name}: {why}" for name, health in found.items() for why in health.why_not_live()]


def why_not_ready(found: Mapping[str, Health]) -> list[str]:
    """Return why a process with these parts cannot be given work."""
    return [f"{name}: {why}" for name, health in found.items() for why in health.why_not_ready()]


class Examine(Protocol):
    """A function that tells of one or several pipelines or services how they are."""

    def __call__(self, *, checked: bool) -> Mapping[str, Health]:
        """Return that by their names; if *checked*, after asking the components."""


class Examiner:
    """
    Tells how the run of an engine is, however many threads ask.

    Args:
        engine: whose run.
        called: returns what a component is called, from the conductor's name for it, and itself.
    """

    def __init__(
        self, engine: "Engine", *, called: Callable[[str, Any], str] = lambda name, _: name
    ) -> None:
        self._engine = engine
        self._called = called
        self._checks = Checks(self._check, engine.runtime)

    def begin(self) -> None:
        """Have the components asked; :meth:`examine` waits for the rest of the time only."""
        if self._condition() == "ready":
            self._checks.begin()

    def examine(self, *, checked: bool = True) -> Health:
        """
        Return how the run is.

        Args:
            checked: whether to ask the components, if it is ready: each for its ``health``, at
                most once in a second. That takes up to two seconds; without it, nothing blocks.
        """
        is_asked = checked and self._condition() == "ready"
        components = self._checks.latest() if is_asked else {}
        state = self._condition()  # which may have changed meanwhile
        return Health(
            self._engine.plan.name,
            state,
            self._engine.report().in_flight,
            components if state == "ready" else {},
            errors=tuple(map(_told, self._engine.failures.all())),
        )

    def _condition(self) -> Condition:
        state = self._engine.state
        if state == "failed" or self._engine.failures.all():
            return "failed"
        if state == "stopping":
            return "draining"
        if state == "running" and any(worker.may_work for worker in list(self._engine.workers)):
            return "ready"
        return "stopped" if state == "finished" else "starting"

    def _check(self) -> Components:
        found: dict[str, str | None] = {}
        for name, component, error in self._engine.resources.health(CHECK_TIMEOUT):
            called = self._called(name, component)
            found[name if called in found else called] = None if error is None else _told(error)
        return found


class Checks:
    """
    What a check has found, made when it is asked for, and good for a moment.

    There is one check at a time, in a thread of its own; whoever asks meanwhile waits for it.
    """

    def __init__(self, check: Callable[[], Components], runtime: "Runtime") -> None:
        self._check = check
        self._runtime = runtime
        self._lock = threading.Lock()
        self._round: Round | None = None

    def begin(self) -> "Round":
        """Have a check begin, unless there is one or its result still holds."""
        with self._lock:
            now = self._runtime.monotonic()
            current = self._round
            if current is None or current.is_stale(now):
                current = Round(now)
                current.begin(self._check, self._runtime)
                self._round = current
            return current

    def latest(self) -> Components:
        """Return what was found; blocks for as long as a check may take at most."""
        current = self.begin()
        left = current.began + PATIENCE - self._runtime.monotonic()
        return current.wait(max(0.0, left))


class Round:
    """One check."""

    def __init__(self, now: float) -> None:
        self.began = now
        self._over = Switch()
        self._found: Components = NO_ANSWER
        self._thread: threading.Thread | None = None
        self._ended = now

    def is_stale(self, now: float) -> bool:
        """Return whether it has ended so long ago that another one is due."""
        return self._over.is_on() and now - self._ended >= FRESH

    def begin(self, check: Callable[[], Components], runtime: "Runtime") -> None:
        """Check in a thread."""

        def make() -> None:
            self._found = check()

        def end(error: BaseException | None) -> None:
            if error is not None:
                self._found = {"components": _told(error)}
            self._ended = runtime.monotonic()
            self._over.turn_on()

        self._thread = runtime.spawn(make, "m3-checks", end)

    def wait(self, seconds: float) -> Components:
        """Return what was found; blocks for its end, so many seconds at most."""
        if not self._over.wait(seconds):
            return NO_ANSWER
        assert self._thread is not None
        self._thread.join()
        return self._found


def _told(error: BaseException) -> str:
    """Return the first line of an error, as anybody may see it: without the item."""
    if isinstance(error, StageError):
        text = f"stage {error.stage!r}, worker {error.worker}: {describe(error.error)}"
    else:
        text = str(error) if isinstance(error, M3Error) else describe(error)
    return one_line(text.partition("\n")[0])
