"""What calls the methods of a service: decorators, each of which is a frontend of its pipeline."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from m3.errors import ConfigError, RetryLater
from m3.services.context import ServiceContext, WorkerContext
from m3.services.redaction import check_sensitive
from m3.stages import Frontend

if TYPE_CHECKING:
    from m3.services.container import ServiceContainer

__all__ = ("MOST_ATTEMPTS", "DecoratorDependency", "entrypoints_of", "signature_of")

M = TypeVar("M", bound=Callable[..., Any])

MOST_ATTEMPTS = 10
"""How often a call is made, at most, that asks for another attempt in the same process."""

_ATTRIBUTE = "__entrypoints__"

WITHOUT_SELF = (staticmethod, classmethod)
METHODS = (FunctionType, *WITHOUT_SELF)


class DecoratorDependency(Frontend[Any]):
    """
    A decorator for methods of services, and the frontend that makes calls of them.

    A subclass of one's own yields calls, each with a position if it wants to
    know by ``ack`` and ``nack`` what became of it::

        class Lines(DecoratorDependency):
            def __init__(self, path, **options):
                super().__init__(**options)
                self.path = path

            def produce(self):
                for line in open(self.path):
                    yield self.call(line)

        lines = Lines.decorator

    Each container has a copy of it, which gets what it names by annotation.

    Args:
        expected_exceptions: what the method may raise without being at fault: it is
            logged without a traceback.
        sensitive_arguments: the names of arguments that are not logged, or paths into
            them: ``user.password``, ``cards[0].number``.

    Attributes:
        srv_ctx: the service it belongs to.
        method_name: the name of the method.
    """

    srv_ctx: ServiceContext
    method_name: str = ""
    expected_exceptions: tuple[type[BaseException], ...] = ()
    sensitive_arguments: Sequence[str] = ()

    def __init__(
        self,
        *,
        expected_exceptions: type[BaseException] | Sequence[type[BaseException]] = (),
        sensitive_arguments: str | Sequence[str] = (),
    ) -> None:
        if isinstance(expected_exceptions, type):
            expected_exceptions = (expected_exceptions,)
        if isinstance(sensitive_arguments, str):
            sensitive_arguments = (sensitive_arguments,)
        self.expected_exceptions = tuple(expected_exceptions)
        self.sensitive_arguments = tuple(sensitive_arguments)

    @overload
    @classmethod
    def decorator(cls, method: M, /) -> M: ...
    @overload
    @classmethod
    def decorator(cls, *args: Any, **kwargs: Any) -> Callable[[M], M]: ...
    @classmethod
    def decorator(cls, *args: Any, **kwargs: Any) -> Any:
        """
        Return the decorator for a method; with nothing but the method, decorate that.

        Raises:
            ConfigError: it is a static method, or one of the class.
        """
        if len(args) == 1 and not kwargs and isinstance(args[0], METHODS):
            _refuse_without_self(args[0])
            return cls()(args[0])  # type: ignore[type-var]
        return cls(*args, **kwargs)

    def __call__(self, method: M) -> M:
        """
        Declare *method* as what is called.

        Raises:
            ConfigError: it is a static method, or one of the class, or it has no such argument
                as is said to be sensitive.
        """
        _refuse_without_self(method)
        check_sensitive(self.sensitive_arguments, method)
        declared = [*vars(method).get(_ATTRIBUTE, ()), self]
        setattr(method, _ATTRIBUTE, declared)
        return method

    def bind(self, srv_ctx: ServiceContext, method_name: str) -> Self:
        """Return a copy for a container."""
        bound = copy.copy(self)
        bound.srv_ctx, bound.method_name = srv_ctx, method_name
        return bound

    @property
    def container(self) -> "ServiceContainer":
        """What runs its service."""
        return self.srv_ctx.container

    @classmethod
    def frontends(cls, entrypoints: Sequence[Self]) -> Iterator[tuple[str, Frontend[Any]]]:
        """
        Iterate over the frontends that make the calls of *entrypoints*, each with its name.

        The entrypoints are all those in one container that share this method; by default
        each is its own frontend.
        """
        for entrypoint in entrypoints:
            yield f"{type(entrypoint).__name__.lower()}-{entrypoint.method_name}", entrypoint

    def trigger(self) -> Mapping[str, Any]:
        """Return what calls the method, as plain values by name; `m3 services list` shows it."""
        return {}

    def call(self, *args: Any, **kwargs: Any) -> WorkerContext:
        """Return a call of the method, to be produced as an item."""
        return WorkerContext(self.srv_ctx, self, args, kwargs)

    def handle_result(self, worker_ctx: WorkerContext) -> object:
        """
        Do what is to be done with the result before the call counts as delivered.

        Called in the worker's thread, when the call has returned; what it raises is what
        the call has failed with.
        """

    def put_off(self, worker_ctx: WorkerContext, error: RetryLater) -> None:
        """
        Decide what becomes of a call whose method has raised :exc:`~m3.errors.RetryLater`.

        Called in the worker's thread.  If it returns, the call is made again in this
        process when the time has come, :data:`MOST_ATTEMPTS` times at most, and has failed
        with *error* then; if it raises, the call has failed with that.
        """

    def handle_stop(self, worker_ctx: WorkerContext) -> None:
        """
        Tell whoever waits for a call that its method has raised :exc:`~m3.errors.StopPipeline`.

        Called in the worker's thread; then the service stops, and the call counts as
        dropped, so that :meth:`ack` is called and :meth:`handle_result` is not.
        """


def entrypoints_of(service_cls: type) -> Iterator[tuple[str, DecoratorDependency]]:
    """
    Iterate over what a class and its bases declare: the method's name and the entrypoint.

    Raises:
        ConfigError: a static method, or one of the class, is declared.
    """
    for name in dir(service_cls):
        method = inspect.getattr_static(service_cls, name)
        if isinstance(method, WITHOUT_SELF) and _ATTRIBUTE in getattr(
            method.__func__, "__dict__", {}
        ):
            _refuse_without_self(method)
        for entrypoint in getattr(method, "__dict__", {}).get(_ATTRIBUTE, ()):
            yield name, entrypoint


def _refuse_without_self(method: object) -> None:
    """Raise ``ConfigError`` for what is not called on an instance."""
    if isinstance(method, WITHOUT_SELF):
        kind = type(method).__name__
        name = getattr(method.__func__, "__qualname__", "a method")
        raise ConfigError(
            f"{name} is a {kind}, and what calls the methods of a service calls them on an "
            f"instance; leave @{kind} out and let it take self"
        )


def signature_of(entrypoint: DecoratorDependency) -> inspect.Signature:
    """Return the signature of the method, as its callers see it."""
    method = getattr(entrypoint.srv_ctx.service_cls, entrypoint.method_name)
    signature = inspect.signature(method)
    return signature.replace(parameters=list(signature.parameters.values())[1:])
