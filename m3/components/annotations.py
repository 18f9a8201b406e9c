"""What a class asks for: its annotations, read and resolved."""

import sys
import types
from collections.abc import Iterator, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    ForwardRef,
    NamedTuple,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from m3._scopes import names_around
from m3.components.component import Component
from m3.stages import Stage

__all__ = ("Unresolved", "Want", "wants")

UNIONS = (Union, types.UnionType)

Variables = Mapping[Any, tuple[Any, ...]]
"""For each variable of types, those that it stands for."""


class Unresolved(NamedTuple):
    """
    An annotation that names what cannot be found.

    Attributes:
        text: the annotation as it was written.
        error: what was raised when it was looked for.
        advice: what to do, if that is something special: the beginning of a sentence.
    """

    text: str
    error: Exception
    advice: str = ""


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
    A variable of types is what *cls* and its bases say where they name a base.
    """
    variables = _variables(cls)
    found: dict[str, Want] = {}
    for owner in reversed(cls.__mro__):
        if owner in (Component, Stage):  # whose attributes are given by m3 itself
            continue
        for attribute, annotation in _own_annotations(owner).items():
            found.pop(attribute, None)
            value = _evaluated(annotation, owner)
            if get_origin(value) is ClassVar or value is ClassVar:
                continue
            members = tuple(_members(value, owner, variables.get(owner, {})))
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


def _variables(cls: type) -> dict[Any, dict[Any, tuple[Any, ...]]]:
    """Return what the variables of each generic class stand for that *cls* inherits from."""
    found: dict[Any, dict[Any, tuple[Any, ...]]] = {}
    for heir in cls.__mro__:  # each comes before its bases
        for base in vars(heir).get("__orig_bases__", ()):
            origin = get_origin(base)
            parameters = getattr(origin, "__parameters__", ())
            given = _given(parameters, get_args(base), heir, found.get(heir, {}))
            found[origin] = {**given, **found.get(origin, {})}
    return found


def _given(
    parameters: Any, arguments: Any, owner: type, variables: Variables
) -> dict[Any, tuple[Any, ...]]:
    """Return what each of *parameters* stands for; nothing if they are of a variable number."""
    if len(parameters) != len(arguments):
        return {}
    members = (tuple(_members(argument, owner, variables)) for argument in arguments)
    return dict(zip(parameters, members, strict=True))


def _members(annotation: Any, owner: type, variables: Variables) -> Iterator[Any]:
    """Yield the types that *annotation* lets an attribute have."""
    value = _evaluated(annotation, owner)
    origin = get_origin(value)
    if origin is Annotated or origin is Final:
        yield from _members(get_args(value)[0], owner, variables)
    elif origin in UNIONS:
        for member in get_args(value):
            yield from _members(member, owner, variables)
    elif _is_alias(value):
        yield from _members(_aliased(value), owner, variables)
    elif _is_alias(origin):
        given = _given(origin.__type_params__, get_args(value), owner, variables)
        yield from _members(_aliased(origin), owner, {**variables, **given})
    elif isinstance(value, TypeVar):
        yield from variables.get(value) or _of_no_argument(value, owner, variables)
    elif isinstance(value, NewType):
        yield from _members(value.__supertype__, owner, variables)
    elif value is None:
        yield types.NoneType
    else:
        yield value if origin is None else origin


def _is_alias(value: Any) -> bool:
    """Return whether it was made by ``type Name = ...``, which there is since CPython 3.12."""
    return type(value).__name__ == "TypeAliasType"


def _aliased(alias: Any) -> Any:
    return _read(alias, "__value__")


def _read(named: Any, attribute: str) -> Any:
    """Return an attribute that is evaluated when it is read, or :class:`Unresolved`."""
    try:
        return getattr(named, attribute)
    except Exception as error:
        return Unresolved(named.__name__, error)


def _of_no_argument(variable: Any, owner: type, variables: Variables) -> Iterator[Any]:
    """Yield what a variable is that no class says a type for."""
    if getattr(variable, "has_default", bool)():  # since CPython 3.13
        yield from _members(_read(variable, "__default__"), owner, variables)
        return
    limits = (_read(variable, "__bound__"), *variable.__constraints__)
    members = [member for limit in limits for member in _members(limit, owner, variables)]
    if any(isinstance(member, type) and issubclass(member, Component) for member in members):
        error = TypeError(f"nothing says which component {variable} stands for")
        name = owner.__qualname__
        advice = f"Say it where a class inherits from {name}: class Name({name}[TheComponent]); or"
        yield Unresolved(variable.__name__, error, advice)
    else:
        yield variable


def _evaluated(annotation: Any, owner: type) -> Any:
    """Return *annotation*, where it is text the value of that, or :class:`Unresolved`."""
    if isinstance(annotation, ForwardRef):
        if sys.version_info >= (3, 14):  # where it knows more than its text
            return _value_of(annotation, owner)
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(owner.__module__)
    parameters = {each.__name__: each for each in getattr(owner, "__type_params__", ())}
    around = {**(vars(module) if module else {}), **names_around(owner)}
    names = {**around, **parameters, **vars(owner)}
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
