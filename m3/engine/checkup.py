"""Whether the resources of a plan work, each tried by itself."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from m3.components.graph import reachable
from m3.engine.plan import Plan
from m3.engine.resources import conductor_of, conductor_with, errors_of

if TYPE_CHECKING:
    from m3.components.conductor import Conductor

__all__ = ("Finding", "check_up")


class Finding(NamedTuple):
    """
    What came of trying one resource.

    Attributes:
        name: of the resource.
        kind: the name of its class.
        errors: what is wrong; empty if it works.
        seconds: how long it took to set it up, check it and shut it down.
    """

    name: str
    kind: str
    errors: list[Exception]
    seconds: float


def check_up(plan: Plan) -> Iterator[Finding]:
    """
    Set up each resource of *plan* with what it needs, check its health, and shut it down.

    No stage is made.  Blocks as long as the components' time limits allow.

    Raises:
        ResourceError: an annotation does not say clearly what is needed.
        CircularDependencyError: components need each other in a circle.
    """
    whole = conductor_of(plan)
    needs = {node.name: node.needs for node in whole.graph().nodes}
    for name in needs:
        resource = whole[name]
        with_it = reachable([name], needs.__getitem__)
        given = {
            asked_for: other
            for asked_for, other in plan.resources.items()
            if not isinstance(asked_for, str) or asked_for in with_it
        }
        conductor = conductor_with(given)
        conductor.add(resource)
        began = time.monotonic()
        errors = _tried(conductor)
        yield Finding(name, type(resource).__qualname__, errors, time.monotonic() - began)


def _tried(conductor: "Conductor") -> list[Exception]:
    """Return what is wrong with the resources of a conductor."""
    unhealthy: list[Exception] = []

    def try_them() -> None:
        with conductor:
            unhealthy.extend(error for error in conductor.health().values() if error)

    return [*errors_of(try_them), *unhealthy]
