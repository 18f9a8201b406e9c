"""What users subclass to get backends of one type by their ids."""

import inspect
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from m3.components.component import Component
from m3.errors import ComponentStateError, ImproperlyConfigured, describe
from m3.pools.family import Family
from m3.pools.mixins import DefaultBackendMixin, SingletonCreateMixin
from m3.pools.once import Closed, Once
from m3.pools.settings import Entries, entries_of

__all__ = ("BackendPool",)

DOES_NOT_RUN: Mapping[str, type] = {
    "coroutine": Coroutine,
    "generator": Generator,
    "asynchronous generator": AsyncGenerator,
}
"""What a function may return instead of running its code."""


class BackendPool(Component):
    """
    Backends of one type: interchangeable classes, of which one is chosen by its id.

    A backend is a class with an ``id`` and a class method ``create`` that returns an
    instance.  Which ones there are is said by :func:`m3.configure`, by settings or
    by entry points::

        class StoragePool(BackendPool):
            backend_type = "storage"

        StoragePool.get("s3").write(data)

    The class methods make what they are asked for at each call, as ``create`` does.

    An instance of a pool is a resource, and has backends of its own, each created
    once and shared by all threads, when it is first asked for: ``pool["s3"]``,
    ``pool.default``, or all of them by iteration.  They are checked with the pool
    (their ``health()``, if they have one) and closed with it, the last one first
    (their ``shutdown()``, or else their ``close()``, if they have one).

    Args:
        default: the id of the backend that is :attr:`default`, created at the start.
        options: for each id, the keywords of its ``create``.
    """

    backend_type: ClassVar[Any] = None
    """Of which type the backends are: a key of what was configured."""

    interface: ClassVar[type | None] = None
    """An abstract base class or a protocol that each class must fulfil; None for nothing."""

    _own_family: ClassVar[Family | None] = None

    def __init__(
        self,
        *,
        default: Any = None,
        options: Mapping[Any, Mapping[str, Any]] | None = None,
    ) -> None:
        self._default = default
        self._options = dict(options or {})
        self._backends = Once()

    # -- as a class: what is configured -----------------------------------------

    @classmethod
    def get(cls, backend_id: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Return what the backend of that id creates from these arguments.

        Raises:
            InvalidBackendError: there is no such backend; it says what is near.
            ConfigError: it cannot be imported, or is no backend.
        """
        return cls.get_class(backend_id).create(*args, **kwargs)

    @classmethod
    def all(cls, *args: Any, **kwargs: Any) -> list[Any]:
        """Return what each backend creates from these arguments."""
        return list(cls.iterator(*args, **kwargs))

    @classmethod
    def get_class(cls, backend_id: Any) -> Any:
        """Return the class of the backend of that id; see :meth:`get`."""
        return cls._family().find(backend_id)

    @classmethod
    def all_classes(cls) -> list[Any]:
        """Return the classes of all backends, in the order of the configuration."""
        return list(cls.classes_iterator())

    @classmethod
    def iterator(cls, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield what each backend creates from these arguments, when it is asked for."""
        return (each.create(*args, **kwargs) for each in cls.classes_iterator())

    @classmethod
    def classes_iterator(cls) -> Iterator[Any]:
        """
        Yield the classes of all backends, each imported when it is asked for.

        Raises:
            ImproperlyConfigured: nothing is configured for the type (at once).
        """
        return iter(cls._family())

    @classmethod
    def _family(cls) -> Family:
        entries = cls._entries()
        family = cls.__dict__.get("_own_family")
        if family is None or family.entries is not entries:
            family = cls._own_family = Family(cls.backend_type, entries, cls.interface)
        return family

    @classmethod
    def _entries(cls) -> Entries:
        try:
            return entries_of(cls.backend_type)
        except ImproperlyConfigured:
            if cls.backend_type is None and cls is not BackendPool:
                raise ImproperlyConfigured(
                    f"{cls.__qualname__} has no backend_type: give the class one, as in "
                    'backend_type = "storage"'
                ) from None
            raise

    # -- as a resource: its own backends -----------------------------------------

    def setup(self) -> None:
        """
        Create the default backend, if there is one, and import what has options.

        Raises:
            ConfigError: one of these cannot be imported, or there is none of that id.
        """
        self._family()
        if self._backends.is_closed:
            self._backends = Once()
        for backend_id in self._options:
            self.get_class(backend_id)
        if self._id_of_default() is not None:
            self[self._id_of_default()]

    def shutdown(self) -> None:
        """
        Close the backends; what they raise comes as one group, which says all of it.

        Until the next setup there are no others: one that is being made is closed by who makes it.
        """
        self._close(self._backends.close())

    def health(self) -> None:
        """Check the backends that were created; what they raise comes as one group, too."""
        self._call_each(self._backends.made().items(), "health")

    @property
    def default(self) -> Any:
        """The default backend: of the id ``default``, or that of a :class:`DefaultBackendMixin`."""
        backend_id = self._id_of_default()
        if backend_id is None:
            name = type(self).__qualname__
            raise ImproperlyConfigured(
                f"{name} has no default backend: name one, as {name}(default=...), "
                "or as default in its table of [resources]"
            )
        return self[backend_id]

    def __getitem__(self, backend_id: Any) -> Any:
        """
        Return its backend of that id.

        Raises:
            ComponentStateError: the pool was shut down.
            InvalidBackendError, ConfigError: as :meth:`get`.
        """
        try:
            return self._backends.get(backend_id, self._create, backend_id)
        except Closed as closed:
            self._close(closed.late)
            raise ComponentStateError(
                f"backend {backend_id!r} of {type(self).__qualname__}: the pool was shut down, "
                "and makes no backend that nobody would close"
            ) from None

    def __iter__(self) -> Iterator[Any]:
        return (self[each.id] for each in self.classes_iterator())

    def _id_of_default(self) -> Any:
        if self._default is None and isinstance(self, DefaultBackendMixin):
            return self.default_id()
        return self._default

    def _create(self, backend_id: Any) -> Any:
        made = self.get(backend_id, **self._options.get(backend_id, {}))
        if kind := what_did_not_run(made):
            raise ImproperlyConfigured(
                f"{self.get_class(backend_id).__qualname__}.create() of the {self.backend_type!r} "
                f"backend {backend_id!r} returned a {kind}, and a pool calls it from a plain "
                "thread: make it a plain method that returns the backend"
            )
        return made

    def _close(self, backends: dict[Any, Any]) -> None:
        """Close *backends*, the last one first."""
        for backend in backends.values():
            if isinstance(backend, SingletonCreateMixin):
                SingletonCreateMixin.forget_instance(backend)
        self._call_each(reversed(backends.items()), "shutdown", "close")

    def _call_each(self, backends: Iterable[tuple[Any, Any]], *names: str) -> None:
        """Call the first method of *names* that each backend has."""
        pool = type(self).__qualname__
        errors, told = [], []
        for backend_id, backend in backends:
            try:
                call_first(backend, names)
            except Exception as error:
                error.add_note(f"backend {backend_id!r} of {pool}")
                errors.append(error)
                told.append(f"{backend_id!r}: {describe(error)}")
        if errors:
            raise ExceptionGroup(f"{names[0]} of {pool}: backend {'; '.join(told)}", errors)


def call_first(thing: Any, names: Iterable[str]) -> None:
    """Call the first method of these names that *thing* has, if any."""
    methods = (getattr(thing, name, None) for name in names)
    method = next((each for each in methods if each is not None), None)
    if inspect.iscoroutinefunction(method):
        raise TypeError(f"{method.__qualname__} is async; a pool calls it from a plain thread")
    if method is not None and (kind := what_did_not_run(method())):
        name = getattr(method, "__qualname__", repr(method))
        raise TypeError(f"{name}() returned a {kind}; a pool calls it from a plain thread")


def what_did_not_run(value: object) -> str:
    """Return what *value* is if it is code that did not run; a coroutine is closed then."""
    if isinstance(value, Coroutine):
        value.close()
    return next((kind for kind, cls in DOES_NOT_RUN.items() if isinstance(value, cls)), "")
