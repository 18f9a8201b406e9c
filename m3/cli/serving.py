"""What ``m3 serve`` does."""

import threading
from collections.abc import Iterable, Mapping
from logging.config import dictConfig
from typing import Any, NamedTuple

from m3.cli.announcing import Announcer
from m3.cli.console import Console
from m3.cli.endings import ExitCode, end_at_once
from m3.cli.messages import leaves, told
from m3.cli.options import search_in
from m3.cli.service_names import services_named
from m3.cli.supervisor import Supervisor
from m3.errors import ConfigError, HungWorkerError, describe
from m3.observe import logs
from m3.observe.systemd import ServiceManager
from m3.services.container import stop_timeout
from m3.services.runner import ServiceRunner

__all__ = ("serve_all",)


def serve_all(
    names: Iterable[str],
    settings: Mapping[str, Any],
    *,
    app_dir: str | None,
    log_format: Any,
    verbosity: int,
) -> int:
    """
    Run services until a signal ends them, or one fails; return the exit code.

    Args:
        names: of the services; none for ``services`` of the settings.
        settings: for their containers.
        app_dir: a folder to import them from.
        log_format: ``"text"`` or ``"json"``.
        verbosity: -1 quiet, 0 normal, more shows more.

    Raises:
        ConfigError: there is no such service, it is none, or ``LOGGING`` cannot be used.
    """
    manager = ServiceManager()
    logs.configure(log_format=log_format, verbosity=verbosity)
    console = Console(quiet=verbosity < 0, log_format=log_format)
    search_in(app_dir)
    if "LOGGING" in settings:
        _configure_logging(settings["LOGGING"])
    runner = ServiceRunner(
        settings, stopping=lambda: announcer.stopping("finishing the calls at hand")
    )
    for service_cls in services_named(names, settings):
        runner.add_service(service_cls)
    timeout = stop_timeout(settings)
    address = str(settings["health"]) if "health" in settings else None
    announcer = Announcer(runner.health, manager, console, address=address, parts="services")
    with announcer:
        serving = _Serving(runner, console, announcer)
        outcome = Supervisor(serving, console, stop_timeout=timeout).run()
    errors = [*leaves(outcome.error)] if outcome.error else []
    for error in errors:
        console.error(told(error, verbosity=verbosity))
    if any(isinstance(error, HungWorkerError) for error in errors):
        end_at_once(ExitCode.FAILED)
    return ExitCode.FAILED if errors else ExitCode.DELIVERED


def _configure_logging(description: Any) -> None:
    """Have the loggers as ``logging.config`` describes them."""
    try:
        dictConfig(description)
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        why = error.__cause__ or error
        raise ConfigError(f"LOGGING cannot be used: {error}: {describe(why)}") from error


class _Standing(NamedTuple):
    """How many calls are at hand."""

    in_flight: int


class _Serving:
    """Services, as a supervisor runs them."""

    def __init__(self, runner: ServiceRunner, console: Console, announcer: Announcer) -> None:
        self._runner = runner
        self._console = console
        self._announcer = announcer
        self._is_stopping = False

    def start(self) -> None:
        self._runner.start()
        if not self._is_stopping:
            self._say_ready()
        self._runner.wait()

    def _say_ready(self) -> None:
        names = ", ".join(self._runner.service_names)
        bus = self._runner.config.get("AMQP_URI", "memory://")
        self._announcer.ready(f"serving {names}")
        self._console.say(f"serving {names} on {bus}", services=self._runner.service_names)

    def request_stop(self) -> None:
        self._is_stopping = True
        threading.Thread(target=self._runner.stop, name="m3-stop", daemon=True).start()

    def abandon(self) -> None:
        for container in self._runner.containers:
            container.abandon()

    def report(self) -> _Standing:
        running = [each for each in self._runner.containers if each.is_started()]
        return _Standing(sum(container.report().in_flight for container in running))
