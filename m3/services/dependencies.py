"""What the methods of a service find on ``self``, declared on its class."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from m3.components.component import Component
from m3.errors import ConfigError
from m3.services.context import ServiceContext, WorkerContext

if TYPE_CHECKING:
    from m3.services.container import ServiceContainer

__all__ = (
    "AttributeDependency",
    "AuthToken",
    "Config",
    "ContextDataProvider",
    "Language",
    "UserAgent",
    "UserId",
    "dependencies_of",
)


class AttributeDependency(Component):
    r"""
    What an attribute of a service is given for each call.

    Declare an instance on the class of a service.  Each container has a copy of
    it, which is a component: what it names by annotation is there when
    :meth:`start` is called, and it stops after the last call has ended::

        class LogFile(AttributeDependency):
            def __init__(self, path):
                self.path = path

            def start(self, srv_ctx):
                self.file_handle = open(self.path, "w")

            def acquire_injection(self, worker_ctx):
                return lambda text: self.file_handle.write(text + "\n")

    All calls of a service share it, so what several may do at once needs a lock.

    Attributes:
        srv_ctx: the service it belongs to.
        attr_name: the name of the attribute.
    """

    srv_ctx: ServiceContext | None = None
    attr_name: str = ""

    if TYPE_CHECKING:  # what a method finds on self is not the dependency, but what it gives

        def __get__(self, instance: object, owner: Any = None) -> Any: ...

    def bind(self, srv_ctx: ServiceContext, attr_name: str) -> Self:
        """Return a copy for a container."""
        bound = copy.copy(self)
        bound.srv_ctx, bound.attr_name, bound.config = srv_ctx, attr_name, srv_ctx.config
        return bound

    @property
    def container(self) -> "ServiceContainer":
        """What runs its service; there is one from :meth:`bind` on."""
        assert self.srv_ctx is not None
        return self.srv_ctx.container

    def start(self, srv_ctx: ServiceContext) -> Any:
        """Called when the container starts, before any call is made."""

    def stop(self, srv_ctx: ServiceContext) -> Any:
        """Called when the container stops, after the last call has ended."""

    def acquire_injection(self, worker_ctx: WorkerContext) -> Any:
        """
        Return what the attribute is for one call; called before the call, in its thread.

        What it raises is what the call has failed with.
        """
        raise NotImplementedError

    def release_injection(self, worker_ctx: WorkerContext) -> Any:
        """
        Called after the call, in its thread, exactly if :meth:`acquire_injection` has returned.

        *worker_ctx* has the ``result`` of the call, or the ``exception``.  It comes before
        the answer: if it raises, that is what the call has failed with.
        """

    def setup(self) -> Any:
        """Start; see :meth:`start`."""
        assert self.srv_ctx is not None
        return self.start(self.srv_ctx)

    def shutdown(self) -> Any:
        """Stop; see :meth:`stop`."""
        assert self.srv_ctx is not None
        return self.stop(self.srv_ctx)


class Config(AttributeDependency):
    """The configuration that the container was given."""

    def acquire_injection(self, worker_ctx: WorkerContext) -> Mapping[str, Any]:
        """Return it."""
        return worker_ctx.config


class ContextDataProvider(AttributeDependency):
    """
    One value of what travels with a call, and with the calls that it makes; None if it has none.

    Args:
        context_key: the key of it; None for that of the class.

    Attributes:
        context_key: likewise.

    Raises:
        ConfigError: there is no key.
    """

    context_key: str = ""

    def __init__(self, context_key: str | None = None) -> None:
        self.context_key = context_key or self.context_key
        if not self.context_key:
            raise ConfigError(f"{type(self).__qualname__}() needs the key of what it provides")

    def acquire_injection(self, worker_ctx: WorkerContext) -> Any:
        """Return the value."""
        return worker_ctx.context_data.get(self.context_key)


class Language(ContextDataProvider):
    """The language of the user for whom a call is made."""

    context_key = "language"


class UserId(ContextDataProvider):
    """The id of the user for whom a call is made."""

    context_key = "user_id"


class UserAgent(ContextDataProvider):
    """The program with which that user works."""

    context_key = "user_agent"


class AuthToken(ContextDataProvider):
    """What proves who that user is."""

    context_key = "auth_token"


def dependencies_of(service_cls: type) -> Iterator[tuple[str, AttributeDependency]]:
    """Iterate over what a class declares and inherits: the name and the dependency."""
    for name in dir(service_cls):
        value = inspect.getattr_static(service_cls, name)
        if isinstance(value, AttributeDependency):
            yield name, value
