"""Components that fail while they are in use: found out, and started again."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m3.components.graph import Node
from m3.components.phases import check, set_up, shut_down
from m3.components.tasks import has_ended, steady, undisturbed
from m3.errors import ComponentError
from m3.policies import Backoff

__all__ = ("Clock", "Supervisor")


class Clock:
    """The time as supervision sees it; a test can put another one in its place."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)


class Supervisor:
    """
    Looks after components while they are in use.

    Args:
        nodes: the components.
        clock: tells the time.
        give_up: called with the error of a component that has failed for good.

    Attributes:
        unhandled: failures that came before :meth:`start` or after :meth:`stop`.
    """

    def __init__(
        self, nodes: list[Node], clock: Clock, give_up: Callable[[ComponentError], object]
    ) -> None:
        self.unhandled: list[ComponentError] = []
        self._nodes = nodes
        self._clock = clock
        self._give_up = give_up
        self._series: dict[Node, _Series] = {}
        self._handling: dict[Node, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._is_active = False

    def start(self) -> None:
        """Begin, when all are set up."""
        self._is_active = True
        for node in self._nodes:
            if node.resource.health_interval is not None:
                self._watching.append(asyncio.ensure_future(self._watch(node)))
        early, self.unhandled = self.unhandled, []
        by_resource = {id(node.resource): node for node in self._nodes}
        for failure in early:
            self.fail(by_resource[id(failure.component)], failure)

    async def stop(self) -> None:
        """End, when a restart in progress has ended."""
        self._is_active = False
        tasks = [*self._watching, *self._handling.values()]
        tasks = [task for task in tasks if not task.get_loop().is_closed()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            await has_ended(task)

    def fail(self, node: Node, failure: ComponentError) -> None:
        """Look after a component that has failed."""
        if not self._is_active and node.state in ("starting", "started"):
            self.unhandled.append(failure)
        elif not self._is_active:
            node.resource.logger.warning("%s, while it was %s", failure, node.state)
        elif node in self._handling:
            node.resource.logger.warning("%s, and it has failed before", failure)
        else:
            self._handling[node] = asyncio.ensure_future(self._handle(node, failure))

    async def _watch(self, node: Node) -> None:
        while True:
            await self._clock.sleep(node.resource.health_interval)
            if node.state == "started":
                failure: Any = await undisturbed(asyncio.ensure_future(check(node)))
                if failure is not None:
                    self.fail(node, failure)

    async def _handle(self, node: Node, failure: ComponentError) -> None:
        node.state = "failed"
        node.error = failure
        node.resource.logger.error("%s", failure, exc_info=failure.error)
        last: ComponentError | None = failure
        if node.resource.restart == "on_failure":
            last = await self._restart(node, failure)
        if last is None:
            del self._handling[node]
        else:
            self._give_up(last)

    async def _restart(self, node: Node, failure: ComponentError) -> ComponentError | None:
        """Shut a component down and set it up until that works; return why it is given up."""
        component = node.resource
        series = self._series.setdefault(node, _Series(component.backoff))
        while True:
            delay = series.delay_after_failure(self._clock.monotonic())
            await undisturbed(steady(shut_down(node)))
            node.state = "failed"
            if delay is None:
                failure.add_note(f"given up after {series.failures} failures in a row")
                return failure
            component.logger.warning("%r is set up again in %.1f s", component, delay)
            await self._clock.sleep(delay)
            error: Any = await undisturbed(asyncio.ensure_future(set_up(node)))
            if error is None:
                series.up_since = self._clock.monotonic()
                return None
            failure = error


@dataclass(slots=True)
class _Series:
    """
    The failures of a component, one soon after the other.

    One that comes when it has worked for the longest time of its backoff begins anew.
    """

    backoff: Backoff
    failures: int = 0
    since: float = 0.0
    up_since: float | None = None

    def delay_after_failure(self, now: float) -> float | None:
        """Count a failure; return how long to wait, or None to give up."""
        if self.up_since is not None and now - self.up_since > self.backoff.maximum:
            self.failures = 0
        self.up_since = None
        if not self.failures:
            self.since = now
        self.failures += 1
        delay = self.backoff.delay_after(self.failures)
        most = self.backoff.max_elapsed
        return None if most is not None and now + delay - self.since > most else delay
