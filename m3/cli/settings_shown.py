"""The configuration of services, as TOML and without secrets."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Any

from m3._shown import escaped_json, masked
from m3.cli.settings import Settings
from m3.config.origins import KeyPath
from m3.config.values import Expanded, expand, variables_in
from m3.secret import MASK

__all__ = ("as_toml", "without_passwords")

SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|token|credential|(api|access|private|auth)_?key", re.IGNORECASE
)
"""What is in the name of a key, or of a variable, whose value is not shown."""

BARE = re.compile(r"[A-Za-z0-9_-]+")

Line = tuple[str, str]
"""An assignment, and where its value was given."""


def without_passwords(value: Any, name: str = "") -> Any:
    """
    Return *value* with passwords masked: of URLs, and what looks like one by its name.

    Args:
        value: plain, or of plain values.
        name: the keys that lead to it.
    """
    if isinstance(value, Mapping):
        return {key: without_passwords(inner, f"{name}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [without_passwords(inner, name) for inner in value]
    variables = variables_in(value.template) if isinstance(value, Expanded) else []
    if any(map(SECRET.search, (name, *variables))) and not isinstance(value, bool):
        return MASK
    if isinstance(value, Expanded):  # what stands for a password in a URL may look like anything
        return masked(expand(masked(value.template), os.environ))
    return masked(value) if isinstance(value, str) else value


def as_toml(settings: Settings) -> Iterator[str]:
    """Iterate over the lines that say what *settings* do, each value with its origin."""
    settings.setdefault("AMQP_URI", "memory://")
    yield from _aligned(_pairs(settings, (), settings))
    for path, table in _tables(settings, ()):
        lines = [*_pairs(table, path, settings)]
        if lines or not table:
            yield ""
            yield f"[{_dotted(path)}]"
            yield from _aligned(lines)


def _tables(table: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield (*path, key), value
            yield from _tables(value, (*path, key))


def _pairs(table: Mapping[str, Any], path: KeyPath, settings: Settings) -> Iterator[Line]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            continue
        inner = (*path, key)
        shown = without_passwords(value, ".".join(map(str, inner)))
        sources = [str(settings.origin(inner)), *(f"${{{name}}}" for name in _variables(value))]
        yield f"{_key(key)} = {_toml(shown)}", ", ".join(sources)


def _aligned(lines: Iterator[Line] | list[Line]) -> Iterator[str]:
    rows = list(lines)
    width = min(max((len(pair) for pair, _ in rows), default=0), 40)
    for pair, source in rows:
        yield f"{pair:<{width}}  # {escaped_json(source)}"


def _variables(value: Any) -> list[str]:
    """Return the names of the variables that *value* was made from, each once."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return list(dict.fromkeys(name for inner in value for name in _variables(inner)))
    return variables_in(value.template) if isinstance(value, Expanded) else []


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)  # which is inf and nan where TOML writes them so
    return escaped_json(json.dumps(value, ensure_ascii=False))


def _dotted(path: KeyPath) -> str:
    return ".".join(_key(str(part)) for part in path)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else escaped_json(json.dumps(key, ensure_ascii=False))
