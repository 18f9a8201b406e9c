"""What users subclass for anything that is started once, shared, and closed at the end."""

import logging
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Literal

from m3._scopes import remember_names_around
from m3.components.claims import place_of
from m3.policies import Backoff

__all__ = ("Component", "Restart")

Restart = Literal["never", "on_failure"]
"""Whether a component that fails while it is in use is started again."""

PATIENCE = 90.0
"""Seconds for a start or a stop, as systemd's DefaultTimeoutStartSec."""


class Component:
    """
    Something that is set up before whoever uses it, and shut down after.

    What it needs, it names by annotation; the attribute is there when
    :meth:`setup` is called::

        class Repository(Component):
            db: Database

            def setup(self):
                self.db.execute("create table if not exists ...")

    ``setup``, ``shutdown`` and ``health`` may be plain methods, which run in
    threads, or ``async def``, which run in an event loop.  An instance can be set
    up again after it was shut down.
    """

    setup_timeout: ClassVar[float | None] = PATIENCE
    """Seconds that :meth:`setup` may take; None for any time."""

    shutdown_timeout: ClassVar[float | None] = PATIENCE
    """Seconds that :meth:`shutdown` may take; None for any time."""

    restart: ClassVar[Restart] = "never"
    """What happens when it fails in use: end the run, or start it again."""

    backoff: ClassVar[Backoff] = Backoff(initial=0.5, maximum=30.0, max_elapsed=300.0)
    """How long it is left alone before each start after a failure, and when to give up."""

    health_interval: ClassVar[float | None] = None
    """Seconds between two calls of :meth:`health` while it is in use; None for no such calls."""

    config: Any = None
    """What the conductor's configuration policy has for it; there before :meth:`setup`."""

    logger: logging.Logger = logging.getLogger("m3.components")
    """What the conductor's logging policy has for it; there before :meth:`setup`."""

    threads: int = 1
    """How many threads may use it at once; the engine sets it before :meth:`setup`."""

    loop: Any = None
    """The event loop that its ``async def`` methods run in; there before :meth:`setup`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        remember_names_around(cls)

    @property
    def depends_on(self) -> AbstractSet["Component"]:
        """The components that it needs, while it is in use; each instance is one of its own."""
        place = place_of(self)
        return _components(() if place is None else place.needs)

    @property
    def required_by(self) -> AbstractSet["Component"]:
        """The components that are up and need it, while it is in use; as :attr:`depends_on`."""
        place = place_of(self)
        return _components(() if place is None else place.dependents)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}()>"

    def setup(self) -> Any:
        """Start; what it needs is set up.  What it raises ends the start of all others."""

    def shutdown(self) -> Any:
        """Stop; whoever uses it is shut down.  Called exactly if ``setup`` has returned."""

    def health(self) -> Any:
        """Raise if it does not work; called while it is in use, and by ``m3 doctor``."""

    def fail(self, error: BaseException) -> None:
        """
        Report that it does not work any longer; returns at once, and may be called in any thread.

        What follows is up to :attr:`restart`.  While it is not in use, the error is only logged.

        Raises:
            TypeError: *error* is not an exception.
        """
        if not isinstance(error, BaseException):
            raise TypeError(
                f"{self!r}.fail({error!r}): give it an exception, as fail(OSError('gone'))"
            )
        place = place_of(self)
        report = None if place is None else place.on_failure
        try:
            if report is not None:
                report(error)
                return
        except RuntimeError:  # its event loop has ended
            pass
        self.logger.error("%r failed while it was not in use: %s", self, error, exc_info=error)


class _Instances(AbstractSet[Component]):
    """Components, each instance once, whatever it is equal to and whether or not it has a hash."""

    __slots__ = ("_by_id",)

    def __init__(self, components: Iterable[Component]) -> None:
        self._by_id = {id(component): component for component in components}

    def __contains__(self, component: object) -> bool:
        return id(component) in self._by_id

    def __iter__(self) -> Iterator[Component]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return self._by_id.keys() == set(map(id, other))

    def __hash__(self) -> int:
        return hash(frozenset(self._by_id))

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}"


def _components(nodes: Iterable[Any]) -> AbstractSet[Component]:
    return _Instances(
        node.resource for node in nodes if node.is_up and isinstance(node.resource, Component)
    )
