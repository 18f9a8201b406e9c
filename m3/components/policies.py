"""Which configuration and which logger each component gets."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from logging import Logger, getLogger
from typing import Any

__all__ = (
    "ComponentLoggingPolicy",
    "Config",
    "ConfigPolicy",
    "LoggingPolicy",
    "ModuleLoggingPolicy",
    "SimpleConfigPolicy",
    "SimpleLoggingPolicy",
    "camelcase_to_underscore",
)

Config = Mapping[str, Any]
"""What a configuration usually is; any object can be one."""

_WORD = re.compile(r"([A-Z][a-z]+|[0-9]+)")


class ConfigPolicy(ABC):
    """Says what becomes the ``config`` of a component."""

    @abstractmethod
    def __call__(self, component_class: type) -> Any:
        """Return the configuration for a component of that class."""


class SimpleConfigPolicy(ConfigPolicy):
    """The same *config* for all."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __call__(self, component_class: type) -> Any:  # noqa: ARG002  # the same for each
        """Return what is the configuration of all."""
        return self._config


class LoggingPolicy(ABC):
    """Says what becomes the ``logger`` of a component."""

    @abstractmethod
    def __call__(self, component_class: type) -> Logger:
        """Return the logger for a component of that class."""


class SimpleLoggingPolicy(LoggingPolicy):
    """The same *logger* for all."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def __call__(self, component_class: type) -> Logger:  # noqa: ARG002  # the same for each
        """Return the logger of all."""
        return self._logger


class ModuleLoggingPolicy(LoggingPolicy):
    """A logger for each module, named as the module is."""

    def __call__(self, component_class: type) -> Logger:
        """Return the logger of the module of that class."""
        return getLogger(component_class.__module__)


class ComponentLoggingPolicy(LoggingPolicy):
    """A logger for each class: ``MessageQueue`` of ``app.core`` has ``app.core.message_queue``."""

    def __call__(self, component_class: type) -> Logger:
        """Return the logger of that class."""
        name = camelcase_to_underscore(component_class.__name__)
        return getLogger(f"{component_class.__module__}.{name}")


def camelcase_to_underscore(name: str) -> str:
    """Return *name* in lower case with underscores: ``HTTPClient`` is ``http_client``."""
    return "_".join(word.lower() for word in _WORD.split(name) if word)
