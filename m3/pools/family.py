"""The backends of one type: from paths to classes, each imported when it is asked for."""

import sys
from collections.abc import Hashable, Iterator
from typing import Any, NoReturn

from m3.errors import ConfigError, ImproperlyConfigured, InvalidBackendError
from m3.pools.settings import Entries, Entry, parse
from m3.registry import load

if sys.version_info >= (3, 13):
    from typing import get_protocol_members
else:
    from typing import _get_protocol_attrs as get_protocol_members  # type: ignore[attr-defined]

__all__ = ("Family",)


class Family:
    """
    The backends of one type.

    Where an id is known without importing anything (of a class, of a mapping, of
    an entry point), only that backend is imported.  Of a mere path, only the
    class can tell the id: paths are imported one after the other, until the id is
    there.  What cannot be imported then matters only if the id is not found.

    Args:
        backend_type: the type.
        entries: the backends, as they were configured.
        interface: what each class must fulfil; None for nothing.
    """

    def __init__(self, backend_type: Any, entries: Entries, interface: type | None) -> None:
        self.backend_type = backend_type
        self.entries = entries
        self.interface = interface
        self._members = parse(backend_type, entries)
        self._owners: dict[Hashable, Entry] = {}
        self._found: dict[Hashable, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        """Yield all classes, in the order of the configuration."""
        return map(self._class_of, self._members)

    def find(self, backend_id: Hashable) -> Any:
        """
        Return the class of that id.

        Raises:
            InvalidBackendError: there is none.
            ImproperlyConfigured: its class is no backend, or two have the same id.
            ConfigError: its path leads nowhere.
        """
        found = self._found.get(backend_id)
        if found is None:
            found = self._found[backend_id] = self._search(backend_id)
        return found

    def _search(self, backend_id: Hashable) -> Any:
        found, broken = None, []
        for entry in self._candidates(backend_id):
            if found is not None and not is_imported(entry.target):
                continue
            try:
                cls = self._load(entry)
            except ConfigError as error:
                if entry.id is not None:
                    raise
                broken.append((entry.target, error))
                continue
            if self._own(entry, cls).id == backend_id:
                found = cls
        return self._invalid(backend_id, broken) if found is None else found

    def _candidates(self, backend_id: Hashable) -> list[Entry]:
        """Return what may have that id, first of all what is known to have it."""
        candidates = (entry for entry in self._members if entry.id in (None, backend_id))
        return sorted(candidates, key=lambda entry: entry.id is None)

    def _invalid(self, backend_id: Hashable, broken: list[tuple[str, ConfigError]]) -> NoReturn:
        known = dict.fromkeys(entry.id for entry in self._members if entry.id is not None)
        ids = known | dict.fromkeys(self._owners)
        error = InvalidBackendError(self.backend_type, backend_id, ids, broken=broken)
        raise error from (broken[0][1] if broken else None)

    def _class_of(self, entry: Entry) -> Any:
        return self._own(entry, self._load(entry))

    def _load(self, entry: Entry) -> Any:
        """Return the class of *entry*, which is checked."""
        cls = load(entry.target) if isinstance(entry.target, str) else entry.target
        faults = [f"no {name}" for name in ("id", "create") if getattr(cls, name, None) is None]
        faults += () if self.interface is None else faults_in(cls, self.interface)
        if faults:
            raise ImproperlyConfigured(
                f"{entry.target} cannot be a {self.backend_type!r} backend: "
                f"it has {', '.join(faults)}"
            )
        if entry.id not in (None, cls.id):
            raise ImproperlyConfigured(
                f"the {self.backend_type!r} backend {entry.id!r} is {entry.target}, "
                f"whose id is {cls.id!r}"
            )
        return cls

    def _own(self, entry: Entry, cls: Any) -> Any:
        """Let *entry* own the id of *cls*, unless another one does."""
        owner = self._owners.setdefault(cls.id, entry)
        if owner is not entry:
            raise ImproperlyConfigured(
                f"two {self.backend_type!r} backends have the id {cls.id!r}: "
                f"{owner.target} and {entry.target}"
            )
        return cls


def faults_in(cls: Any, interface: type) -> list[str]:
    """
    Return what *cls* lacks of *interface*.

    Of a protocol, that are methods and attributes with a value; what is only
    annotated, an instance may have.  Of any other class, that are its abstract
    methods, and to inherit from it or be registered with it.
    """
    is_protocol = getattr(interface, "_is_protocol", False)
    names = get_protocol_members(interface) if is_protocol else dir(interface)
    wanted = (name for name in names if is_protocol or is_abstract(interface, name))
    faults = [
        f"no {name}"
        for name in sorted(wanted)
        if hasattr(interface, name) and (not hasattr(cls, name) or is_abstract(cls, name))
    ]
    if not is_protocol and not (isinstance(cls, type) and issubclass(cls, interface)):
        faults.append(f"no base {interface.__qualname__}")
    return faults


def is_abstract(cls: Any, name: str) -> bool:
    """Return whether a subclass must still define what *cls* calls *name*."""
    return getattr(getattr(cls, name, None), "__isabstractmethod__", False)


def is_imported(target: Any) -> bool:
    """Return whether a class is there without importing anything."""
    if not isinstance(target, str):
        return True
    module, colon, _ = target.partition(":")
    return (module if colon else target.rpartition(".")[0]) in sys.modules
