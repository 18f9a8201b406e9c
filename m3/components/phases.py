"""What is done with one component: it is set up, shut down, checked."""

import asyncio
import inspect
from functools import partial
from typing import Any

from m3.components import claims
from m3.components.calls import Call, Overdue
from m3.components.component import Component
from m3.components.graph import Node
from m3.components.loops import running_loop
from m3.errors import ComponentError, ComponentStateError, ComponentTimeoutError, describe

__all__ = ("HEALTH_TIMEOUT", "check", "set_up", "shut_down")

HEALTH_TIMEOUT = 10.0
"""Seconds that a check may take."""

NOT_BESIDE = {"setup": ("setup", "shutdown"), "health": ("health",), "shutdown": ()}
"""In which phases nothing may hang for a call in another to begin."""

_late: set[asyncio.Task[None]] = set()


async def set_up(node: Node) -> ComponentError | None:
    """
    Hand over what a resource needs, and set it up; return why it could not be.

    A coroutine that is ended because everything is to end has not failed; it is not up.
    """
    component = node.resource
    if not isinstance(component, Component):
        node.state, node.is_up = "started", True
        return None
    loop = asyncio.get_running_loop()
    component.loop = loop
    for attribute, needed in node.depends_on.items():
        setattr(component, attribute, None if needed is None else needed.resource)
    node.state = "starting"
    began = loop.time()
    node.error = await _call(node, "setup", component.setup_timeout)
    node.seconds = loop.time() - began
    if node.error is not None:
        node.state = "failed"
    elif not node.is_up:
        node.state = "stopped"
    else:
        node.state = "started"
        component.logger.info("%r is set up, after %.3f s", component, node.seconds)
    return node.error


async def shut_down(node: Node) -> ComponentError | None:
    """Shut a resource down, if it is up; return what went wrong."""
    if not node.is_up:
        return None
    component = node.resource
    node.is_up = False
    error = None
    if isinstance(component, Component):
        node.state = "stopping"
        error = await _call(node, "shutdown", component.shutdown_timeout)
        if error is None:
            component.logger.info("%r is shut down", component)
        else:
            component.logger.error("%s", error, exc_info=error.error)
    node.state = "stopped"
    return error


async def check(node: Node, seconds: float | None = HEALTH_TIMEOUT) -> Exception | None:
    """Return why a component does not work, or None if it does."""
    if node.state != "started":
        return node.error or ComponentStateError(f"component {node.name!r} is {node.state}")
    return await _call(node, "health", seconds)


async def _call(node: Node, phase: str, seconds: float | None) -> ComponentError | None:
    """Call a method of a component; return what is wrong, if anything is."""
    component = node.resource
    method = getattr(component, phase)
    if getattr(method, "__func__", None) is getattr(Component, phase):
        node.is_up = node.is_up or phase == "setup"
        return None
    if node.hangs_in(NOT_BESIDE[phase]):
        cause = ComponentStateError("an earlier call of it was given up, and has not ended yet")
        return ComponentError(cause, component=component, phase=phase)
    claims.hold(node)
    call = Call(method, f"m3-{node.name}-{phase}", partial(_end_late, node, phase))
    node.calls.append((phase, call))
    try:
        return await _outcome(call, component, phase, seconds)
    finally:
        if phase == "setup":
            node.is_up = call.has_returned
        if not call.is_given_up:
            node.calls.remove((phase, call))
            claims.release(node)


async def _outcome(
    call: Call, component: Component, phase: str, seconds: float | None
) -> ComponentError | None:
    try:
        await call.within(seconds)
    except Overdue as overdue:
        return ComponentTimeoutError(
            component=component, phase=phase, seconds=seconds or 0, stack=overdue.stack
        )
    except BaseException as error:
        is_ended = phase == "setup" and call.is_cancelled
        if is_ended and isinstance(error, asyncio.CancelledError):
            return None
        return ComponentError(error, component=component, phase=phase)
    return None


def _end_late(node: Node, phase: str, error: BaseException | None) -> "asyncio.Task[None] | None":
    """
    Look after a call that was given up and has ended now, in its thread or in its loop.

    Return what of that goes on in the loop.
    """
    component = node.resource
    component.logger.warning("%s() of %r, which was given up, has ended now", phase, component)
    if error is None and phase == "setup":
        late = _shut_down_late(node)
        if running_loop() is None:
            asyncio.run(late)
            return None
        task = asyncio.ensure_future(late)
        _late.add(task)
        task.add_done_callback(_late.discard)
        return task
    if error is not None:
        component.logger.error("%s", describe(error), exc_info=error)
    claims.release(node)
    return None


async def _shut_down_late(node: Node) -> None:
    """Shut down, where it was set up, a component whose setup has returned after all."""
    component = node.resource
    try:
        outcome: Any = component.shutdown()
        if inspect.isawaitable(outcome):
            await outcome
    except BaseException:
        component.logger.exception("%r could not be shut down", component)
    finally:
        claims.release(node)
