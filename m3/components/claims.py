"""Which component is in use, and where: in one graph at a time."""

import threading
from collections.abc import Iterable
from typing import Any, Protocol

from m3.errors import ComponentStateError

__all__ = ("Place", "claim", "hold", "place_of", "release")


class Place(Protocol):
    """Where a component is in use."""

    resource: Any


_lock = threading.Lock()
_places: dict[int, Any] = {}
"""By the id of the component; the place refers to it, so no other can have that id."""
_holds: dict[int, int] = {}
"""How many reasons there are for each place to be kept."""


def claim(places: Iterable[Place]) -> None:
    """
    Take the components of all *places* into use, or none.

    Raises:
        ComponentStateError: one is in use already.
    """
    wanted = {id(place.resource): place for place in places}
    with _lock:
        for taken in wanted.keys() & _places.keys():
            raise ComponentStateError(
                f"{wanted[taken].resource!r} is in use already: set up by another conductor, or "
                "still in a call that was given up; an instance is in use once at a time"
            )
        _places.update(wanted)
        _holds.update(dict.fromkeys(wanted, 1))


def hold(place: Place) -> None:
    """Keep the claim of *place* for one more release."""
    with _lock:
        _holds[id(place.resource)] += 1


def release(place: Place) -> None:
    """Give up the claim of *place*, when nothing else holds it."""
    key = id(place.resource)
    with _lock:
        if _places.get(key) is not place:
            return
        _holds[key] -= 1
        if not _holds[key]:
            del _places[key], _holds[key]


def place_of(component: object) -> Any:
    """Return the place of a component, or None while it is not in use."""
    return _places.get(id(component))
