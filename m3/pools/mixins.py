"""Ways in which backends create themselves, and in which a pool knows its default."""

from collections.abc import Hashable
from typing import Any, ClassVar

from m3.errors import MissingSettingError
from m3.pools import settings
from m3.pools.once import Once

__all__ = ("DefaultBackendMixin", "SingletonCreateMixin", "ThreadSafeCreateMixin")


class ThreadSafeCreateMixin:
    """A backend of which every call of :meth:`create` makes a new instance."""

    @classmethod
    def create(cls, /, *args: Any, **kwargs: Any) -> Any:
        """Return a new instance, made with these arguments."""
        return cls(*args, **kwargs)


class SingletonCreateMixin:
    """
    A backend of which there is one instance for each class and arguments.

    Arguments are the same if they are equal and of the same type, also inside
    lists, tuples, dictionaries and sets: 1, 1.0 and True make three instances.
    The order of keywords does not matter, but ``create(1)`` and ``create(a=1)`` are
    two calls.  Objects of other types are compared as they compare themselves; where
    that is neither true nor false, as of arrays, each object is an argument of its own.
    """

    _instances: ClassVar[Once] = Once()

    @classmethod
    def create(cls, /, *args: Any, **kwargs: Any) -> Any:
        """
        Return the instance for these arguments; the first who asks makes it.

        Threads that ask for the same instance wait until it is made, others do not.
        If its constructor raises, that is raised, and the next who asks tries again.
        """
        key = (cls, by_value(args), by_value(kwargs))
        return cls._instances.get(key, cls, *args, **kwargs)

    @classmethod
    def clear_instances(cls) -> None:
        """Forget the instances of this class and its subclasses; they are not closed."""
        cls._instances.forget(lambda key, _: issubclass(key[0], cls))

    @classmethod
    def forget_instance(cls, instance: object) -> None:
        """Forget one instance, as it is closed; the next who asks for it gets a new one."""
        cls._instances.forget(lambda _, made: made is instance)


class DefaultBackendMixin:
    """
    A pool whose default backend is named by a setting::

        class StoragePool(DefaultBackendMixin, BackendPool):
            backend_type = "storage"
            SETTINGS_KEY = "DEFAULT_STORAGE"

    The setting is one of ``configure(settings=...)``, of Django or of simple-settings.
    """

    SETTINGS_KEY: ClassVar[str | None] = None
    """The name of the setting."""

    @classmethod
    def default_id(cls) -> Any:
        """
        Return the id of the default backend.

        Raises:
            MissingSettingError: there is no such setting, or no ``SETTINGS_KEY``.
        """
        if cls.SETTINGS_KEY is None:
            raise MissingSettingError(
                f"{cls.__qualname__} needs a SETTINGS_KEY: the setting's name"
            )
        backend_id = settings.find(cls.SETTINGS_KEY)
        if backend_id is None:
            raise MissingSettingError(
                f"there is no setting {cls.SETTINGS_KEY!r} to name the default of "
                f"{cls.__qualname__}: m3.configure(settings={{{cls.SETTINGS_KEY!r}: ...}})"
            )
        return backend_id

    @classmethod
    def get_default(cls, *args: Any, **kwargs: Any) -> Any:
        """Return what ``get`` returns for the id of the default backend."""
        backend_id = cls.default_id()
        return cls.get(backend_id, *args, **kwargs)  # type: ignore[attr-defined]


class ComparedByItself:
    """A value of any type as a part of a key: one can be hashed, and compared with another."""

    __slots__ = ("code", "has_hash", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            self.code, self.has_hash = hash(value), True
        except Exception:
            self.code, self.has_hash = hash(type(value)), False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComparedByItself):
            return NotImplemented
        if self.value is other.value:
            return True
        try:
            answer = self.value == other.value
            return answer is True or (self.has_hash and bool(answer))
        except Exception:
            return False

    def __hash__(self) -> int:
        return self.code


PLAIN = (str, bytes, int, float, bool, type(None))
"""Types whose values can be parts of a key as they are."""


def by_value(value: Any) -> Hashable:
    """Return a key that is equal for what is equal and of the same type, now."""
    kind = type(value)
    if isinstance(value, dict):
        return kind, frozenset((by_value(key), by_value(one)) for key, one in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(by_value, value))
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(by_value, value))
    return kind, value if kind in PLAIN else ComparedByItself(value)
