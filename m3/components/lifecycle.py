"""From the setup to the shutdown of a graph of resources, on one event loop."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from m3.components import claims
from m3.components.calls import calls_around
from m3.components.component import Component
from m3.components.graph import Node
from m3.components.loops import POLL, Home
from m3.components.phases import check, set_up, shut_down
from m3.components.supervision import Clock, Supervisor
from m3.components.tasks import Outcome, has_ended, steady, to_its_end, undisturbed
from m3.errors import ComponentError, ComponentStateError, ConductorError

__all__ = ("Lifecycle",)


class Lifecycle:
    """
    One time in use of the resources of a conductor.

    Making it claims the components: none can be in use twice at once.

    Args:
        nodes: the resources, each after those that it needs.
        home: where :meth:`start` will run, and all else unless that has ended.
        clock: for whoever is supervised.
        on_failure: called with the error of a component that has failed in use for good;
            without it, :meth:`stop` raises these.

    Attributes:
        is_asked_to_end: whether :meth:`request_halt` was called.

    Raises:
        ComponentStateError: a component is in use already.
    """

    def __init__(
        self,
        nodes: list[Node],
        home: Home,
        *,
        clock: Clock,
        on_failure: Callable[[ComponentError], object] | None,
    ) -> None:
        self.is_asked_to_end = False
        self.nodes = nodes
        self.home = home
        self.components = [node for node in nodes if isinstance(node.resource, Component)]
        self._on_failure = on_failure
        self._supervisor = Supervisor(self.components, clock, self._give_up)
        self._errors: list[Exception] = []
        self._is_halted = False
        self._ending = asyncio.Event()
        self._failure: ComponentError | None = None
        self._starting: asyncio.Task[Outcome] | None = None
        self._lock = threading.Lock()
        self._stops_in: asyncio.AbstractEventLoop | None = None
        self._stopped: concurrent.futures.Future[None] = concurrent.futures.Future()
        claims.claim(self.components)

    async def start(self) -> None:
        """
        Set up all; if one fails, shut down those that were set up, and raise.

        When cancelled, it does that too, as soon as those in progress have ended.

        Raises:
            ComponentError: it failed; several, also in the shutdown, as :exc:`ConductorError`.
            ComponentStateError: :meth:`stop` or :meth:`halt` was called meanwhile.
        """
        for node in self.components:
            node.on_failure = partial(self._report, node)
        self._starting = steady(self._start())
        try:
            outcome = await undisturbed(self._starting, self.halt)
        except asyncio.CancelledError:
            if self._starting.result().error is None:  # it was too late for a halt
                await self.stop()
            raise
        outcome.get()

    def request_halt(self) -> None:
        """Have :meth:`halt` called; may be called in any thread, and in a signal handler."""
        self.is_asked_to_end = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, so it has ended
            self.home.loop.call_soon_threadsafe(self.halt)

    def halt(self) -> None:
        """End it: nothing further begins to start, and coroutines that do are cancelled."""
        self._is_halted = True
        if self.home.loop.is_closed():  # in the middle of it, perhaps, and nobody waits there
            return
        self._ending.set()
        for node in self.components:
            if node.state == "starting":
                for _, call in node.calls:
                    call.cancel()

    async def end(self) -> ComponentError | None:
        """Wait for :meth:`halt`, :meth:`stop`, or a failure in use for good, and return that."""
        await self._ending.wait()
        return self._failure

    def refuse_from_within(self) -> None:
        """
        Refuse to wait for the end in code that is waited for until then.

        Raises:
            ComponentStateError: a method of one of its components has called this.
        """
        around = calls_around()
        for node in self.components if around else ():
            for phase, call in list(node.calls):
                if call in around and not call.is_given_up:
                    raise ComponentStateError(
                        f"shutdown() in {phase}() of {node.name} would wait for itself; stop() "
                        "ends a start, run() and serve(), and returns at once"
                    )

    def has(self, resource: object) -> bool:
        """Return whether *resource* is one of its own."""
        return any(node.resource is resource for node in self.nodes)

    async def stop(self) -> None:
        """
        Shut down what was set up, each after whoever needs it; the end of a start if there is one.

        Further calls wait for the end of the first, which may run in another event loop.
        Whoever is cancelled, it comes to its end.

        Raises:
            ComponentError: a shutdown failed; several as :exc:`ConductorError`.  Only the
                first call raises.
        """
        if not self._is_first() and await self._was_stopped():
            return
        try:
            self.halt()
            await to_its_end(self._stop())
        finally:
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # another took over
                self._stopped.set_result(None)

    async def health(self, seconds: float | None) -> dict[str, Exception | None]:
        """Check all components at once, each for so many seconds; return what is wrong."""
        found = await asyncio.gather(*(check(node, seconds) for node in self.components))
        return {node.name: error for node, error in zip(self.components, found, strict=True)}

    async def _start(self) -> None:
        await _in_order(self.nodes, lambda node: node.needs, self._set_up)
        if not self._is_halted:
            self._supervisor.start()
            return
        await self._shut_down_all()
        self._raise("could not be set up")
        raise ComponentStateError("the conductor was shut down while it was being set up")

    async def _set_up(self, node: Node) -> None:
        if self._is_halted:
            return
        is_well = await self._is_well("setup", node, set_up(node))
        if not is_well:
            node.state = "failed"
        if not (is_well and node.is_up):
            self._is_halted = True

    def _is_first(self) -> bool:
        """Return whether it is this event loop that stops; or if the one that did was closed."""
        with self._lock:
            before = self._stops_in
            is_first = before is None or (before.is_closed() and not self._stopped.done())
            if is_first:
                self._stops_in = asyncio.get_running_loop()
        return is_first

    async def _was_stopped(self) -> bool:
        """Wait for the end of the stop in another loop; False if it is up to this one now."""
        stopped = asyncio.wrap_future(self._stopped)
        while not await has_ended(stopped, POLL):
            if self._is_first():
                return False
        return True

    async def _stop(self) -> None:
        starting = self._starting
        if not (starting is None or starting.done() or starting.get_loop().is_closed()):
            await has_ended(starting)
            return
        await self._shut_down_all()
        self._raise("failed")

    async def _shut_down_all(self) -> None:
        await self._supervisor.stop()
        await _in_order(self.nodes[::-1], lambda node: node.dependents, self._shut_down)
        self._errors += self._supervisor.unhandled
        for node in self.components:
            node.on_failure = None
            claims.release(node)

    async def _shut_down(self, node: Node) -> None:
        if node.state == "stopping":
            cause = ComponentStateError("its event loop was closed in the middle of it")
            self._errors.append(ComponentError(cause, component=node.resource, phase="shutdown"))
        await self._is_well("shutdown", node, shut_down(node))

    async def _is_well(self, phase: str, node: Node, act: Awaitable[ComponentError | None]) -> bool:
        """Return whether nothing went wrong, and keep what did, whatever it was."""
        try:
            error = await act
        except Exception as raised:  # of a property, or a logger
            error = ComponentError(raised, component=node.resource, phase=phase)
        if error is not None:
            self._errors.append(error)
        return error is None

    def _report(self, node: Node, error: BaseException) -> None:
        """Have a failure in use looked after; may be called in any thread."""
        failure = ComponentError(error, component=node.resource, phase="use")
        self.home.loop.call_soon_threadsafe(self._supervisor.fail, node, failure)

    def _give_up(self, error: ComponentError) -> None:
        """Take note of a failure in use that no restart has mended."""
        self._failure = self._failure or error
        if self._on_failure is None:
            self._errors.append(error)
        else:
            try:
                self._on_failure(error)
            except Exception as raised:
                self._errors += [error, raised]
        self._ending.set()

    def _raise(self, what: str) -> None:
        errors, self._errors = self._errors, []
        if len(errors) > 1:
            raise ConductorError(f"{len(errors)} components {what}", errors)
        if errors:
            raise errors[0]


async def _in_order(
    nodes: Iterable[Node],
    before: Callable[[Node], list[Node]],
    act: Callable[[Node], Awaitable[Any]],
) -> None:
    """Act on all nodes at once, but on each only after those before it."""
    tasks: dict[Node, asyncio.Task[Outcome]] = {}

    async def wait_and_act(node: Node) -> None:
        for earlier in before(node):
            await has_ended(tasks[earlier])
        await act(node)

    for node in nodes:
        tasks[node] = steady(wait_and_act(node))
    for task in tasks.values():
        await has_ended(task)
        task.result().get()
