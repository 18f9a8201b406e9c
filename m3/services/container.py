"""What runs one service: a pipeline from its entrypoints through its methods to the answers."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Self

from m3._messages import describe
from m3.engine.engine import Engine
from m3.engine.health import Examiner, Health
from m3.engine.plan import DEFAULT_STOP_TIMEOUT, Plan, StageSpec
from m3.engine.report import Report
from m3.errors import AbandonedError, ComponentError, ConfigError, M3Error, StageError
from m3.messaging import Bus, connect
from m3.policies import Retry
from m3.services.clock import Clock
from m3.services.context import ServiceContext, WorkerContext, count_in, seconds_in
from m3.services.dependencies import AttributeDependency, dependencies_of
from m3.services.direct import DirectCall, DirectCalls, DirectEntrypoint, Handler
from m3.services.entrypoints import MOST_ATTEMPTS, DecoratorDependency, entrypoints_of
from m3.services.errors import ExtensionNotFound, ServiceStateError
from m3.services.invoke import AtHand, Settle, stage_for
from m3.services.nameko import bus_url, refuse_unheard
from m3.services.queues import PutOff
from m3.stages import Frontend

__all__ = ("KILL_GRACE", "ServiceContainer", "bus_of", "get_service_name", "stop_timeout")

logger = logging.getLogger("m3.services")

MAX_WORKERS = 10
KILL_GRACE = 1.0
"""Seconds that a kill waits for calls that are about to end."""

Observer = Callable[[WorkerContext], object]


def get_service_name(service_cls: type) -> str:
    """Return the ``name`` of a service; of a class without one, its own in lower case."""
    name = getattr(service_cls, "name", None) or service_cls.__name__.lower()
    if not isinstance(name, str):
        raise ConfigError(f"{service_cls.__qualname__}.name is {name!r}; it is a string")
    return name


def bus_of(config: Mapping[str, Any]) -> Bus:
    """
    Return the bus that ``AMQP_URI`` names, in memory if there is none, not connected yet.

    Raises:
        ConfigError: there is no such bus, or the configuration is one of nameko's.
    """
    refuse_unheard(config)
    options = config.get("bus_options", {})
    if not isinstance(options, Mapping):
        raise ConfigError(f"bus_options is {options!r}; it is a table of arguments of the bus")
    return connect(bus_url(config), **options)


def stop_timeout(config: Mapping[str, Any]) -> float:
    """
    Return the seconds that a stop may take.

    Raises:
        ConfigError: the configuration says something else.
    """
    return seconds_in(config, "stop_timeout", DEFAULT_STOP_TIMEOUT, may_be_zero=True)


def _hung_after(config: Mapping[str, Any]) -> float | None:
    """Return the seconds after which a service hangs whose workers are all in their calls."""
    if config.get("hung_after") is None:
        return None
    return seconds_in(config, "hung_after", math.inf)


def _check(config: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for what is wrong in what is used only later."""
    stop_timeout(config)
    seconds_in(config, "rpc_timeout", math.inf)
    count_in(config, "parent_calls_tracked", 0, least=0)


class ServiceContainer:
    """
    Runs one service, once.

    Args:
        service_cls: its class; what it declares is what it gets.
        config: ``AMQP_URI``, ``max_workers``, ``rpc_timeout``, ``stop_timeout``, ``hung_after``
            and what the service itself looks for.
        resources: what it, or its dependencies, ask for by annotation; see :class:`m3.Pipeline`.
        clock: what its timers go by.

    Raises:
        ConfigError: ``AMQP_URI`` names no bus, a number or a time of the configuration is none,
            or the configuration is one of nameko's.
    """

    def __init__(
        self,
        service_cls: type,
        config: Mapping[str, Any] | None = None,
        *,
        resources: Mapping[type | str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.service_cls = service_cls
        self.config: Mapping[str, Any] = MappingProxyType(dict(config or {}))
        self.service_name = get_service_name(service_cls)
        _check(self.config)
        self.max_workers = count_in(self.config, "max_workers", MAX_WORKERS)
        self._hung_after = _hung_after(self.config)
        self.srv_ctx = ServiceContext(
            self.service_name,
            service_cls,
            self.config,
            self.max_workers,
            clock or Clock(),
            self,
        )
        self.entrypoints = [
            entrypoint.bind(self.srv_ctx, name) for name, entrypoint in entrypoints_of(service_cls)
        ]
        self.dependencies = {
            name: declared.bind(self.srv_ctx, name)
            for name, declared in dependencies_of(service_cls)
        }
        self._resources: dict[type | str, Any] = {Bus: bus_of(self.config), **(resources or {})}
        self._direct = DirectCalls()
        self._engine: Engine | None = None
        self._examiner: Examiner | None = None
        self._workers: list[AtHand] = []
        self._observers: list[Observer] = []
        self._lock = threading.Lock()

    @property
    def extensions(self) -> list[DecoratorDependency | AttributeDependency]:
        """All that the service declares: its entrypoints, then its dependencies."""
        return [*self.entrypoints, *self.dependencies.values()]

    # -- its life

    def start(self) -> None:
        """
        Set up what the service needs, then let its entrypoints call it; returns when they do.

        If it is stopped before that, this returns when it has ended.

        Raises:
            ServiceStateError: it was started before.
            ComponentError: a dependency could not start.
            SetupError: an entrypoint could not.
        """
        engine = self._claim()
        try:
            engine.start(block=False)
        except M3Error as error:
            self._name(error)
            raise
        finally:
            if engine.stopped():
                self._direct.give_up()
        if engine.stopped():
            logger.info("service %r has ended before it was started", self.service_name)
            return
        logger.info("service %r is started", self.service_name)
        if not self.entrypoints:
            logger.warning("service %r has no entrypoint: nothing calls it", self.service_name)

    def wait(self, timeout: float | None = None) -> Report:
        """
        Block until it has ended, and return the report of its pipeline.

        Raises:
            TimeoutError: it still runs after *timeout* seconds.
            StageError: it has failed; :exc:`~m3.errors.PipelineError` if in several ways.
            ServiceStateError: it was not started.
        """
        return self._running().wait(timeout)

    def request_stop(self, timeout: float | None = None) -> None:
        """Begin to stop, as :meth:`stop` does, and return at once; nothing if it does not run."""
        if self.is_started():
            self._running().request_stop(timeout)

    def stop(self, timeout: float | None = None) -> Report | None:
        """
        Close the entrypoints, let the calls at hand end, and stop the dependencies.

        Called in one of its own workers or managed threads, it does not wait for that.

        Args:
            timeout: seconds that it may take; None for ``stop_timeout`` of the
                configuration. Calls that have not ended by then are left behind.

        Returns:
            The report of its pipeline; None if it was not started.
        """
        if not self.is_started():
            return None
        if self.is_called_from_within():
            self.request_stop(timeout)
            return self.report()
        report = self._running().stop(timeout)
        logger.info("service %r is stopped", self.service_name)
        return report

    def kill(self) -> None:
        """Stop without waiting for calls: their messages go back where they came from."""
        self.abandon()
        if self.is_started():
            self._running().stop(KILL_GRACE)

    def abandon(self) -> None:
        """Begin to :meth:`kill` it, and return at once; nothing if it does not run."""
        if self.is_started():
            self._direct.threads.leave()
            self._running().abandon()

    def is_started(self) -> bool:
        """Return whether it runs, or did."""
        return self._engine is not None and self._engine.started()

    def is_called_from_within(self) -> bool:
        """Return whether this thread is one of its workers or of its managed threads."""
        here = threading.current_thread()
        workers = [] if self._engine is None else self._engine.workers
        return any(each.thread is here for each in workers) or self._direct.threads.is_one(here)

    def report(self) -> Report:
        """Return what its pipeline has done so far."""
        return self._running().report()

    def health(self, *, checked: bool = True) -> Health:
        """
        Return how it is.

        It counts as hung if all its workers have been in their calls for longer than
        ``hung_after`` of the configuration.

        Args:
            checked: whether to ask the bus and the dependencies, each by its ``health``, at most
                once in a second. That takes up to two seconds; without it, nothing blocks.
        """
        if self._examiner is None:
            return Health(self.service_name, "starting")
        health = self._examiner.examine(checked=checked)
        return replace(health, hung=self._hung()) if health.state == "ready" else health

    def begin_checks(self) -> None:
        """Have the bus and the dependencies asked; :meth:`health` waits the less for them."""
        if self._examiner is not None:
            self._examiner.begin()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- calls

    def spawn_worker(
        self,
        entrypoint: DecoratorDependency | str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        context_data: Mapping[str, Any] | None = None,
        when_done: Callable[[DirectCall], object] | None = None,
        handle_result: Handler | None = None,
    ) -> DirectCall:
        """
        Have a worker call a method; return the call, whose ``result()`` can be waited for.

        Args:
            entrypoint: of the method, or the method's name.
            args: what it is called with.
            kwargs: likewise, by name.
            context_data: what travels with the call.
            when_done: called with the call when it has ended.
            handle_result: called before that with the :class:`WorkerContext`, the result and
                what :func:`sys.exc_info` returns; it returns the last two, changed or not.

        Raises:
            ExtensionNotFound: the method has no entrypoint.
            ServiceStateError: it does not run.
        """
        self._running()
        found = self.entrypoint(entrypoint) if isinstance(entrypoint, str) else entrypoint
        stand_in = DirectEntrypoint(
            expected_exceptions=found.expected_exceptions,
            sensitive_arguments=found.sensitive_arguments,
        ).bind(self.srv_ctx, found.method_name)
        stand_in.handler = handle_result
        call = WorkerContext(self.srv_ctx, stand_in, args, kwargs, dict(context_data or {}))
        direct = DirectCall(call, stand_in, when_done)
        self._direct.submit(call, direct)
        return direct

    def spawn_managed_thread(
        self, function: Callable[[], object], identifier: str | None = None
    ) -> threading.Thread:
        """
        Call *function* in a thread; what it raises ends the service.

        When the service stops, the thread has five seconds to end; :meth:`spawn_worker`
        raises then, which ends it.

        Args:
            function: takes no arguments.
            identifier: what the thread is known by in messages.
        """
        name = identifier or getattr(function, "__qualname__", repr(function))
        return self._direct.threads.spawn(function, f"m3-{self.service_name}-{name}")

    def entrypoint(self, method_name: str) -> DecoratorDependency:
        """
        Return the first entrypoint of a method.

        Raises:
            ExtensionNotFound: it has none.
        """
        for entrypoint in self.entrypoints:
            if entrypoint.method_name == method_name:
                return entrypoint
        names = sorted({entrypoint.method_name for entrypoint in self.entrypoints})
        raise ExtensionNotFound(
            f"service {self.service_name!r} has no entrypoint {method_name!r}; "
            f"it has {', '.join(names)}"
        )

    def replace_dependency(self, name: str, dependency: AttributeDependency) -> None:
        """
        Use another dependency in place of a declared one; before :meth:`start`.

        Raises:
            ExtensionNotFound: the service declares none of that name.
            ServiceStateError: it was started.
        """
        self._require_new()
        if name not in self.dependencies:
            names = ", ".join(self.dependencies) or "none"
            raise ExtensionNotFound(
                f"service {self.service_name!r} has no dependency {name!r}; it has {names}"
            )
        self.dependencies[name] = dependency.bind(self.srv_ctx, name)

    def restrict(self, method_names: Iterable[str]) -> None:
        """
        Leave out all entrypoints but those of some methods; before :meth:`start`.

        Raises:
            ExtensionNotFound: a method has none.
            ServiceStateError: it was started.
        """
        self._require_new()
        kept = {self.entrypoint(name).method_name for name in method_names}
        self.entrypoints = [each for each in self.entrypoints if each.method_name in kept]

    def observe(self, observer: Observer) -> None:
        """
        Have *observer* called with each call that has ended, in the thread of the call.

        What it raises is logged, and changes nothing for the call.
        """
        self._observers.append(observer)

    def forget(self, observer: Observer) -> None:
        """Call *observer* no more."""
        self._observers.remove(observer)

    def call_ended(self, call: WorkerContext) -> None:
        """Tell the observers."""
        for observer in list(self._observers):
            try:
                observer(call)
            except Exception:
                logger.exception("an observer of %r has failed", call)

    def worker_began(self, at_hand: AtHand) -> None:
        """Take note of a worker, and of where it says what it does."""
        self._workers.append(at_hand)

    def worker_ended(self, at_hand: AtHand) -> None:
        """Take note that a worker makes no more calls."""
        self._workers.remove(at_hand)

    def _hung(self) -> str | None:
        """Return why it counts as hung."""
        limit = self._hung_after
        at_hand = [worker.call for worker in list(self._workers)]
        calls = [call for call in at_hand if call is not None]
        if limit is None or not calls or len(calls) < len(at_hand):
            return None
        now = time.monotonic()
        if now - max(since for _, since in calls) <= limit:
            return None
        longest, since = min(calls, key=lambda call: call[1])
        return (
            f"all {len(calls)} workers have been in their calls for more than {limit:g} s, "
            f"{longest.method_name} for {now - since:.1f} s"
        )

    # -- the pipeline

    def plan(self) -> Plan:
        """Return the pipeline that the service is."""
        frontends = tuple(
            StageSpec("frontend", frontend, name, on_error=self._judge)
            for name, frontend in self._frontends()
        )
        stage = stage_for(self.srv_ctx, self.dependencies)
        invoke = StageSpec(
            "transport",
            stage.target,
            "invoke",
            workers=self.max_workers,
            on_error=Retry(MOST_ATTEMPTS, then=self._judge, on=()),  # only where it is asked for
            options=stage.options,
        )
        settle = StageSpec("backend", Settle(), "settle", workers=0, on_error=self._judge)
        return Plan(
            frontends=frontends,
            transports=(invoke,),
            backends=(settle,),
            name=self.service_name,
            stop_timeout=stop_timeout(self.config),
            resources={**stage.resources, **self._resources},
        )

    def _frontends(self) -> Iterator[tuple[str, Frontend[Any]]]:
        yield "direct", self._direct
        groups: dict[Any, list[DecoratorDependency]] = {}
        for entrypoint in self.entrypoints:
            groups.setdefault(type(entrypoint).frontends.__func__, []).append(entrypoint)  # type: ignore[attr-defined]
        names: Counter[str] = Counter()
        for entrypoints in groups.values():
            for name, frontend in type(entrypoints[0]).frontends(entrypoints):
                names[name] += 1
                yield name if names[name] == 1 else f"{name}-{names[name]}", frontend

    def _judge(self, failure: StageError) -> str:
        """Log a call that has failed, or a message that makes none; its entrypoint is told."""
        call, error = failure.item, failure.error
        if not isinstance(call, WorkerContext):
            logger.warning("service %r refuses a message: %s", self.service_name, describe(error))
            return "skip"
        if isinstance(error, PutOff):
            logger.info("%r is put off: %s", call, error)
        elif isinstance(error, (AbandonedError, *call.entrypoint.expected_exceptions)):
            logger.warning("%r failed: %s", call, describe(error))
        else:
            logger.error("%r failed", call, exc_info=error)
        self.call_ended(call)
        return "skip"

    def _name(self, error: M3Error) -> None:
        """Have the message of an error say which service it is of, and which of its attributes."""
        for each in getattr(error, "exceptions", (error,)):
            if isinstance(each, (ComponentError, StageError)) and isinstance(each.args[0], str):
                owner = getattr(each, "component", None)
                where = ""
                if isinstance(owner, AttributeDependency):
                    where = f", dependency {owner.attr_name!r}"
                each.args = (f"service {self.service_name!r}{where}: {each.args[0]}",)

    def _claim(self) -> Engine:
        """Return the engine, which is made for the first who asks."""
        with self._lock:
            self._require_new()
            self._engine = Engine(self.plan())
            self._examiner = Examiner(self._engine, called=_called)
            return self._engine

    def _require_new(self) -> None:
        if self._engine is not None:
            raise ServiceStateError(f"service {self.service_name!r} was started before")

    def _running(self) -> Engine:
        if self._engine is None:
            raise ServiceStateError(f"service {self.service_name!r} was not started")
        return self._engine


def _called(name: str, component: Any) -> str:
    """Return what a component is called in the health of a service."""
    if isinstance(component, AttributeDependency):
        return component.attr_name
    return "bus" if isinstance(component, Bus) else name
