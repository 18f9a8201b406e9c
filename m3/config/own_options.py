"""What a stage's or a resource's class takes, checked before anything runs."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, Literal

from m3.config.origins import hint
from m3.config.schema import ENGINE_OPTIONS, RESOURCE_OPTIONS
from m3.config.values import Expanded, parse_value, plain, quoted
from m3.engine.shape import is_stage_class
from m3.registry import Kind, Option, options_of
from m3.secret import Secret

__all__ = ("is_secret", "own_options", "own_value", "own_values", "wrong_options")

Owner = Kind | Literal["resource"]
"""What has options of its own."""

SIMPLE = {"bool": bool, "int": int, "float": (int, float), "str": str, "Path": str}
"""The types that both a configuration and a constructor know, by name."""


def own_options(target: Any, owner: Owner) -> tuple[Option, ...]:
    """Return the options that the target itself takes: those of its class, if it is one."""
    if not _is_class(target, owner):
        return ()
    common = _common_options(owner)
    return tuple(option for option in options_of(target) if option.name not in common)


def own_values(target: Any, owner: Owner, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options in *given* as the target is to get them."""
    options = {option.name: option for option in own_options(target, owner)}
    return {name: own_value(value, options.get(name)) for name, value in given.items()}


def wrong_options(target: Any, owner: Owner, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Iterate over the options in *given* that the target cannot take, each with the reason."""
    options = {option.name: option for option in own_options(target, owner)}
    for name, value in given.items():
        if name in options:
            if message := _type_mistake(value, options[name]):
                yield name, message
        elif not _takes_any(target, owner):
            known = (*_common_options(owner), *options)
            yield name, f"there is no such option{hint(name, known)}"
    for option in options.values():
        if option.default is None and option.name not in given:
            yield option.name, f"must be given ({option.help or option.type or 'no default'})"


def own_value(value: Any, option: Option | None) -> Any:
    """
    Return *value* as the class is to get it.

    A ``${VAR}`` fits the option's type, and strings for an option that is
    :class:`~m3.secret.Secret` become that.
    """
    if option and is_secret(option):
        return _secret(plain(value))
    if isinstance(value, Expanded) and option and "str" not in _types(option):
        parsed = parse_value(value)
        if any(_fits(parsed, name) for name in _types(option)):
            return parsed
    return plain(value)


def is_secret(option: Option) -> bool:
    """Tell whether what is given for the option must not be shown."""
    return re.search(r"\bSecret\b", option.type) is not None


def _secret(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _secret(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_secret(inner) for inner in value]
    return Secret(value) if isinstance(value, str) else value


def _is_class(target: Any, owner: Owner) -> bool:
    """Tell whether the target is a class that will be made an instance of."""
    return inspect.isclass(target) if owner == "resource" else is_stage_class(target, owner)


def _common_options(owner: Owner) -> tuple[str, ...]:
    return RESOURCE_OPTIONS if owner == "resource" else ENGINE_OPTIONS


def _takes_any(target: Any, owner: Owner) -> bool:
    if not _is_class(target, owner):
        return False
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _type_mistake(value: Any, option: Option) -> str:
    given, value = value, own_value(value, option)
    if is_secret(option):
        is_right = isinstance(given, (str, list, dict))
        return "" if is_right else "must be a string; what it is, is not shown"
    accepted = [name for name in _types(option) if name in SIMPLE]
    if not accepted or not isinstance(value, (str, bool, int, float)):
        return ""
    if any(_fits(value, name) for name in accepted):
        return ""
    return f"must be {option.type}, not {quoted(given)}"


def _types(option: Option) -> list[str]:
    return [name.strip() for name in option.type.strip("\"'").split("|")]


def _fits(value: Any, name: str) -> bool:
    if name not in SIMPLE or (isinstance(value, bool) and name != "bool"):
        return False
    return isinstance(value, SIMPLE[name])  # type: ignore[arg-type]  # a table of types
