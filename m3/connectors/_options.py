"""What the options of several connectors may be."""

from typing import Any, get_args

from m3.errors import ConfigError

__all__ = ("check_choice",)


def check_choice(option: str, value: object, choices: Any) -> None:
    """Raise :exc:`~m3.errors.ConfigError` unless *value* is one of *choices*, a ``Literal``."""
    if value not in get_args(choices):
        raise ConfigError(f"{option}={value!r}: it can be {', '.join(get_args(choices))}")
