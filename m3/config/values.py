"""Values written as text: TOML fragments, and ``${VAR}`` in strings."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from m3._shown import safe
from m3.config.origins import KeyPath
from m3.errors import ConfigError, abridged
from m3.secret import MASK

__all__ = (
    "Expanded",
    "all_expanded",
    "expand",
    "parse_value",
    "plain",
    "quoted",
    "shown",
    "shown_secret",
    "variables_in",
)

_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<default>[^}]*))?\}|(?P<bad>\{))"
)


class Expanded(str):
    """
    A string in which a ``${VAR}`` was replaced.

    Attributes:
        template: the string as it was written, fit to be shown: what the
            variables hold may be a secret.
    """

    __slots__ = ("template",)

    template: str


def parse_value(text: str) -> Any:
    """Return *text* as a TOML value where it is one (``4``, ``true``, ``[1, 2]``), else itself."""
    import tomllib

    if "\n" in text:
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"]


def expand(text: str, environ: Mapping[str, str]) -> str:
    """
    Return *text* with each ``${VAR}`` and ``${VAR:default}`` replaced; ``$$`` is a ``$``.

    Raises:
        ConfigError: a variable without a default is not set, or a ``${`` has
            no name or no end.
    """

    def replacement(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["bad"]:
            raise ConfigError("'${' without a name and '}'; write '$${' for a plain '${'")
        value = environ.get(match["name"], match["default"])
        if value is None:
            raise ConfigError(
                f"the environment variable {match['name']} is not set and has no default; "
                f"set it, or write ${{{match['name']}:default}}"
            )
        return value

    expanded, count = _REFERENCE.subn(replacement, text)
    if not count:
        return text
    result = Expanded(expanded)
    result.template = text
    return result


def all_expanded(
    value: Any,
    path: KeyPath,
    environ: Mapping[str, str],
    complain: Callable[[KeyPath, str], object],
) -> Any:
    """Return *value*, at *path*, with each string in it expanded that can be; the others it had."""
    if isinstance(value, dict):
        return {
            key: all_expanded(inner, (*path, key), environ, complain)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [
            all_expanded(inner, (*path, index), environ, complain)
            for index, inner in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    try:
        return expand(value, environ)
    except ConfigError as error:
        complain(path, str(error))
        return value


def variables_in(text: str) -> list[str]:
    """Return the names of the variables that a string names."""
    return [match["name"] for match in _REFERENCE.finditer(text) if match["name"]]


def plain(value: Any) -> Any:
    """Return *value* without the memory of how its strings were written."""
    return _mapped(value, str)


def shown(value: Any) -> str:
    """Return *value* for people: as TOML would write it, variables by their names."""
    import json

    if isinstance(value, (str, bool, int, float, list, dict)):
        return safe(json.dumps(_mapped(value, _template), ensure_ascii=False))
    return safe(str(value))


def shown_secret(value: Any) -> str:
    """Return what may be shown of a secret: the name of the variable that it is, if it is one."""
    if isinstance(value, Expanded) and re.fullmatch(r"\$\{\w+\}", value.template):
        return shown(value)
    return MASK


def quoted(value: Any) -> str:
    """Return *value* for a message, cut if it is long; variables by their names."""
    return abridged(_mapped(value, _template))


def _template(text: Expanded) -> str:
    return text.template


def _mapped(value: Any, change: Callable[[Expanded], str]) -> Any:
    """Return *value* with every expanded string in it changed."""
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, Expanded) else value
