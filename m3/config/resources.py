"""The resources of a configuration: each name's class found, its options checked, and made."""

from collections.abc import Iterable, Mapping
from typing import Any

from m3.config.origins import hint
from m3.config.own_options import own_values
from m3.config.schema import ResourceConfig
from m3.engine.resources import all_users, components_of, user_of
from m3.errors import ConfigError
from m3.errors import describe as describe_error
from m3.registry import load

__all__ = ("class_for", "classes_by_name", "make")


def classes_by_name(targets: Iterable[object]) -> dict[str, set[type]]:
    """
    Return which classes are asked for, by the name of the attribute.

    Those of the *targets*, which are stages, and of all that these need in turn.
    """
    found: dict[str, set[type]] = {}
    for cls in all_users(map(user_of, targets)):
        for name, kind in components_of(cls):
            found.setdefault(name, set()).add(kind)
    return found


def class_for(name: str, path: str | None, wanted: Mapping[str, set[type]]) -> Any:
    """
    Return the class of the resource called *name*.

    Args:
        name: of the attribute that is to hold it.
        path: of the class, if it was given.
        wanted: what :func:`classes_by_name` has returned.

    Raises:
        ConfigError: there is no such class, or more than one.
    """
    if path is not None:
        return load(path)
    classes = sorted(wanted.get(name, ()), key=lambda cls: cls.__qualname__)
    if not classes:
        raise ConfigError(
            f"no stage and no component asks for a resource by the name {name!r}"
            f"{hint(name, tuple(wanted))}; to start it nevertheless, give its class with "
            "type = 'pkg.mod:Name'"
        )
    if len(classes) > 1:
        names = " and as ".join(cls.__qualname__ for cls in classes)
        raise ConfigError(f"it is asked for as {names}; say which it is with type = 'pkg.mod:Name'")
    return classes[0]


def make(cls: Any, given: ResourceConfig) -> Any:
    """
    Return an instance of *cls* with the options *given*.

    Raises:
        ConfigError: its constructor has refused them.
    """
    own = own_values(cls, "resource", given.options)
    try:
        resource = cls(**own)
    except Exception as error:
        raise ConfigError(f"{cls.__qualname__}(): {describe_error(error)}") from error
    if given.config is not None:
        resource.config = given.config
    return resource
