"""What probes and a service manager are told of a run."""

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from m3.cli.console import Console
from m3.engine.health import Examine, why_not_live
from m3.errors import describe
from m3.observe.systemd import ServiceManager, Watchdog

if TYPE_CHECKING:
    from m3.observe.health import HealthServer

__all__ = ("Announcer",)


class Announcer:
    """
    Tells how a run is, from before its start to after its end: a ``with`` block.

    Args:
        examine: returns how it is.
        manager: the service manager.
        console: where it is said that there is something to ask.
        address: where probes may ask, as ``HOST:PORT``; None for nowhere.
        parts: what it is that runs.

    Raises:
        ConfigError: the address is none; :meth:`__enter__`: it cannot be listened on.
    """

    def __init__(
        self,
        examine: Examine,
        manager: ServiceManager,
        console: Console,
        *,
        address: str | None,
        parts: str,
    ) -> None:
        self._examine = examine
        self._manager = manager
        self._console = console
        self._server = None if address is None else _server(address, examine, parts)
        self._watchdog = Watchdog(manager, self._why_not_live)
        self._lock = threading.Lock()
        self._is_stopping = False
        self._around = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as around:
            if self._server is not None:
                around.enter_context(self._server)
                where = f"http://{self._server.address}"
                self._console.say(f"health at {where}/livez and {where}/readyz", health=where)
            around.enter_context(self._watchdog)
            self._around = around.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping("ending")
        self._around.close()

    def ready(self, status: str) -> None:
        """Tell that the start is over, unless the stop has begun."""
        with self._lock:
            if not self._is_stopping:
                self._manager.ready(status)

    def stopping(self, status: str) -> None:
        """Tell that the stop has begun; once."""
        with self._lock:
            if not self._is_stopping:
                self._is_stopping = True
                self._manager.stopping(status)

    def _why_not_live(self) -> list[str]:
        try:
            return why_not_live(self._examine(checked=False))
        except Exception as error:
            return [describe(error)]


def _server(address: str, examine: Examine, parts: str) -> "HealthServer":
    from m3.observe.health import HealthServer  # which needs asyncio

    return HealthServer(address, examine, parts=parts)
