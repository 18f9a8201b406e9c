"""Stages that are functions, and what they ask for: by their keyword-only parameters."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter
from types import FunctionType
from typing import Any

from m3._scopes import remember_names_around

__all__ = ("asker_of", "is_function", "kept_from", "with_needs")

ASKER = "_m3_asker"
"""The attribute of a function that has the class made for it."""


def is_function(target: object) -> bool:
    """Return whether *target* is a function, also one that is bound, partial or wrapped."""
    return isinstance(_innermost(target), FunctionType)


def asker_of(target: object) -> type:
    """
    Return a class whose annotations are those of the keyword-only parameters of a function.

    It is always the same, so annotations that are text are read in the function in which the
    first of the threads that ask has made it.
    """
    function = _innermost(target)
    asker: type | None = vars(function).get(ASKER)
    if asker is None:
        asker = _made_for(function)
        setattr(function, ASKER, asker)
    return asker


def kept_from(target: object) -> set[str]:
    """Return the keyword-only parameters that have a value already, or that a wrapper gives."""
    kept: set[str] = set()
    while isinstance(target, partial):
        kept |= target.keywords.keys()
        target = target.func
    taken = inspect.signature(target, follow_wrapped=False).parameters  # type: ignore[arg-type]
    if any(each.kind is Parameter.VAR_KEYWORD for each in taken.values()):
        return kept
    return kept | (_keyword_only(_innermost(target)) - taken.keys())


def with_needs(target: Callable[..., Any], needs: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a function that is called with *needs*, too."""
    return partial(target, **needs) if needs else target


def _innermost(target: Any) -> Any:
    """Return the function that a bound, partial or wrapped one comes down to."""
    while True:
        if isinstance(target, partial):
            target = target.func
        elif inspect.ismethod(target):
            target = target.__func__
        elif inspect.isfunction(target) and hasattr(target, "__wrapped__"):
            target = target.__wrapped__
        else:
            return target


def _keyword_only(function: FunctionType) -> set[str]:
    code = function.__code__
    return {*code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]}


def _made_for(function: FunctionType) -> type:
    needs = _keyword_only(function)
    annotations = {name: kind for name, kind in function.__annotations__.items() if name in needs}
    body = {
        "__annotations__": annotations,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
    }
    asker = type(function.__name__, (), body | (function.__kwdefaults__ or {}))
    remember_names_around(asker)
    return asker
