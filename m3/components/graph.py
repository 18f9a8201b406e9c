"""Who needs whom: the resources of a conductor as a graph, in an order to start them in."""

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from m3.components.annotations import Unresolved, Want, wants
from m3.components.calls import Call
from m3.components.component import Component
from m3.components.resources import ABSENT, Resources, is_component_class
from m3.errors import CircularDependencyError, ResourceError, describe

__all__ = ("Node", "State", "User", "asked_of", "build", "reachable")

T = TypeVar("T")

State = Literal["waiting", "starting", "started", "failed", "stopping", "stopped"]
"""What a resource of a conductor is about."""


@dataclass(slots=True, eq=False)
class Node:
    """
    A resource in a graph.

    Attributes:
        resource: the component, or any other object.
        name: one of its own in the graph.
        depends_on: by attribute, what it needs; None where an optional one is absent.
        dependents: who needs it.
        state: what it is about.
        is_up: whether it was set up, and not shut down since.
        seconds: how long its last setup took.
        error: why it could not be set up, or has failed.
        calls: of its methods, those that go on, and those that were given up, with their phase.
        on_failure: called, in any thread, with why it has failed in use.
    """

    resource: Any
    name: str = ""
    depends_on: dict[str, "Node | None"] = field(default_factory=dict, repr=False)
    dependents: list["Node"] = field(default_factory=list, repr=False)
    state: State = "waiting"
    is_up: bool = False
    seconds: float | None = None
    error: Exception | None = None
    calls: list[tuple[str, Call]] = field(default_factory=list, repr=False)
    on_failure: Callable[[BaseException], None] | None = None

    def hangs_in(self, phases: Iterable[str]) -> bool:
        """Return whether a call in one of these phases was given up, and has not ended yet."""
        return any(
            phase in phases and call.is_given_up and not call.has_ended
            for phase, call in self.calls
        )

    @property
    def needs(self) -> list["Node"]:
        """What it depends on, each once."""
        return list(dict.fromkeys(node for node in self.depends_on.values() if node is not None))


def reachable(starts: Iterable[T], needs_of: Callable[[T], Iterable[T]]) -> set[T]:
    """Return *starts* and everything that they need, directly or not."""
    found: set[T] = set()
    waiting = list(starts)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += needs_of(one)
    return found


class User(NamedTuple):
    """
    A class whose instances are no resources, and get some.

    Attributes:
        cls: the class.
        given: the attributes that its instances have from elsewhere.
        threads: how many threads use what it names.
    """

    cls: type
    given: Collection[str] = ()
    threads: int = 0


def build(resources: Resources, users: list[User]) -> list[Node]:
    """
    Return all that was added and all that is needed, each after what it needs.

    Each component is told how many threads of the users have it, directly or not.

    Args:
        resources: what was added.
        users: whose needs are in the graph, too.

    Raises:
        CircularDependencyError: components need each other in a circle.
        ResourceError: an annotation does not say clearly what is needed, or a method would not run.
        ComponentError: a component could not be made.
    """
    building = _Building(resources)
    for resource in resources.roots():
        building.node(resource)
    used = [
        [
            building.node(found)
            for _, found in asked_of(user.cls, user.cls, resources, user.given)
            if found is not ABSENT
        ]
        for user in users
    ]
    nodes = building.finish()
    _name(nodes, resources)
    ordered = _in_order(nodes)
    _count_threads(users, used)
    return ordered


def _count_threads(users: list[User], used: list[list[Node]]) -> None:
    threads: Counter[Node] = Counter()
    for user, nodes in zip(users, used, strict=True):
        for node in reachable(nodes, lambda node: node.needs):
            threads[node] += user.threads
    for node, count in threads.items():
        if count and isinstance(node.resource, Component):
            node.resource.threads = count


def asked_of(
    cls: type, target: object, resources: Resources, given: Collection[str] = ()
) -> Iterator[tuple[Want, Any]]:
    """
    Yield what a class asks for, each with the resource, or ABSENT for an absent optional one.

    Args:
        cls: the class.
        target: an instance of it, or itself; where it has a value, an annotation need not resolve.
        resources: where to look.
        given: the attributes that it has from elsewhere.
    """
    for want in wants(cls).values():
        if want.attribute in given:
            continue
        place = f"{want.owner.__qualname__}.{want.attribute}"
        found = resources.find(want, place)
        if found is not ABSENT or (want.optional and any(map(is_component_class, want.types))):
            yield want, found
        else:
            _refuse_unresolved(want, place, target)


def _refuse_unresolved(want: Want, place: str, target: object) -> None:
    unresolved = next((kind for kind in want.types if isinstance(kind, Unresolved)), None)
    if unresolved is not None and not hasattr(target, want.attribute):
        usual = "If it is a resource, import or define that name where the class is; if not,"
        raise ResourceError(
            f"{place}: its annotation {unresolved.text!r} cannot be resolved in module "
            f"{want.owner.__module__} ({describe(unresolved.error)}). {unresolved.advice or usual} "
            f"give the attribute a value, as {want.attribute} = None"
        ) from unresolved.error


def _refuse_generators(cls: type) -> None:
    for phase in ("setup", "shutdown", "health"):
        method = getattr(cls, phase)
        is_generator = inspect.isgeneratorfunction(method) and not _is_awaitable_generator(method)
        if is_generator or inspect.isasyncgenfunction(method):
            raise ResourceError(
                f"{cls.__qualname__}.{phase}() has a yield, so that calling it does nothing: make "
                "it a plain method or an async def one, without a yield"
            )


def _is_awaitable_generator(method: Any) -> bool:
    """Return whether a generator function was made to be awaited, by ``types.coroutine``."""
    code = getattr(method, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


class _Building:
    """Nodes for resources, and for what these need, and so on."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._nodes: dict[int, Node] = {}
        self._unvisited: list[Node] = []
        self._optional: list[tuple[Node, Want]] = []

    def node(self, resource: Any) -> Node:
        """Return the node of a resource."""
        node = self._nodes.get(id(resource))
        if node is None:
            self._nodes[id(resource)] = node = Node(resource)
            self._unvisited.append(node)
        return node

    def finish(self) -> list[Node]:
        """Follow all dependencies; return the nodes, in the order in which they were found."""
        while self._unvisited:
            node = self._unvisited.pop(0)
            if isinstance(node.resource, Component):
                self._visit(node)
        for node, want in self._optional:
            present = self._resources.get(want.types[0])
            self._connect(node, want, self._nodes.get(id(present)))
        return list(self._nodes.values())

    def _visit(self, node: Node) -> None:
        resource = node.resource
        _refuse_generators(type(resource))
        for want, found in asked_of(type(resource), resource, self._resources):
            if found is ABSENT:
                self._optional.append((node, want))
            else:
                self._connect(node, want, self.node(found))

    def _connect(self, node: Node, want: Want, needed: Node | None) -> None:
        node.depends_on[want.attribute] = needed
        if needed is not None and node not in needed.dependents:
            needed.dependents.append(node)


def _name(nodes: list[Node], resources: Resources) -> None:
    """Give each node a name that no other has."""
    taken: dict[str, Node] = {}
    given = {id(resource): name for name, resource in resources.named().items()}
    for node in sorted(nodes, key=lambda node: id(node.resource) not in given):
        cls = type(node.resource)
        name = given.get(id(node.resource), cls.__name__)
        if name in taken:
            name = f"{cls.__module__}.{cls.__name__}"
        number = 2
        while name in taken:
            name, number = f"{cls.__module__}.{cls.__name__}-{number}", number + 1
        node.name = name
        taken[name] = node


def _in_order(nodes: list[Node]) -> list[Node]:
    """Return *nodes*, each after those that it needs."""
    ordered: dict[Node, None] = {}
    for root in nodes:
        path: dict[Node, Iterator[Node]] = {root: iter(root.needs)}
        while path:
            node = next(reversed(path))
            following = next((need for need in path[node] if need not in ordered), None)
            if following is None:
                ordered[node] = None
                del path[node]
            elif following in path:
                raise CircularDependencyError(*(on_it.resource for on_it in (*path, following)))
            else:
                path[following] = iter(following.needs)
    return list(ordered)
