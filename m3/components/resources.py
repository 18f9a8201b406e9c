"""What a conductor was given, and which of it an annotation gets."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from m3.components.annotations import Unresolved, Want, wants
from m3.components.component import Component
from m3.errors import ComponentStateError, ResourceError, describe

__all__ = ("ABSENT", "Resources", "is_below", "is_component_class")

ABSENT: Final = object()
"""No resource is meant by an annotation, or an optional one is not there."""

NO_NAMES_OF_RESOURCES = {"builtins", "collections.abc", "contextlib", "numbers", "os", "typing"}
"""The types of these modules are too general to mean one certain object."""


class Resources:
    """
    What was added and patched, and the one instance of each class.

    Args:
        make: makes an instance of a class.
        adopt: called with each instance that was made elsewhere, when it is added.
    """

    def __init__(self, make: Callable[[type], Any], adopt: Callable[[Any], None]) -> None:
        self._make = make
        self._adopt = adopt
        self._added: list[Any] = []
        self._named: dict[str, Any] = {}
        self._patches: dict[Any, Any] = {}
        self._for_bases: list[Any] = []
        self._instances: dict[type, Any] = {}
        self._making = threading.RLock()  # making one may add others

    def add(self, resource: Any, name: str | None = None) -> Any:
        """Add a class or an instance; return the instance, of a class always the same."""
        if name is not None:
            return self._add_named(resource, name)
        if not isinstance(resource, type):
            self._adopt(resource)
        if not any(resource is added for added in self._added):
            self._added.append(resource)
        return self._current(resource)

    def _add_named(self, resource: Any, name: str) -> Any:
        with self._making:
            known = self._named.get(name)
            if known is None:
                self._named[name] = known = self._instance(resource)
        if known is not resource and type(known) is not resource:
            raise ComponentStateError(f"there is a resource named {name!r} already: {known!r}")
        return known

    def patch(self, asked_for: Any, replacement: Any, *, for_bases: bool = False) -> None:
        """
        Use *replacement*, a class or an instance, wherever a class, or a name, is asked for.

        With *for_bases*, it is one of those that may be meant by a class above its own.
        """
        if not isinstance(replacement, type):
            self._adopt(replacement)
        self._patches[asked_for] = replacement
        if for_bases:
            self._for_bases.append(asked_for)

    def roots(self) -> list[Any]:
        """Return the instances of what was added, as it is patched now."""
        return [*map(self._current, self._added), *self.named().values()]

    def named(self) -> dict[str, Any]:
        """Return what was added with a name, as it is patched now."""
        return {
            name: self._replacement(name) if name in self._patches else resource
            for name, resource in self._named.items()
        }

    def get(self, asked_for: Any) -> Any:
        """Return what a class or a name gets, or :data:`ABSENT`."""
        if asked_for in self._patches:
            return self._replacement(asked_for)
        if isinstance(asked_for, str):
            return self._named.get(asked_for, ABSENT)
        found = self._added_instance(asked_for, f"conductor[{asked_for.__qualname__}]")
        return self._instances.get(asked_for, ABSENT) if found is ABSENT else found

    def find(self, want: Want, place: str) -> Any:
        """
        Return what belongs to *want*, or :data:`ABSENT`.

        Raises:
            ResourceError: nothing fits, or several do; *place* says where it was asked for.
        """
        if want.attribute in self._patches:
            return self._replacement(want.attribute)
        if want.attribute in self._named:
            return self._by_name(want, place)
        if len(want.types) != 1:
            return _no_union_of_components(want, place)
        asked_for = want.types[0]
        if not isinstance(asked_for, type):
            return ABSENT
        if asked_for in self._patches:
            return self._replacement(asked_for)
        found = self._added_instance(asked_for, place)
        if found is ABSENT and not want.optional and is_component_class(asked_for):
            return self._of_class(asked_for)
        return found

    def _by_name(self, want: Want, place: str) -> Any:
        resource = self._named[want.attribute]
        if not any(_is_one(resource, asked_for) for asked_for in want.types):
            asked = " | ".join(map(_shown, want.types))
            raise ResourceError(
                f"{place} asks for {asked}, and the resource of that name is {resource!r}: "
                "give it another name, or change the annotation"
            )
        return resource

    def _added_instance(self, asked_for: type, place: str) -> Any:
        """Return the only added instance of a class: of itself, or else of one below it."""
        if asked_for.__module__ in NO_NAMES_OF_RESOURCES:
            return ABSENT
        given = [*self.roots(), *self._given_below(asked_for)]
        candidates = [each for each in given if _is_one(each, asked_for)]
        exact = [root for root in candidates if type(root) is asked_for]
        unnamed = [root for root in exact if self._is_unnamed(root)]
        fitting = unnamed or exact or [root for root in candidates if not _asks(root, asked_for)]
        if len({id(root) for root in fitting}) > 1:
            raise ResourceError(
                f"{place} asks for {asked_for.__qualname__}, and several resources are one: "
                f"{', '.join(self._listed(fitting))}; give the one that is meant that name"
            )
        return fitting[0] if fitting else ABSENT

    def _given_below(self, asked_for: type) -> Iterator[Any]:
        for below in self._for_bases:
            replacement = self._patches[below]
            kind = replacement if isinstance(replacement, type) else type(replacement)
            if is_below(kind, asked_for):
                yield self._instance_once(replacement)

    def _is_unnamed(self, resource: Any) -> bool:
        return not any(resource is named for named in self.named().values())

    def _listed(self, resources: list[Any]) -> Iterator[str]:
        names = {id(resource): name for name, resource in self.named().items()}
        for resource in resources:
            name = names.get(id(resource))
            yield repr(resource) if name is None else f"{name!r} ({type(resource).__qualname__})"

    def _replacement(self, asked_for: Any) -> Any:
        return self._instance_once(self._patches[asked_for])

    def _current(self, added: Any) -> Any:
        """Return the instance for something added: for a class, as it is patched now."""
        if isinstance(added, type) and added in self._patches:
            return self._replacement(added)
        return self._instance_once(added)

    def _of_class(self, cls: type) -> Any:
        if cls not in self._instances:
            with self._making:
                if cls not in self._instances:
                    self._instances[cls] = self._make(cls)
        return self._instances[cls]

    def _instance_once(self, resource: Any) -> Any:
        return self._of_class(resource) if isinstance(resource, type) else resource

    def _instance(self, resource: Any) -> Any:
        if isinstance(resource, type):
            return self._make(resource)
        self._adopt(resource)
        return resource


def is_component_class(value: Any) -> bool:
    """Return whether *value* is a class of components."""
    return isinstance(value, type) and issubclass(value, Component)


def _no_union_of_components(want: Want, place: str) -> Any:
    if any(map(is_component_class, want.types)):
        raise ResourceError(
            f"{place} asks for {' | '.join(map(_shown, want.types))}: name one class there, "
            "and patch it where it is to be another"
        )
    return ABSENT


def _asks(resource: Any, asked_for: type) -> bool:
    """Return whether *resource* itself asks for a certain class, so that it wraps one."""
    return isinstance(resource, Component) and any(
        asked_for in want.types for want in wants(type(resource)).values()
    )


def _is_one(resource: Any, asked_for: Any) -> bool:
    """Return whether *resource* is an instance, as far as that can be found out."""
    if not isinstance(asked_for, type):
        return not isinstance(asked_for, Unresolved)
    try:
        return isinstance(resource, asked_for)
    except TypeError:  # of a protocol that is not checkable at run time
        return True


def is_below(kind: type, asked_for: type) -> bool:
    """Return whether a class is another one or below it, as far as that can be found out."""
    try:
        return issubclass(kind, asked_for)
    except TypeError:  # of a protocol that has more than methods
        return False


def _shown(asked_for: Any) -> str:
    if isinstance(asked_for, Unresolved):
        return f"{asked_for.text} ({describe(asked_for.error)})"
    return asked_for.__qualname__ if isinstance(asked_for, type) else str(asked_for)
