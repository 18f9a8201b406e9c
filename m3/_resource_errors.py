"""What is raised about components, backend pools and AWS pools."""

from collections.abc import Iterable, Sequence
from typing import Any

from m3._messages import closest, describe, did_you_mean
from m3._root_errors import ConfigError, M3Error, UnknownNameError
from m3._shown import one_line

__all__ = (
    "CircularDependencyError",
    "ComponentError",
    "ComponentStateError",
    "ComponentTimeoutError",
    "ConductorError",
    "ImproperlyConfigured",
    "InvalidBackendError",
    "MissingSettingError",
    "NotConnectedError",
    "ResourceError",
)


class ImproperlyConfigured(ConfigError):
    """The backends of a pool are configured in a way that cannot work, or not at all."""


class MissingSettingError(ImproperlyConfigured, AttributeError):
    """A pool takes its default backend from a setting, which is not there."""


class InvalidBackendError(UnknownNameError):
    """
    A pool has no backend of that id.

    Attributes:
        backend_type: the type of the pool's backends.
        backend_id: the id that was asked for.
        available_backends: the ids that there are.
        error_message: the whole message: what is near, what there is, and what
            could not be loaded.
    """

    def __init__(
        self,
        backend_type: object,
        backend_id: object,
        available_backends: Iterable[object],
        *,
        broken: Iterable[tuple[object, Exception]] = (),
    ) -> None:
        self.backend_type = backend_type
        self.backend_id = backend_id
        self.available_backends = tuple(available_backends)
        known = [str(available) for available in self.available_backends]
        near = closest(str(backend_id), known)
        message = f"Invalid {backend_type} backend: {backend_id}{did_you_mean(near)}"
        message += f"; there are: {', '.join(known) or 'none'}"
        message += "".join(f"; {path} is left out: {describe(error)}" for path, error in broken)
        self.error_message = message
        super().__init__(message, name=str(backend_id), near=tuple(near))


class ResourceError(ConfigError):
    """An annotation asks for a resource and none fits, or several do; nothing was started."""


class ComponentError(M3Error):
    """
    A component's own code raised; the original exception is ``__cause__``.

    Attributes:
        component: the component; its class if it could not be made.
        phase: ``"__init__"``, ``"setup"``, ``"use"``, ``"health"`` or ``"shutdown"``.
        error: the original exception.
    """

    component: Any
    phase: str
    error: BaseException

    def __init__(self, error: BaseException, *, component: Any, phase: str) -> None:
        self.component = component
        self.phase = phase
        self.error = error
        where = "in use" if phase == "use" else f"in {phase}()"
        super().__init__(f"component {_class_name(component)}, {where}: {describe(error)}")
        self.__cause__ = error


class CircularDependencyError(ComponentError, ConfigError):
    """
    Components need each other in a circle; nothing was started.

    The arguments, ``args``, are the whole chain of components, from the one that
    was added to the one that comes for the second time.
    """

    def __init__(self, *chain: Any) -> None:
        self.component = chain[-1]
        self.phase = "setup"
        self.error = self
        Exception.__init__(self, *chain)

    def __str__(self) -> str:
        return (
            f"{' -> '.join(map(_class_name, self.args))}: components need each other in a circle; "
            "remove one of these annotations, or look it up when it is used"
        )


class ComponentTimeoutError(ComponentError, TimeoutError):
    """
    A component took longer than its time limit; it was given up.

    A thread cannot be stopped: a plain method is left to itself.  If it is a
    ``setup`` and returns after all, the component is shut down then.

    Attributes:
        seconds: the time limit.
        stack: where the call was, as lines of a traceback.
    """

    def __init__(self, *, component: Any, phase: str, seconds: float, stack: str) -> None:
        self.seconds = seconds
        self.stack = stack
        late = TimeoutError(
            f"took longer than its limit of {seconds:g} s and was given up; it is in\n{stack}"
        )
        super().__init__(late, component=component, phase=phase)


class ComponentStateError(M3Error, RuntimeError):
    """A conductor, or a component, was asked for what its state does not allow."""


class ConductorError(M3Error, ExceptionGroup[Exception]):
    """Several components failed; each is one of ``exceptions``."""

    def derive(self, excs: Sequence[Exception], /) -> "ConductorError":  # type: ignore[override]
        """Return a group of some of them, as ``except*`` and ``split`` make it."""
        return ConductorError(self.message, excs)


class NotConnectedError(M3Error, LookupError):
    """A pool of AWS has no connection to a region: it was not asked for, or not connected yet."""


def _class_name(component: object) -> str:
    cls = component if isinstance(component, type) else type(component)
    return one_line(cls.__qualname__.rpartition("<locals>.")[2])
