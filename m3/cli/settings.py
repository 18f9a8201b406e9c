"""The configuration of services: a file, and the flags of the command line over it."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3.config.lines import key_lines
from m3.config.origins import DEFAULT, KeyPath, Origin, Problem, dotted
from m3.config.values import all_expanded
from m3.errors import ConfigError

__all__ = ("FLAGS", "Settings", "settings_from")

FLAGS = {
    "AMQP_URI": "--broker",
    "max_workers": "--max-workers",
    "stop_timeout": "--stop-timeout",
    "health": "--health",
}
"""The flags that say what a key is."""


class Settings(dict[str, Any]):
    """
    The configuration, and where each value was given.

    Its strings remember how they were written: see :class:`~m3.config.values.Expanded`.

    Attributes:
        origins: where the value at a path was given, or what holds it.
    """

    def __init__(self) -> None:
        self.origins: dict[KeyPath, Origin] = {}

    def origin(self, path: KeyPath) -> Origin:
        """Return where the value at *path* was given."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, DEFAULT)


def settings_from(path: str | None, given: Mapping[str, Any]) -> Settings:
    """
    Return the configuration of the containers.

    Args:
        path: of a file in TOML, in whose strings each ``${VAR}`` is replaced.
        given: what counts before the file; None for what was not given.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or names variables that are not set.
    """
    settings = Settings() if path is None else _read(path)
    for key, value in given.items():
        if value is not None:
            settings[key] = value
            settings.origins[(key,)] = Origin("flag", FLAGS[key])
    return settings


def _read(path: str) -> Settings:
    try:
        text = Path(path).read_text("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: {error}") from error
    settings = Settings()
    for at, line in key_lines(text).items():
        settings.origins[at] = Origin("file", f"{path}:{line}", line)
    problems: list[Problem] = []

    def complain(at: KeyPath, message: str) -> None:
        problems.append(Problem(settings.origin(at), dotted(at), message))

    settings.update(all_expanded(document, (), os.environ, complain))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return settings
