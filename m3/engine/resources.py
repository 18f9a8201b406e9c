"""What the stages are given: set up before any of them, shut down after all have ended."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import RLock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from m3.components.annotations import Unresolved, wants
from m3.components.graph import reachable
from m3.components.resources import is_component_class
from m3.engine.functions import asker_of, is_function, kept_from, with_needs
from m3.engine.plan import Plan, StageSpec
from m3.engine.pools import Pool
from m3.engine.runtime import Runtime
from m3.engine.shape import shape_of
from m3.engine.waits import Waits
from m3.errors import (
    ComponentError,
    ComponentStateError,
    ComponentTimeoutError,
    ConductorError,
    M3Error,
    StageError,
)

if TYPE_CHECKING:
    from m3.components.conductor import Conductor

__all__ = (
    "Checked",
    "Resources",
    "all_users",
    "components_of",
    "conductor_of",
    "conductor_with",
    "errors_of",
    "mistakes_in_resources",
    "user_of",
)


class Checked(NamedTuple):
    """
    What a component has told of itself.

    Attributes:
        name: of the component.
        component: the component.
        error: what is wrong; None if it works.
    """

    name: str
    component: Any
    error: Exception | None


class Resources:
    """
    The resources of a run: what its stages name by annotation, and what that needs in turn.

    A conductor starts and stops them.  A run whose stages ask for nothing has none.

    Args:
        plan: whose stages get them.
        runtime: makes the thread in which they are set up.
        errors: those of the run, to which is added what goes wrong.
        fail: called with the error of a component that has failed for good while in use.
        waits: those of who waits until they are up, or down, or have failed to be.

    Attributes:
        are_up: whether all are set up.
    """

    def __init__(
        self,
        plan: Plan,
        runtime: Runtime,
        errors: list[M3Error],
        fail: Callable[[ComponentError], object],
        waits: Waits,
    ) -> None:
        self.are_up = False
        self._plan = plan
        self._runtime = runtime
        self._errors = errors
        self._fail = fail
        self._waits = waits
        self._patches: dict[type | str, Any] = {}
        self._conductor: Conductor | None = None
        self._thread: Thread | None = None
        self._at_work: set[object] = set()
        self._lock = RLock()
        self._is_halted = self._is_over = self._is_stopping = False
        self._is_given_up = self._are_late = False
        self._supplied: list[tuple[Any, list[str]]] = []

    def patch(self, asked_for: type | str, replacement: Any) -> None:
        """Give *replacement* wherever a class, or an attribute of that name, is asked for."""
        self._patches[asked_for] = replacement

    def start(self, pools: list[Pool]) -> None:
        """Begin to set up what the stages of *pools* ask for."""
        is_given = bool(self._plan.resources or self._patches)
        if not is_given and not any(_asks(spec) for spec in self._plan):
            self.are_up = True
            return
        self._conductor = self._conducting(pools)
        self._spawn(self._set_up, up=True)

    def _set_up(self) -> None:
        """Set them up, unless they are to be down by now."""
        assert self._conductor is not None
        if not self._is_over:
            self._conductor.setup()
        if self._is_over:  # the shutdown may have come before there was anything to shut down
            self._conductor.shutdown()

    def supply(self, instance: Any) -> Any:
        """Return a stage's *instance*, or its function, with what it asks for."""
        if self._conductor is None:
            return instance
        if is_function(instance):
            needs = asker_of(instance)()
            vars(needs).update(dict.fromkeys(kept_from(instance)))
            names = self._conductor.inject(needs)
            return with_needs(instance, {name: getattr(needs, name) for name in names})
        self._supplied.append((instance, self._conductor.inject(instance)))
        return instance

    def health(self, seconds: float) -> list[Checked]:
        """
        Ask all components at once how they are; blocks as long as one of them takes.

        Args:
            seconds: that each may take.

        Raises:
            ComponentStateError: they are not up.
        """
        conductor = self._conductor
        if conductor is None:
            return []
        found = conductor.health(seconds)
        return [Checked(name, conductor[name], error) for name, error in found.items()]

    def halt(self) -> None:
        """Set up nothing further; a signal handler may call it."""
        self._is_halted = not self.are_up
        if self._conductor is not None:
            self._conductor.stop()

    def stop(self) -> None:
        """Begin to shut them down; does nothing the second time."""
        with self._lock:
            self._is_over = True
            if self._conductor is None or self._is_stopping:
                return
            self._take_back()
            try:
                self._spawn(self._conductor.shutdown, up=False)
            except RuntimeError as error:  # there can be no further thread, so it is this one
                self._errors.append(StageError(error, stage="resources", worker=0))
                self._errors += errors_of(self._conductor.shutdown)
            self._is_stopping = True  # not before: it may be cut short, and called again

    def shut_down(self) -> None:
        """Shut them down, as :meth:`stop` and :meth:`settle` do."""
        self.stop()
        self.settle()

    def settle(self) -> None:
        """Wait until none is being set up or shut down, as long as there is time."""
        if not self._waits.until(lambda: not self._at_work):
            self.give_up()
        elif self._thread is not None:
            self._thread.join()  # it has nothing more to do

    def give_up(self) -> None:
        """
        Note as failures those that are still being set up or shut down.

        Only the first time: a shutdown that begins after that is not late.
        """
        with self._lock:
            if self._conductor is None or self._is_given_up:
                return
            late = [
                ComponentTimeoutError(
                    component=busy.component,
                    phase=busy.phase,
                    seconds=self._waits.deadline.seconds,
                    stack=busy.stack,
                )
                for busy in self._conductor.busy()
            ]
            self._errors += late
            self._is_given_up, self._are_late = True, bool(late)

    def _spawn(self, act: Callable[[], object], *, up: bool) -> None:
        errors: list[M3Error] = []

        def body() -> None:
            errors.extend(each for each in errors_of(act) if not self._is_asked_for(each))

        def end(error: BaseException | None) -> None:
            if error is not None:
                errors.append(StageError(error, stage="resources", worker=0))
            self.are_up = up and not (errors or self._is_halted or self._is_stopping)
            if not self._are_late:  # else they are told of already
                self._errors += errors
            errors.clear()
            self._at_work.discard(body)
            self._waits.tell()

        self._at_work.add(body)
        try:
            self._thread = self._runtime.spawn(body, "m3-resources", end)
        except BaseException:
            self._at_work.discard(body)
            raise

    def _is_asked_for(self, error: M3Error) -> bool:
        """Tell whether all that is wrong is that a stop came before all were up."""
        return self._is_halted and isinstance(error, ComponentStateError)

    def _take_back(self) -> None:
        """Take from instances that outlive the run what they were given for it."""
        while self._supplied:
            instance, names = self._supplied.pop()
            for name in names:
                with suppress(AttributeError):  # another worker's turn, or the stage's own cleanup
                    delattr(instance, name)

    def _conducting(self, pools: list[Pool]) -> "Conductor":
        conductor = conductor_with(self._plan.resources, self._fail)
        for asked_for, replacement in self._patches.items():
            conductor.patch(asked_for, replacement)
        for pool in pools:
            for spec in pool.specs:
                threads = _threads(spec, pool)
                conductor.require(user_of(spec.target), given=_given_to(spec), threads=threads)
        return conductor


def conductor_with(
    given: Mapping[type | str, Any], on_failure: Callable[[ComponentError], object] | None = None
) -> "Conductor":
    """Return a conductor that has what is *given* for classes and for names."""
    from m3.components.conductor import Conductor

    conductor = Conductor(on_failure=on_failure)
    for asked_for, resource in given.items():
        if isinstance(asked_for, str):
            conductor.add(resource, name=asked_for)
        else:
            conductor.patch(asked_for, resource, for_bases=True)
    return conductor


def conductor_of(plan: Plan) -> "Conductor":
    """Return a conductor of what the stages of *plan* ask for; nothing is started."""
    conductor = conductor_with(plan.resources)
    for spec in plan:
        conductor.require(user_of(spec.target), given=_given_to(spec))
    return conductor


def mistakes_in_resources(plan: Plan) -> list[M3Error]:
    """Return why the stages of *plan* cannot be given what they ask for; nothing is started."""
    if not plan.resources and not any(map(_asks, plan)):
        return []
    return errors_of(lambda: conductor_of(plan).graph())


def components_of(cls: type) -> Iterator[tuple[str, type]]:
    """Iterate over the components that a class asks for: the attribute, and its class."""
    for want in wants(cls).values():
        yield from ((want.attribute, kind) for kind in want.types if is_component_class(kind))


def all_users(users: Iterable[type]) -> Iterable[type]:
    """Return *users*, and the components that they ask for, and those that these ask for."""
    return reachable(users, lambda cls: [kind for _, kind in components_of(cls)])


def errors_of(act: Callable[[], object]) -> list[M3Error]:
    """Call *act* and return what m3's exceptions it raises, each by itself."""
    try:
        act()
    except ConductorError as group:
        return list(group.exceptions)  # type: ignore[arg-type]  # they are, whatever its type says
    except M3Error as error:
        return [error]
    return []


def _asks(spec: StageSpec) -> bool:
    """Tell whether a stage names a component, or something that cannot be resolved."""
    asked_for = (kind for want in wants(user_of(spec.target)).values() for kind in want.types)
    return any(is_component_class(kind) or isinstance(kind, Unresolved) for kind in asked_for)


def user_of(target: object) -> type:
    """Return the class whose annotations say what a stage asks for, by the target of the stage."""
    if is_function(target):
        return asker_of(target)
    return target if isinstance(target, type) else type(target)


def _given_to(spec: StageSpec) -> Collection[str]:
    """Return the attributes that the stage's instances have from elsewhere."""
    if is_function(spec.target):
        return kept_from(spec.target)
    is_object = not isinstance(spec.target, type)
    return {*spec.options, *(getattr(spec.target, "__dict__", ()) if is_object else ())}


def _threads(spec: StageSpec, pool: Pool) -> int:
    return pool.head.workers * (spec.concurrency if shape_of(spec).is_async else 1)
