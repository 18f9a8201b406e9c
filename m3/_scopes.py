"""
The names that the annotations of a class could see where the class was made.

Annotations as text are evaluated long after: when components are set up.  What
a module defines is there still; what a function had defined is not, so it is
remembered with the class.
"""

import builtins
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, ForwardRef, get_args

__all__ = ("names_around", "remember_names_around")

_ATTRIBUTE = "_m3_names_around"


def remember_names_around(cls: type) -> None:
    """
    Keep what the annotations of *cls* need of the function that it is made in.

    It is called while the class is made.  Names that the function has not
    defined yet are looked up in its frame later; only then is that kept.
    """
    function, is_local, _ = cls.__qualname__.rpartition(".<locals>.")
    if not is_local:
        return
    names = {name for annotation in _own_annotations(cls) for name in _names(annotation)}
    frame = _frame_of(function, cls.__module__) if names else None
    if frame is None:
        return
    seen = frame.f_locals
    found = {name: seen[name] for name in names if name in seen}
    elsewhere = (vars(cls), frame.f_globals, vars(builtins))
    missing = [n for n in names - found.keys() if not any(n in space for space in elsewhere)]
    setattr(cls, _ATTRIBUTE, (found, frame if missing else None))


def names_around(cls: type) -> Mapping[str, Any]:
    """Return what was kept for *cls*, and what its function has defined since."""
    found, frame = vars(cls).get(_ATTRIBUTE, ({}, None))
    return found if frame is None else {**frame.f_locals, **found}


def _own_annotations(cls: type) -> list[Any]:
    annotations = vars(cls).get("__annotations__")
    return list(annotations.values()) if isinstance(annotations, dict) else []


def _names(annotation: Any) -> Iterator[str]:
    """Yield the names in an annotation that is text, or has parts that are."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            constants = compile(annotation, "<annotation>", "eval")
        except (SyntaxError, ValueError):
            return
        yield from constants.co_names
        for constant in constants.co_consts:  # as in "Optional['Database']"
            if isinstance(constant, str) and constant != annotation:
                yield from _names(constant)
    else:
        for part in get_args(annotation):
            yield from _names(part)


def _frame_of(function: str, module: str) -> FrameType | None:
    """Return the frame of that function which is making a class."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_qualname == function and frame.f_globals.get("__name__") == module:
            return frame
        frame = frame.f_back
    return None
