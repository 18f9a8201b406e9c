"""One call of a service's method, and the service that it is a call of."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3._shown import one_line
from m3.errors import ConfigError, abridged
from m3.services.context_data import CALL_IDS
from m3.services.redaction import redacted

if TYPE_CHECKING:
    from m3.services.clock import Clock
    from m3.services.container import ServiceContainer
    from m3.services.entrypoints import DecoratorDependency

__all__ = ("ServiceContext", "WorkerContext", "count_in", "seconds_in")

PARENT_CALLS_TRACKED = 10
LONGEST_NAME = 100
"""How many characters are shown of the name of an argument, which a caller may have made up."""


def seconds_in(
    config: Mapping[str, Any], key: str, default: float, *, may_be_zero: bool = False
) -> float:
    """
    Return a time of a configuration.

    Args:
        config: the configuration.
        key: which time.
        default: what it is if the configuration does not say.
        may_be_zero: whether 0 is a time, too.

    Raises:
        ConfigError: it is no number of seconds.
    """
    given = config.get(key, default)
    try:
        seconds = -1.0 if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if seconds > 0 or (may_be_zero and seconds == 0):
        return seconds
    least = "of at least 0" if may_be_zero else "above 0"
    raise ConfigError(f"{key} is {given!r}; it is a number of seconds {least}")


def count_in(config: Mapping[str, Any], key: str, default: int, *, least: int = 1) -> int:
    """
    Return a number of a configuration.

    Raises:
        ConfigError: it is no whole number, or lower than *least*.
    """
    given = config.get(key, default)
    try:
        count = least - 1 if isinstance(given, (bool, float)) else int(given)
    except (TypeError, ValueError):
        count = least - 1
    if count < least:
        raise ConfigError(f"{key} is {given!r}; it is a whole number of at least {least}")
    return count


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """
    The service that a dependency or an entrypoint belongs to.

    Attributes:
        name: of the service.
        service_cls: its class.
        config: what its container was given.
        max_workers: how many of its calls run at once.
        clock: what its timers go by.
        container: what runs it.
    """

    name: str
    service_cls: type
    config: Mapping[str, Any]
    max_workers: int
    clock: "Clock"
    container: "ServiceContainer"


class WorkerContext:
    """
    One call of a method of a service; the item that goes through its pipeline.

    Attributes:
        srv_ctx: the service.
        entrypoint: what the call came from.
        args, kwargs: what the method is called with.
        context_data: what travels with the call, and with the calls that it makes.
        deadline: when its caller gives it up, on the monotonic clock; None for never.
        origin: what the entrypoint needs to answer it.
        result: what the method returned, once it has.
        exception: what it raised, if it has.
    """

    __slots__ = (
        "_call_id",
        "args",
        "context_data",
        "deadline",
        "entrypoint",
        "exception",
        "kwargs",
        "origin",
        "result",
        "srv_ctx",
    )

    def __init__(
        self,
        srv_ctx: ServiceContext,
        entrypoint: "DecoratorDependency",
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        context_data: dict[str, Any] | None = None,
        *,
        deadline: float | None = None,
        origin: Any = None,
    ) -> None:
        self.srv_ctx = srv_ctx
        self.entrypoint = entrypoint
        self.args = args
        self.kwargs = kwargs or {}
        self.context_data = {} if context_data is None else context_data
        self.deadline = deadline
        self.origin = origin
        self.result: Any = None
        self.exception: BaseException | None = None
        self._call_id: str | None = None

    @property
    def method_name(self) -> str:
        """The name of the method."""
        return self.entrypoint.method_name

    @property
    def service_name(self) -> str:
        """The name of the service."""
        return self.srv_ctx.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the service."""
        return self.srv_ctx.config

    @property
    def data(self) -> dict[str, Any]:
        """What nameko 2 calls the ``context_data``."""
        return self.context_data

    @property
    def call_id(self) -> str:
        """A name of its own: service, method and a random part."""
        if self._call_id is None:
            self._call_id = f"{self.service_name}.{self.method_name}.{uuid.uuid4()}"
        return self._call_id

    @property
    def call_id_stack(self) -> list[str]:
        """The ids of the calls that it came from, the first one first, and its own."""
        return [*self.context_data.get(CALL_IDS, ()), self.call_id]

    @property
    def origin_call_id(self) -> str:
        """The id of the first call of all that led to this one, as far as they are kept."""
        return self.call_id_stack[0]

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the call that made this one; None if none did."""
        parents = self.context_data.get(CALL_IDS)
        return parents[-1] if parents else None

    @property
    def context_to_send(self) -> dict[str, Any]:
        """What travels with the calls, and the events, that it makes."""
        most = count_in(self.config, "parent_calls_tracked", PARENT_CALLS_TRACKED, least=0)
        return {**self.context_data, CALL_IDS: self.call_id_stack[-max(most, 1) :]}

    def __repr__(self) -> str:
        args, kwargs = redacted(self)
        named = (f"{one_line(key[:LONGEST_NAME])}={abridged(v)}" for key, v in kwargs.items())
        shown = [*map(abridged, args), *named]
        return f"<call of {self.service_name}.{self.method_name}({', '.join(shown)})>"
