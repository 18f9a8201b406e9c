"""What starts components in the order of their dependencies, and stops them in reverse."""

import asyncio
import contextlib
import inspect
import signal
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from typing import Any, NamedTuple, Self, TypeVar, overload

from m3.components.component import Component
from m3.components.drawing import Graph, snapshot
from m3.components.graph import Node, User, asked_of, build
from m3.components.lifecycle import Lifecycle
from m3.components.loops import CallersLoop, Home, LoopThread, result_of, run_here, running_loop
from m3.components.phases import HEALTH_TIMEOUT
from m3.components.policies import (
    ConfigPolicy,
    LoggingPolicy,
    ModuleLoggingPolicy,
    SimpleConfigPolicy,
)
from m3.components.resources import ABSENT, Resources
from m3.components.signals import handled, interruptible
from m3.components.supervision import Clock
from m3.components.tasks import has_ended, to_its_end
from m3.errors import (
    ComponentError,
    ComponentStateError,
    M3Error,
    ResourceError,
    UnknownNameError,
    describe,
)

__all__ = ("Busy", "Conductor")

T = TypeVar("T")


class Busy(NamedTuple):
    """
    A component in a call that goes on.

    Attributes:
        component: itself.
        phase: the method: ``setup`` or ``shutdown``.
        stack: where it is, as lines of a traceback.
    """

    component: Component
    phase: str
    stack: str


class Conductor:
    """
    Starts components and hands them to each other.

    Every method can be called in code without an event loop, where it blocks,
    and in code with one, where ``setup``, ``shutdown``, ``run``, ``serve`` and
    ``health`` return an awaitable.

    Args:
        config: becomes the ``config`` of every component.
        config_policy: says instead what becomes the ``config`` of which.
        logging_policy: says what becomes the ``logger`` of which.
        on_failure: called with the :exc:`~m3.errors.ComponentError` of a component that has
            failed in use for good, in the thread of the event loop, which it must not block.
    """

    def __init__(
        self,
        config: Any = None,
        *,
        config_policy: ConfigPolicy | Callable[[type], Any] | None = None,
        logging_policy: LoggingPolicy | Callable[[type], Any] | None = None,
        on_failure: Callable[[ComponentError], object] | None = None,
    ) -> None:
        if config_policy is None and config is not None:
            config_policy = SimpleConfigPolicy(config)
        self._config_policy = config_policy
        self._logging_policy = logging_policy or ModuleLoggingPolicy()
        self._on_failure = on_failure
        self._resources = Resources(self._make, self._adopt)
        self._users: list[User] = []
        self._clock = Clock()
        self._lock = threading.Lock()
        self._lifecycle: Lifecycle | None = None
        self._last: list[Node] | None = None
        self._is_stop_requested = False

    @overload
    def add(self, component: type[T], *, name: str | None = None) -> T: ...
    @overload
    def add(self, component: T, *, name: str | None = None) -> T: ...
    def add(self, component: Any, *, name: str | None = None) -> Any:
        """
        Add a class or an instance of components; return the instance.

        A class has one instance, however often it is added or needed.  With a
        *name*, it serves the attributes of that name, and may be one of several.
        """
        life = self._lifecycle
        if life is None:
            self._last = None
            return self._resources.add(component, name)
        is_asked_for = name is not None or isinstance(component, type)
        present = self._resources.get(name or component) if is_asked_for else component
        if not life.has(present):
            raise ComponentStateError(f"add({component!r}) after setup(); shut down before")
        return present

    def patch(self, component: Any, replacement: Any, *, for_bases: bool = False) -> None:
        """
        Use *replacement*, a class or an instance, wherever the class *component* is needed.

        Args:
            component: the class, or the name of an attribute.
            replacement: what is used in its place.
            for_bases: use it as well where a class is needed that it is an instance of, as what
                was added is used there.
        """
        if self._lifecycle is not None:
            raise ComponentStateError("patch() after setup(); shut down before")
        self._last = None
        self._resources.patch(component, replacement, for_bases=for_bases)

    def require(self, user: type, *, given: Collection[str] = (), threads: int = 0) -> None:
        """
        Have what *user* names by annotation set up, to :meth:`inject` it later.

        It is for classes whose instances are no resources, such as stages.

        Args:
            user: the class.
            given: the attributes that its instances have from elsewhere.
            threads: so many threads use what it names; with those of other users, this
                becomes the ``threads`` of these components, and of those that they need.
        """
        self._last = None
        self._users.append(User(user, given, threads))

    def inject(self, target: Any) -> list[str]:
        """
        Set the attributes of any object that its class names by annotation; return their names.

        An attribute that the object has already stays, and is not among them.

        Raises:
            ResourceError: an annotation does not say clearly what is needed, or it was not set up.
        """
        user, life = type(target), self._lifecycle
        present = {*getattr(target, "__dict__", ())}
        names = []
        for want, found in asked_of(user, target, self._resources, present):
            resource = self._resources.get(want.types[0]) if found is ABSENT else found
            is_up = life is None or life.has(resource)
            if not is_up and found is not ABSENT:
                raise ResourceError(
                    f"{user.__qualname__}.{want.attribute}: {resource!r} was not set up, for "
                    "nobody had asked for it; call require() with the class before setup()"
                )
            setattr(target, want.attribute, resource if is_up and resource is not ABSENT else None)
            names.append(want.attribute)
        return names

    def setup(self) -> Any:
        """
        Set up all that was added or is needed, each after what it needs.

        If one fails, or Ctrl-C is pressed, nothing further begins; when those in
        progress have ended, those that are up are shut down.  Here and everywhere,
        a method that takes longer than its time limit is given up.

        Raises:
            CircularDependencyError: components need each other in a circle.
            ResourceError: an annotation does not say clearly what is needed.
            ComponentError: a component failed; several as :exc:`~m3.errors.ConductorError`.
            ComponentStateError: it is set up already, or is shut down meanwhile.
        """
        return self._set_up_blocking() if running_loop() is None else self._set_up()

    def shutdown(self) -> Any:
        """
        Shut down what was set up, each after whoever needs it; nothing if there is none.

        One that fails keeps no other from being shut down, and neither does the end of
        ``asyncio.run()`` in the middle of it, which waits for all of them.

        Raises:
            ComponentStateError: a component's own method calls it, and is waited for; or the
                event loop of the setup, which another thread runs, was closed in the middle of it.
            ComponentError: one failed to, or has failed in use with nobody being told; several
                as :exc:`~m3.errors.ConductorError`.
        """
        return self._shut_down_blocking() if running_loop() is None else self._shut_down()

    def run(self, awaitable: Awaitable[T]) -> Any:
        """
        Set up, wait for *awaitable*, shut down, and return what it has returned.

        A component that fails for good cancels it.

        Raises:
            BaseException: what *awaitable* raises.
            ComponentError: as :meth:`setup` and :meth:`shutdown` do.
        """
        if running_loop() is not None:
            return self._run(awaitable)
        return run_here(interruptible(self._run(awaitable)), self._halt)

    def serve(self) -> Any:
        """
        Set up, wait for SIGINT, SIGTERM or :meth:`stop`, and shut down.

        Signals come to the main thread only; a second one is handled as if there
        were no conductor.  A component that fails for good ends it too.

        Raises:
            ComponentError: as :meth:`setup` and :meth:`shutdown` do.
        """
        return run_here(self._serve(), self.stop) if running_loop() is None else self._serve()

    def stop(self) -> None:
        """
        End :meth:`serve`, or have the next one end at once; returns immediately.

        It ends a start and :meth:`run` as well, whose awaitable is cancelled.  While
        components are up it is not kept for later.  It may be called in any thread and
        in a signal handler.
        """
        self._is_stop_requested = True
        self._halt()

    def health(self, timeout: float | None = HEALTH_TIMEOUT) -> Any:
        """
        Check all components at once; return by name what is wrong, or None.

        Args:
            timeout: seconds that each may take.

        Raises:
            ComponentStateError: it is not set up.
        """
        life = self._lifecycle
        if life is None:
            raise ComponentStateError("health() before setup()")
        checking = life.health(timeout)
        if running_loop() is None:
            return result_of(life.home.submit(checking))
        return _awaited_at(life.home, checking)

    def graph(self) -> Graph:
        """Return who needs whom and what each is about, in this run, the last, or the next."""
        if self._last is None:
            self._last = build(self._resources, self._users)
        return snapshot(self._last)

    def busy(self) -> list[Busy]:
        """Return which components are being set up or shut down, and where they are in that."""
        return [
            Busy(node.resource, phase, call.stack())
            for node in self._last or ()
            for phase, call in list(node.calls)
            if phase in ("setup", "shutdown") and not call.is_given_up
        ]

    def __getitem__(self, asked_for: Any) -> Any:
        """Return what a class or a name gets, or has in the graph."""
        found = self._resources.get(asked_for)
        if found is not ABSENT:
            return found
        for node in self._last or ():
            if node.name == asked_for:
                return node.resource
        name = asked_for if isinstance(asked_for, str) else asked_for.__qualname__
        raise UnknownNameError(f"the conductor has no {name}", name=name)

    def __enter__(self) -> Self:
        self._set_up_blocking()
        return self

    def __exit__(self, _: object, error: BaseException | None, *rest: object) -> None:
        with _noted_on(error):
            self._shut_down_blocking()

    async def __aenter__(self) -> Self:
        await self._set_up()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, *rest: object) -> None:
        with _noted_on(error):
            await self._shut_down()

    def _make(self, cls: type) -> Any:
        try:
            made = cls()
        except Exception as error:
            raise ComponentError(error, component=cls, phase="__init__") from error
        self._adopt(made)
        return made

    def _adopt(self, resource: Any) -> None:
        if not isinstance(resource, Component):
            return
        if self._config_policy is not None:
            resource.config = self._config_policy(type(resource))
        elif resource.config is None:
            resource.config = {}
        resource.logger = self._logging_policy(type(resource))

    def _begin(self, home: Home) -> Lifecycle:
        if self._lifecycle is not None:
            raise ComponentStateError("the conductor is set up already, or about to be")
        nodes = build(self._resources, self._users)
        life = Lifecycle(nodes, home, clock=self._clock, on_failure=self._on_failure)
        self._lifecycle, self._last = life, nodes
        return life

    def _halt(self) -> None:
        life = self._lifecycle
        if life is not None:
            life.request_halt()

    async def _start(self, life: Lifecycle) -> None:
        try:
            await life.start()
        except BaseException:
            self._end(life)
            raise

    async def _stop(self, life: Lifecycle) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):  # of a loop that ends; all is down
                await life.stop()
        finally:
            self._end(life)

    def _end(self, life: Lifecycle) -> None:
        with self._lock:
            if self._lifecycle is life:
                self._lifecycle = None
            if life.is_asked_to_end:
                self._is_stop_requested = False
        life.home.close()

    async def _set_up(self) -> Lifecycle:
        with self._lock:
            life = self._begin(CallersLoop())
        await self._start(life)
        return life

    def _set_up_blocking(self) -> None:
        home = LoopThread()
        try:
            with self._lock:
                life = self._begin(home)
                started = home.submit(self._start(life))
            result_of(started)
        except BaseException:
            current = self._lifecycle
            if current is not None and current.home is home:  # Ctrl-C came in this thread
                with contextlib.suppress(M3Error):
                    self._shut_down_blocking()
            home.close()
            home.join()
            raise

    async def _shut_down(self) -> None:
        life = self._lifecycle
        if life is None:
            return
        life.refuse_from_within()
        try:
            stopping = _awaited_at(life.home, self._stop(life))
        except ComponentStateError:  # another thread has shut down
            life.home.join()
            return
        try:
            await to_its_end(stopping)
        finally:
            life.home.join()

    def _shut_down_blocking(self) -> None:
        life = self._lifecycle
        if life is None:
            return
        life.refuse_from_within()
        try:
            stopped = life.home.submit(self._stop(life))
        except ComponentStateError:  # another thread has shut down
            return
        try:
            result_of(stopped)
        finally:
            if stopped.done():  # which Ctrl-C does not wait for; it goes on in the other thread
                life.home.join()

    async def _run(self, awaitable: Awaitable[T]) -> T:
        error: BaseException | None = None
        try:
            life = await self._set_up()
        except BaseException:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            raise
        try:
            return await _accompanied(awaitable, life)
        except BaseException as raised:
            error = raised
            raise
        finally:
            with _noted_on(error):
                await self._shut_down()

    async def _serve(self) -> None:
        life, failure = None, None
        try:
            with handled((signal.SIGINT, signal.SIGTERM), self.stop):
                with self._lock:
                    life = self._begin(CallersLoop())
                if self._is_stop_requested:
                    life.request_halt()
                await self._start(life)
                failure = await life.end()
        except ComponentStateError:
            if life is None:  # it is set up already; else it was asked to end before all were up
                raise
        finally:
            if life is None:
                self._is_stop_requested = False
            else:
                await self._shut_down()
        if failure is not None:
            raise failure


def _awaited_at(home: Home, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """Return an awaitable for *coroutine*, which runs at *home*, or here if that has ended."""
    if home.loop is asyncio.get_running_loop() or not home.loop.is_running():
        return coroutine
    return asyncio.wrap_future(home.submit(coroutine))


async def _accompanied(awaitable: Awaitable[T], life: Lifecycle) -> T:
    """Return what *awaitable* returns, or cancel it when the components are to end."""
    task = asyncio.ensure_future(awaitable)
    end = asyncio.ensure_future(life.end())
    try:
        await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        for unfinished in (task, end):
            unfinished.cancel()
            await has_ended(unfinished)
    await life.stop()
    raise end.result() or ComponentStateError("the conductor was shut down while it ran")


@contextlib.contextmanager
def _noted_on(error: BaseException | None) -> Iterator[None]:
    """Let what is raised here be a note on *error*, if there is one already."""
    try:
        yield
    except M3Error as raised:
        if error is None:
            raise
        error.add_note(f"and the components, when they were shut down: {describe(raised)}")
