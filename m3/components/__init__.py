"""
Components: what must start before others and stop after them.

The map: a :class:`Component` says by annotation what it needs (``annotations``);
a :class:`Conductor` knows what there is (``resources``), finds out who needs
whom (``graph``), starts all in order and stops them in reverse (``lifecycle``,
``calls``), in an event loop of its own or its caller's (``loops``).
``policies`` say what is in the ``config`` and the ``logger`` of a component.
"""

from importlib import import_module

from m3.components.component import Component

TYPE_CHECKING = False
if TYPE_CHECKING:
    from m3.components.conductor import Conductor as Conductor
    from m3.components.policies import ComponentLoggingPolicy as ComponentLoggingPolicy
    from m3.components.policies import Config as Config
    from m3.components.policies import ConfigPolicy as ConfigPolicy
    from m3.components.policies import LoggingPolicy as LoggingPolicy
    from m3.components.policies import ModuleLoggingPolicy as ModuleLoggingPolicy
    from m3.components.policies import SimpleConfigPolicy as SimpleConfigPolicy
    from m3.components.policies import SimpleLoggingPolicy as SimpleLoggingPolicy
    from m3.errors import CircularDependencyError as CircularDependencyError
    from m3.errors import ComponentError as ComponentError

_HOMES = {
    "CircularDependencyError": "m3.errors",
    "ComponentError": "m3.errors",
    "ComponentLoggingPolicy": "m3.components.policies",
    "Conductor": "m3.components.conductor",
    "Config": "m3.components.policies",
    "ConfigPolicy": "m3.components.policies",
    "LoggingPolicy": "m3.components.policies",
    "ModuleLoggingPolicy": "m3.components.policies",
    "SimpleConfigPolicy": "m3.components.policies",
    "SimpleLoggingPolicy": "m3.components.policies",
}

__all__ = (
    "CircularDependencyError",
    "Component",
    "ComponentError",
    "ComponentLoggingPolicy",
    "Conductor",
    "Config",
    "ConfigPolicy",
    "LoggingPolicy",
    "ModuleLoggingPolicy",
    "SimpleConfigPolicy",
    "SimpleLoggingPolicy",
)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
