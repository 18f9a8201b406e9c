"""What a class asks for: its annotations, read and resolved."""

import sys
import types
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    ForwardRef,
    NamedTuple,
    Union,
    get_args,
    get_origin,
)

from m3._scopes import names_around
from m3.components.component import Component
from m3.stages import Stage

__all__ = ("Unresolved", "Want", "wants")

UNIONS = (Union, types.UnionType)


class Unresolved(NamedTuple):
    """
    An annotation that names what cannot be found.

    Attributes:
        text: the annotation as it was written.
        error: what was raised when it was looked for.
    """

    text: str
    error: Exception


class Want(NamedTuple):
    """
    One annotation of a class.

    Attributes:
        attribute: the name.
        types: what may stand there; several for a union, without None.
        optional: whether None may.
        owner: the class in whose body it is written.
    """

    attribute: str
    types: tuple[Any, ...]
    optional: bool
    owner: type


def wants(cls: type) -> dict[str, Want]:
    """
    Return what *cls* and its bases annotate, by attribute.

    A class comes before its bases, so an annotation can be overridden.
    Annotations may be text, whole or in parts.  Class variables are left out.
    """
    found: dict[str, Want] = {}
    for owner in reversed(cls.__mro__):
        if owner in (Component, Stage):  # whose attributes are given by m3 itself
            continue
        for attribute, annotation in _own_annotations(owner).items():
            found.pop(attribute, None)
            value = _evaluated(annotation, owner)
            if get_origin(value) is ClassVar or value is ClassVar:
                continue
            members = tuple(_members(value, owner))
            required = tuple(member for member in members if member is not types.NoneType)
            found[attribute] = Want(attribute, required, len(required) < len(members), owner)
    return found


def _own_annotations(owner: type) -> dict[str, Any]:
    """Return the annotations in the body of *owner*, evaluated as far as its Python does it."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF)
    annotations = vars(owner).get("__annotations__", {})
    return annotations if isinstance(annotations, dict) else {}


def _members(annotation: Any, owner: type) -> Iterator[Any]:
    """Yield the types that *annotation* lets an attribute have."""
    value = _evaluated(annotation, owner)
    origin = get_origin(value)
    if origin is Annotated or origin is Final:
        yield from _members(get_args(value)[0], owner)
    elif origin in UNIONS:
        for member in get_args(value):
            yield from _members(member, owner)
    elif type(value).__name__ == "TypeAliasType":  # of ``type Name = ...``, since CPython 3.12
        yield from _members(_aliased(value), owner)
    elif value is None:
        yield types.NoneType
    else:
        yield value if origin is None else origin


def _aliased(alias: Any) -> Any:
    try:
        return alias.__value__
    except Exception as error:
        return Unresolved(alias.__name__, error)


def _evaluated(annotation: Any, owner: type) -> Any:
    """Return *annotation*, where it is text the value of that, or :class:`Unresolved`."""
    if isinstance(annotation, ForwardRef):
        if sys.version_info >= (3, 14):  # where it knows more than its text
            return _value_of(annotation, owner)
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(owner.__module__)
    names = {**(vars(module) if module else {}), **names_around(owner), **vars(owner)}
    try:
        value = eval(annotation, names)  # noqa: S307  # as typing.get_type_hints() does
    except Exception as error:
        return _unresolved(annotation, error)
    return _evaluated(value, owner)


def _value_of(reference: Any, owner: type) -> Any:
    try:
        return _evaluated(reference.evaluate(owner=owner), owner)
    except Exception as error:
        return _unresolved(reference.__forward_arg__, error)


def _unresolved(text: str, error: Exception) -> Any:
    if text.replace("typing.", "").replace("t.", "").startswith("ClassVar"):
        return ClassVar
    return Unresolved(text, error)
