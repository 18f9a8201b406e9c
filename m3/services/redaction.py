"""Arguments of a call as they may be shown: without what is sensitive."""

import copy
import inspect
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from m3._messages import closest, did_you_mean
from m3.errors import ConfigError

if TYPE_CHECKING:
    from m3.services.context import WorkerContext

__all__ = ("REDACTED", "check_sensitive", "redacted")

REDACTED = "********"

STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


def check_sensitive(paths: Sequence[str], method: Callable[..., Any]) -> None:
    """
    Check that a method has the arguments that are called sensitive.

    Raises:
        ConfigError: it has no such argument, so the one that is meant would be shown.
    """
    parameters = inspect.signature(method).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    for path in paths:
        name = next((key for key, _ in STEP.findall(path)), path)
        if name not in parameters:
            near = did_you_mean(closest(name, parameters))
            raise ConfigError(
                f"{method.__qualname__}: sensitive_arguments={path!r}: there is no argument "
                f"{name!r}, so nothing would be hidden{near}"
            )


def redacted(call: "WorkerContext") -> tuple[list[Any], dict[str, Any]]:
    """
    Return the arguments of *call* with those replaced that its entrypoint calls sensitive.

    A sensitive argument is a name, or a path into its value: ``user.password``,
    ``cards[0].number``.
    """
    paths = call.entrypoint.sensitive_arguments
    if not paths:
        return list(call.args), dict(call.kwargs)
    method = getattr(call.srv_ctx.service_cls, call.method_name)
    signature = inspect.signature(method)
    try:
        bound = signature.bind(None, *call.args, **call.kwargs)
    except TypeError:  # so it is not known which argument is which
        return [REDACTED for _ in call.args], dict.fromkeys(call.kwargs, REDACTED)
    arguments = bound.arguments
    others = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
    for path in [paths] if isinstance(paths, str) else paths:
        name, *steps = (key or int(index) for key, index in STEP.findall(path))
        if name in arguments:
            arguments[name] = _without(arguments[name], steps)
        elif others and name in arguments.get(others[0], ()):
            arguments[others[0]] = _without(arguments[others[0]], [name, *steps])
    return list(bound.args[1:]), bound.kwargs


def _without(value: Any, steps: Sequence[str | int]) -> Any:
    """Return a copy of *value* with what *steps* lead to replaced; itself if they lead nowhere."""
    if not steps:
        return REDACTED
    try:
        changed = copy.copy(value)
        changed[steps[0]] = _without(value[steps[0]], steps[1:])
    except (LookupError, TypeError):
        return value
    return changed
