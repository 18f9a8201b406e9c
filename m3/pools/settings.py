"""
Which backends there are of each type, and the settings beside them.

The backends of a type are those of the first of these that knows the type:

1. :func:`configure`;
2. ``POOL_OF_RAMOS`` in the settings of Django, then of simple-settings, where
   the process has imported and configured them;
3. the entry points of the group ``m3.backends.<type>``, by their names.

It is the same for all threads of the process.
"""

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Any, NamedTuple, NoReturn

from m3._messages import closest, did_you_mean
from m3.errors import ImproperlyConfigured
from m3.registry import installed

__all__ = (
    "Entries",
    "Entry",
    "configure",
    "entries_of",
    "extend",
    "find",
    "get_installed_pools",
    "parse",
)

POOLS = "POOL_OF_RAMOS"

Entries = Collection[Any] | Mapping[Any, Any]
"""The backends of a type: paths and classes, or a mapping from ids to these."""


class Entry(NamedTuple):
    """One backend: its id, or None if only its class can tell, and the class or its path."""

    id: Any
    target: Any


class Configuration(NamedTuple):
    """What :func:`configure` was called with."""

    pools: Mapping[Any, Entries]
    settings: Mapping[str, Any]


_lock = threading.Lock()
_current = Configuration({}, {})


def configure(
    pools: Mapping[Any, Entries] | None = None, *, settings: Mapping[str, Any] | None = None
) -> AbstractContextManager[object]:
    """
    Say which backends there are, in the whole process, instead of what was said before.

    It holds at once.  Where it shall not hold for ever, as in a test, use it in a
    ``with`` statement: at its end, what held before holds again.

    Args:
        pools: for each type of backends, their paths or the classes themselves;
            or a mapping from their ids to these.  A path is ``"pkg.mod.Name"``
            or ``"pkg.mod:Name"``, and is imported when its backend is asked for.
        settings: values by name, as the default that a pool's ``SETTINGS_KEY`` names.

    Raises:
        ImproperlyConfigured: the backends of a type are given as something else.
    """
    kept = {kind: _kept(kind, entries) for kind, entries in (pools or {}).items()}
    configuration = Configuration(kept, dict(settings or {}))
    before = _change(lambda _: configuration)
    undo = ExitStack()
    undo.callback(_change, lambda _: before)
    return undo


def extend(pools: Mapping[Any, Entries]) -> None:
    """Say which backends of some types there are, and leave all else as it was configured."""
    kept = {kind: _kept(kind, entries) for kind, entries in pools.items()}
    _change(lambda held: Configuration({**held.pools, **kept}, held.settings))


def _kept(backend_type: Any, entries: Entries) -> Entries:
    """Return *entries*, which are checked, as no caller can change them any more."""
    parse(backend_type, entries)
    if isinstance(entries, Mapping):
        return dict(entries)
    return entries if isinstance(entries, tuple) else list(entries)


def _change(to: Callable[[Configuration], Configuration]) -> Configuration:
    """Let what *to* makes of the configuration that holds be it, and return what held before."""
    global _current
    with _lock:
        before, _current = _current, to(_current)
    return before


def get_installed_pools() -> dict[Any, Entries]:
    """Return the backends of every type, as they were configured; without entry points."""
    return {**(find(POOLS) or {}), **_current.pools}


def entries_of(backend_type: Any) -> Entries:
    """
    Return the backends of a type; the same object as long as nothing changes.

    Raises:
        ImproperlyConfigured: there is nothing about the type anywhere.
    """
    pools = _current.pools
    if backend_type not in pools:
        pools = find(POOLS) or {}
    if backend_type in pools:
        return pools[backend_type]
    return _entry_points(backend_type) or _unknown(backend_type)


def find(name: str) -> Any:
    """Return the setting *name* of configure, Django or simple-settings; None if none has it."""
    configured = _current.settings
    if name in configured:
        return configured[name]
    for settings in _foreign_settings():
        value = getattr(settings, name, None)
        if value is not None:
            return value
    return None


def parse(backend_type: Any, entries: Entries) -> list[Entry]:
    """
    Return *entries* one by one.

    Raises:
        ImproperlyConfigured: they are not what :func:`configure` takes.
    """
    if isinstance(entries, str) or not isinstance(entries, Collection):
        raise ImproperlyConfigured(
            f"the {backend_type!r} backends are {entries!r}: give a list of paths or classes, "
            "or a mapping from ids to these"
        )
    if isinstance(entries, Mapping):
        return [Entry(*item) for item in entries.items()]
    return [
        Entry(None if isinstance(one, str) else getattr(one, "id", None), one) for one in entries
    ]


def _foreign_settings() -> Iterator[Any]:
    """Yield the settings of Django and of simple-settings, if they are in use."""
    django = getattr(sys.modules.get("django.conf"), "settings", None)
    if django is not None and (django.configured or "DJANGO_SETTINGS_MODULE" in os.environ):
        yield django
    simple = getattr(sys.modules.get("simple_settings"), "settings", None)
    if simple is not None and _is_configured(simple):
        yield simple


def _is_configured(simple: Any) -> bool:
    """Return whether simple-settings knows which settings to load; what is wrong in them raises."""
    try:
        simple.setup()
    except RuntimeError as error:
        if str(error) != "Settings are not configured":
            raise
        return False
    return True


@cache
def _entry_points(backend_type: Any) -> Mapping[str, str]:
    """Return the paths of the backends that installed distributions bring, by their ids."""
    paths: dict[str, str] = {}
    for entry in installed(f"m3.backends.{backend_type}"):
        path = entry.value.partition("[")[0].strip()
        if paths.setdefault(entry.name, path) != path:
            raise ImproperlyConfigured(
                f"several installed distributions bring a {backend_type!r} backend {entry.name!r}: "
                f"{paths[entry.name]} and {path}; configure() can say which one is meant"
            )
    return paths


def _unknown(backend_type: Any) -> NoReturn:
    known = [str(kind) for kind in get_installed_pools()]
    near = did_you_mean(closest(str(backend_type), known))
    raise ImproperlyConfigured(
        f"there are no {backend_type!r} backends{near}; types are configured by "
        f"m3.configure(pools={{{backend_type!r}: [...]}}) or by {POOLS} in the settings of Django "
        f"or simple-settings (there are: {', '.join(known) or 'none'}), "
        f"or come as entry points of the group m3.backends.{backend_type}"
    )
